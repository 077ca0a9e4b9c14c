"""How the demo runs a training beside a daemon, asks from a second process, shows both, and says what it did not see."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
WIDTH = 110  # columns
END_S = time.monotonic() + 110  # the demo ends within two minutes, whatever happens
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("HOOKBUS")}
TIMED_OUT = 124  # the exit status of `timeout`


class NotSeen(Exception):
    """Something that the demo should show did not happen."""


def require(fact: bool, what: str) -> None:
    if not fact:
        raise NotSeen(what)


def heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def show(mark: str, text: str) -> None:
    """What a process said, behind the mark of that process."""
    for line in text.splitlines():
        # a line that fits keeps its blanks: it may belong to a table
        parts = [line] if len(line) <= WIDTH - 4 else textwrap.wrap(line, WIDTH - 4, subsequent_indent="    ")
        for part in parts:
            print(f"  {mark} {part}".rstrip(), flush=True)


def bounded(*command: str) -> list[str]:
    """A command that ends when the demo must end."""
    left_s = max(1, int(END_S - time.monotonic()))
    return ["timeout", "--signal=TERM", str(left_s), *command]


def run_beside_daemon(
    hookbus: Path,
    script: str,
    said: Sequence[str],
    unsaid: Sequence[str],
    look: Callable[[str, str], None] = lambda line, address: None,
) -> tuple[int, list[str]]:
    """Runs a training under `hookbus run`, shows its output, and calls `look` with each line and the daemon's address.

    `unsaid` are arguments that only the demo needs. Returns the exit status and the lines.
    """
    print(
        f"  $ {shlex.join(['hookbus', 'run', '--print-address', '--', 'python', f'demo/{script}', *said])}", flush=True
    )
    command = [str(hookbus), "run", "--print-address", "--", sys.executable, str(HERE / script), *said, *unsaid]
    child = subprocess.Popen(
        bounded(*command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT
    )
    lines: list[str] = []
    assert child.stdout is not None
    with child:
        try:
            for line in child.stdout:
                lines.append(line.rstrip("\n"))
                show("|", lines[-1])
                look(lines[-1], lines[0].strip())
        except BaseException:
            child.terminate()
            raise
    require(child.returncode != TIMED_OUT, f"the end of demo/{script} in time")
    return child.returncode, lines


class Operator:
    """Whoever sits at a second terminal with HOOKBUS_ADDRESS set: runs `hookbus` there and sees what it says."""

    def __init__(self, hookbus: Path, address: str) -> None:
        self.hookbus = hookbus
        self.environment = {**ENVIRONMENT, "HOOKBUS_ADDRESS": address}
        print(f"\n  $ export HOOKBUS_ADDRESS={address}        (a second process; the training runs on)")

    def ask(self, *words: str) -> str:
        """Runs a command to its end."""
        order = self.begin(*words)
        return order.first + order.end()

    def begin(self, *words: str) -> Order:
        """Starts a command that waits for the training."""
        print(f"  $ hookbus {shlex.join(words)}", flush=True)
        order = Order(self.start(*words), words)
        show(":", order.first)
        return order

    def read(self, *words: str) -> str:
        """The answer of a command, not shown."""
        order = Order(self.start(*words), words)
        return order.first + order.rest()

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = bounded(str(self.hookbus), *words)
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.environment
        )


class Order:
    """A command whose first line is there. Of an order this line says that it is on its way to the training."""

    def __init__(self, process: subprocess.Popen[str], words: Sequence[str]) -> None:
        self.process, self.words = process, words
        assert process.stdout is not None
        self.output = process.stdout
        self.first = self.output.readline()

    def end(self) -> str:
        """Shows the rest, and returns it."""
        rest = self.rest()
        show(":", rest)
        return rest

    def rest(self) -> str:
        """Waits for the end."""
        with self.process:
            rest = self.output.read()
        told = (self.first + rest).strip().splitlines()
        require(self.process.returncode == 0, f"`hookbus {shlex.join(self.words)}` that works: {' '.join(told[-1:])}")
        return rest
