"""The real daemon, private to a measurement, and what the kernel says about it."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "hookbusd"


class Daemon:
    """A private daemon with this TOML; a context manager."""

    def __init__(self, toml: str = "") -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="hb")
        folder = Path(self.folder.name)
        (folder / "c.toml").write_text(toml)
        ready = folder / "ready"
        self.address = f"unix://{folder}/d.sock"
        flags = [
            "--config",
            folder / "c.toml",
            "--state-dir",
            folder / "state",
            "--socket",
            folder / "d.sock",
            "--ready-file",
            ready,
        ]
        self.process = subprocess.Popen([BINARY, *map(str, flags), "--log-level", "error"])
        deadline = time.monotonic() + 30
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise SystemExit(f"bench: {BINARY} did not become ready")
            time.sleep(0.005)

    def resident_bytes(self) -> int:
        """Resident set size; from smaps_rollup, because statm lags by some pages a core."""
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        found = re.search(r"^Rss:\s+(\d+) kB", text, re.MULTILINE)
        if found is None:
            raise SystemExit("bench: no Rss in smaps_rollup")
        return int(found[1]) * 1024

    def cpu_seconds(self) -> float:
        """User and system time of all its threads, in steps of a clock tick."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """Ends it, if need be by force."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()

    def __enter__(self) -> Daemon:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
