"""The built programs, started as systemd and containers start them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

from conftest import NOBODY, PATIENCE_S, ROOT, binary, clean_environment

DEPLOY = ROOT / "deploy"
EXAMPLE = DEPLOY / "config/hookbusd.toml"


def run(*command: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs to its end."""
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=10 * PATIENCE_S,
        env=clean_environment(**env),
    )


class Serving:
    """hookbusd as systemd and containers start it: not as root, if root asks, and told where to say READY=1.

    The folder is its $XDG_RUNTIME_DIR. Root's default socket would be the machine's own."""

    def __init__(self, folder: Path, *flags: str | Path, **more: str) -> None:
        self.socket = folder / "hookbus/hookbusd.sock"
        self.address = f"unix://{self.socket}"
        self.log = folder / "log"
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(folder / "notify"))
        os.chmod(folder / "notify", 0o777)
        self.notify.settimeout(0.05)
        env = clean_environment(**{"NOTIFY_SOCKET": str(folder / "notify"), "XDG_RUNTIME_DIR": str(folder)} | more)
        program = shutil.copy(binary("hookbusd"), folder)  # the checkout may be closed to others
        groups = None if NOBODY is None else []
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [program, *flags], stdout=log, stderr=log, env=env, user=NOBODY, group=NOBODY, extra_groups=groups
            )

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.notify.close()

    def says(self) -> str:
        """The next word for systemd, also one that was its last."""
        for _ in range(20 * PATIENCE_S):
            ended = self.process.poll() is not None
            try:
                return self.notify.recv(64).decode()
            except TimeoutError:
                assert not ended, self.log.read_text()
        raise AssertionError(f"it said nothing for {PATIENCE_S} s: {self.log.read_text()}")
