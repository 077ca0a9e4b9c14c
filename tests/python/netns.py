"""Another machine, as far as the network goes: a network namespace with a cable to this one. Needs root."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

# TEST-NET-2: nobody should have these addresses
HERE, THERE = "198.51.100.1", "198.51.100.2"


def _ip(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *words], capture_output=True, text=True, timeout=30, check=False)


@contextlib.contextmanager
def another_machine() -> Iterator[list[str]]:
    """What goes before a command that is to run there; this machine is HERE. Skips the test where it cannot be made."""
    if os.geteuid() != 0:
        pytest.skip("a network namespace can only be made by root")
    if shutil.which("ip") is None:
        pytest.skip("iproute2 is not installed: there is no `ip` to make a network namespace with")
    name = f"hb{os.getpid()}"
    steps = [
        ("netns", "add", name),
        ("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name),
        ("addr", "add", f"{HERE}/30", "dev", f"{name}a"),
        ("link", "set", f"{name}a", "up"),
        ("-n", name, "addr", "add", f"{THERE}/30", "dev", f"{name}b"),
        ("-n", name, "link", "set", f"{name}b", "up"),
    ]
    try:
        for step in steps:
            done = _ip(*step)
            if done.returncode != 0:
                pytest.skip(f"no network namespace here: ip {' '.join(step)}: {done.stderr.strip()}")
        yield ["ip", "netns", "exec", name]
    finally:
        _ip("link", "del", f"{name}a")
        _ip("netns", "del", name)
