"""Memory cgroups of a test's own, version 1 or 2, where this machine lets us make one."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path("/sys/fs/cgroup")


def _places() -> Iterator[tuple[Path, str]]:
    """Where a group could be made, and the file of its limit."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            yield ROOT / "memory" / path.lstrip("/"), "memory.limit_in_bytes"
            yield ROOT / "memory", "memory.limit_in_bytes"
        elif not controllers:
            # a group with processes of its own cannot have groups with limits below it
            yield (ROOT / path.lstrip("/")).parent, "memory.max"
            yield ROOT, "memory.max"


@contextlib.contextmanager
def limited(limit_bytes: int) -> Iterator[Path]:
    """A group with a limit; it is gone afterwards. Skips the test where none can be made."""
    tried = []
    for place, limit in _places():
        group = place / f"hookbus-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError as why:
            tried.append(f"{group}: {why.strerror}")
            continue
        try:
            (group / limit).write_text(str(limit_bytes))
        except OSError as why:
            tried.append(f"{group / limit}: {why.strerror}")
            group.rmdir()
            continue
        swap = group / ("memory.swap.max" if limit == "memory.max" else "memory.memsw.limit_in_bytes")
        with contextlib.suppress(OSError):  # without swap accounting there is no such limit
            swap.write_text("0" if limit == "memory.max" else str(limit_bytes))
        try:
            yield group
        finally:
            _empty(group)
            group.rmdir()
        return
    pytest.skip("no memory cgroup with a limit can be made here: " + "; ".join(tried or ["no memory controller"]))


def _empty(group: Path) -> None:
    """A group can be removed once the last process in it has ended."""
    for pid in (group / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), 9)
    while pids := (group / "cgroup.procs").read_text().split():
        for pid in pids:
            with contextlib.suppress(OSError):
                subprocess.run(["tail", "--pid", pid, "-f", "/dev/null"], timeout=60, check=False)
