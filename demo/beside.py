"""How the demo runs a training beside a daemon, asks from a second process, and shows what both say."""

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


def shortened(line: str, known: set[str]) -> str:
    """A long line that begins as one before it is shown without its middle."""
    if len(line) > WIDTH - 4 and line[:20] in known:
        return f"{line.partition(', ')[0]}, ..., {line.rpartition(', ')[2]}"
    known.add(line[:20])
    return line


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
    print(f"  $ hookbus run --print-address -- python demo/{shlex.join([script, *said])}", flush=True)
    command = [str(hookbus), "run", "--print-address", "--", sys.executable, str(HERE / script), *said, *unsaid]
    child = subprocess.Popen(
        bounded(*command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT
    )
    lines: list[str] = []
    known: set[str] = set()
    assert child.stdout is not None
    with child:
        try:
            for line in child.stdout:
                lines.append(line.rstrip("\n"))
                show("|", shortened(lines[-1], known))
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
        print(f"\n  $ export HOOKBUS_ADDRESS={address}        # in a second terminal")

    def ask(self, *words: str) -> str:
        """Runs a command to its end."""
        order = self.begin(*words)
        rest = order.rest()
        show(":", rest)
        print(flush=True)
        return order.first + rest

    def begin(self, *words: str) -> Order:
        """Starts a command that waits for the training."""
        print(f"  $ hookbus {shlex.join(words)}", flush=True)
        order = self.start(*words)
        show(":", order.first)
        return order

    def read(self, *words: str) -> str:
        """The answer of a command, not shown."""
        order = self.start(*words)
        return order.first + order.rest()

    def start(self, *words: str) -> Order:
        command = bounded(str(self.hookbus), *words)
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.environment
        )
        return Order(process, words)


class Order:
    """A command whose first line is there. An order's first line says that it is on its way to the training."""

    def __init__(self, process: subprocess.Popen[str], words: Sequence[str]) -> None:
        self.process, self.words = process, words
        assert process.stdout is not None
        self.output = process.stdout
        self.first = self.output.readline()

    def end(self) -> None:
        """Shows the answer that it has waited for."""
        rest = self.rest()
        print(f"\n  $ hookbus {shlex.join(self.words)}        # has its answer")
        show(":", rest)
        print(flush=True)

    def rest(self) -> str:
        """Waits for the end."""
        with self.process:
            rest = self.output.read()
        said = (self.first + rest).strip().splitlines()
        require(self.process.returncode == 0, f"`hookbus {shlex.join(self.words)}` that works: {' '.join(said[-1:])}")
        return rest
