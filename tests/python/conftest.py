"""A private daemon per test, and scripts in processes of their own. Everything waits for a fact, never for a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# where daemons that a command starts write runs down: never where this user's own are
STATE = tempfile.TemporaryDirectory(prefix="hookbus-state-")
os.chmod(STATE.name, 0o1777)  # also of daemons that run as somebody else
Start = Callable[..., "subprocess.Popen[str]"]
PATIENCE_S = 60  # no fact of these tests takes longer on a loaded machine
NOBODY = 65534 if os.geteuid() == 0 else None  # a user without rights, where root can become one


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "torch: needs torch, and is run in the environment that has it")


def binary(name: str) -> Path:
    """A built program: HOOKBUSD and its folder first, then what the workspace has built last."""
    named = os.environ.get("HOOKBUSD")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    places = [Path(named).resolve().parent / name] if named else []
    built = [path for path in (target / "release" / name, target / "debug" / name) if path.exists()]
    places += sorted(built, key=lambda path: path.stat().st_mtime, reverse=True)
    for place in places:
        if place.exists():
            return place
    raise FileNotFoundError(f"{name} is not built: make build")


def clean_environment(**more: str) -> dict[str, str]:
    """This environment without what would tell a trainer of other daemons, launchers or schedulers."""
    named = ("HOOKBUS", "SLURM_", "TORCHELASTIC_", "XDG_RUNTIME_DIR")
    exact = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(named) and k not in exact}
    return kept | {"HOOKBUSD_JOURNAL__DIR": STATE.name} | more


class Daemon:
    """The real hookbusd on a socket in a folder of its own. It writes runs down there too, or in `state`."""

    def __init__(
        self,
        folder: Path,
        config: str,
        socket: Path | None = None,
        state: Path | None = None,
        program: str = "hookbusd",
        **env: str,
    ) -> None:
        self.folder = folder
        self.socket = socket or folder / "hookbusd.sock"
        self.address = f"unix://{self.socket}"
        self.log = folder / "log"
        ready = folder / "ready"
        command = [str(binary(program)), "--socket", str(self.socket), "--ready-file", str(ready)]
        if config:
            (folder / "hookbusd.toml").write_text(config)
            command += ["--config", str(folder / "hookbusd.toml")]
        self.state = state or folder / "state"
        environment = clean_environment(**{"HOOKBUSD_JOURNAL__DIR": str(self.state)} | env)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        for _ in range(PATIENCE_S * 100):
            if ready.exists():
                return
            try:
                code = self.process.wait(0.01)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"hookbusd ended with {code}: {self.log.read_text()}")
        self.kill()
        raise AssertionError(f"hookbusd was not ready in {PATIENCE_S} s: {self.log.read_text()}")

    @property
    def tcp(self) -> str:
        """Where it listens over TCP, if its configuration says so."""
        return next(line for line in (self.folder / "ready").read_text().splitlines() if line.startswith("http"))

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.process.kill()
        self.process.wait()

    def ask(self, *words: str) -> dict:
        """The operator's binary with --json."""
        command = [str(binary("hookbus")), "--address", self.address, *words, "--json"]
        reply = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=clean_environment())
        assert reply.returncode == 0, reply.stderr
        return json.loads(reply.stdout)


@pytest.fixture
def start_daemon() -> Iterator[Callable[..., Daemon]]:
    """Starts daemons, and ends them with the test."""
    daemons: list[Daemon] = []
    with tempfile.TemporaryDirectory(prefix="hb") as folder:  # short: a socket's path has 108 bytes at most

        def start(
            config: str = "",
            socket: Path | None = None,
            state: Path | None = None,
            program: str = "hookbusd",
            **env: str,
        ) -> Daemon:
            place = Path(folder) / str(len(daemons))
            place.mkdir()
            daemons.append(Daemon(place, config, socket, state, program, **env))
            return daemons[-1]

        yield start
        for daemon in daemons:
            daemon.kill()


@pytest.fixture
def daemon(start_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon with its defaults."""
    return start_daemon()


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python text as the script `train.py` in a process of its own."""

    def run(text: str, daemon: Daemon | None = None, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        script = tmp_path / "train.py"
        script.write_text(text)
        if daemon is not None:
            env["HOOKBUS_ADDRESS"] = daemon.address
        return subprocess.run(
            [sys.executable, str(script), *args],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env=clean_environment(XDG_RUNTIME_DIR=str(tmp_path), **env),
            cwd=tmp_path,
        )

    run.folder = tmp_path  # type: ignore[attr-defined]
    return run


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that NOBODY may write and everyone may enter. Short: a socket's path has 108 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="hb") as name:
        os.chmod(name, 0o755)
        if NOBODY is not None:
            os.chown(name, NOBODY, NOBODY)
        yield Path(name)


@pytest.fixture
def start_script(tmp_path: Path) -> Iterator[Start]:
    """Starts Python text as a script whose standard input and output are pipes, and ends it with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(text: str, address: str, *args: str, **env: str) -> subprocess.Popen[str]:
        script = tmp_path / f"train{len(started)}.py"
        script.write_text(text)
        process = subprocess.Popen(
            [sys.executable, str(script), *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(XDG_RUNTIME_DIR=str(tmp_path), HOOKBUS_ADDRESS=address, **env),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    """The next line of its output."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr.read() if process.stderr else ""
    return line.strip()


def told(process: subprocess.Popen[str]) -> None:
    """Lets it take its next step."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


class Operator:
    """The operator's binary."""

    def command(self, daemon: Daemon) -> list[str]:
        return [str(binary("hookbus")), "--address", daemon.address]

    def __call__(self, daemon: Daemon, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command(daemon), *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env=clean_environment(),
        )


operator = Operator()
