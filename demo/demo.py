"""Shows the spine on a real training, and checks for itself that what it shows has happened.

    python demo/demo.py --bin target/release

Exit status 0 if all of it was seen; else 1, and one line that says what was not.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
TRAIN = [sys.executable, str(HERE / "train_digits.py")]
LIMIT_S = 100  # the demo ends within two minutes, whatever happens

MEMORY_LINE = re.compile(r"Memory information available_memory: \d+ MB, .*current_process_memory: (\d+) MB")
ACCURACY = re.compile(r"test accuracy ([\d.]+)%")
INVALID_LINE = "loss become infinite or NaN!"
GOOD_LR, BAD_LR = "0.1", "1"
EPOCHS, CHECK_INTERVAL = "12", 10


class NotSeen(Exception):
    """Something that the demo should show did not happen."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, default=HERE.parent / "target" / "release", help="where the binaries are")
    hookbus = parser.parse_args().bin.resolve() / "hookbus"
    if not hookbus.exists():
        print(f"demo: {hookbus} is not built; `make demo` builds it", file=sys.stderr)
        return 1
    try:
        with tempfile.TemporaryDirectory(prefix="hookbus-demo-") as folder:
            memory_part(hookbus, Path(folder))
            stop_part(hookbus, Path(folder))
    except NotSeen as missing:
        print(f"\ndemo: NOT SEEN: {missing}", file=sys.stderr)
        return 1
    except subprocess.TimeoutExpired as late:
        print(f"\ndemo: {late.cmd[0]} did not end within {late.timeout:.0f} s", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\ndemo: {error}; `make demo` builds what is needed", file=sys.stderr)
        return 1
    closing_words()
    return 0


def memory_part(hookbus: Path, folder: Path) -> None:
    """A training that goes well, with its memory in its own log and in a second process."""
    heading("1. Memory: in the trainer's log, and live from a second process")
    dump = folder / "good.json"
    train = [*TRAIN, "--lr", GOOD_LR, "--epochs", EPOCHS, "--memory-interval", "40", "--dump", str(dump)]
    live: list[str] = []

    def look(line: str, address: str) -> None:
        if line.startswith("epoch 2:") and not live:
            live.append(memory_now(hookbus, address))

    code, lines = run_beside_daemon(hookbus, train, look)
    seen = [line for line in lines if MEMORY_LINE.search(line)]
    require(code == 0, f"the training ended with status {code}")
    require(bool(seen), "no line of MemoryProfilerHook in the training's log")
    require(bool(live), "live memory: the training was over before it could be read")
    require(bool(re.search(r"rank 0 pid \d+ +[\d.]+ [KMG]i?B", live[0])), "the trainer's memory in `hookbus memory`")
    accuracy = max((float(found[1]) for found in map(ACCURACY.search, lines) if found), default=0.0)
    require(accuracy > 90, f"a training that learns (best test accuracy {accuracy} %)")
    alone = without_hookbus(folder / "alone.json", GOOD_LR, EPOCHS)
    require(json.loads(dump.read_text()) == alone, "the same losses and weights, bit for bit, as without hookbus")
    print(f"\n  seen: {len(seen)} memory lines; live memory from a second process; {accuracy} % accuracy;")
    print("        losses and weights equal, bit for bit, to those of a run without hookbus")


def stop_part(hookbus: Path, folder: Path) -> None:
    """The same training, diverging; where it must stop is computed from a run that nothing stops."""
    heading(f"2. The same training with a learning rate of {BAD_LR}: it diverges, and is stopped")
    losses = without_hookbus(folder / "free.json", BAD_LR, "2")["losses"]
    bad = [i for i, loss in enumerate(losses) if not math.isfinite(float(loss))]
    require(bool(bad), "a training that diverges (it did not, without hookbus)")
    due = next((i for i in bad if (i + 1) % CHECK_INTERVAL == 0), None)
    require(due is not None, "a due iteration with a loss that is not finite")
    print(f"  without hookbus: the loss is {losses[bad[0]]} from iteration {bad[0]} on (counted from 0), it trains on")
    print(f"  CheckInvalidLossHook looks each {CHECK_INTERVAL} iterations: it must stop at iteration {due}\n")
    dump = folder / "stopped.json"
    train = [*TRAIN, "--lr", BAD_LR, "--epochs", EPOCHS, "--memory-interval", "0", "--dump", str(dump)]
    code, lines = run_beside_daemon(hookbus, [*train, "--check-interval", str(CHECK_INTERVAL)])
    require(code == 3, f"the stop (the training ended with status {code}, not 3)")
    require(any(INVALID_LINE in line for line in lines), f"the hook's line in the log: {INVALID_LINE}")
    done = json.loads(dump.read_text())["losses"]
    require(len(done) - 1 == due, f"the stop at iteration {due} (it was at {len(done) - 1})")
    require(done == losses[: len(done)], "the losses of the undisturbed run up to the stop")
    require(any("stop by CheckInvalidLossHook" in line for line in lines), "the report's line on who stopped it")
    print(f"\n  seen: stopped at iteration {due}, the first due one with an invalid loss; the report says who and why")


def run_beside_daemon(
    hookbus: Path, train: list[str], look: Callable[[str, str], None] = lambda line, address: None
) -> tuple[int, list[str]]:
    """Runs a training under `hookbus run`, shows its output, and calls `look` with each line and the address."""
    shown = " ".join(["python demo/train_digits.py", *train[2:-4], "..."])
    print(f"  $ hookbus run --print-address -- {shown}")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HOOKBUS")}
    command = [str(hookbus), "run", "--print-address", "--", *train]
    child = subprocess.Popen(
        ["timeout", "--signal=TERM", str(LIMIT_S // 2), *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    lines: list[str] = []
    assert child.stdout is not None
    with child:
        for line in child.stdout:
            line = line.rstrip("\n")
            lines.append(line)
            print(f"  | {line}", flush=True)
            look(line, lines[0].strip())
    return child.returncode, lines


def memory_now(hookbus: Path, address: str) -> str:
    """`hookbus memory` from a process of its own, while the training runs."""
    print(f"\n  $ hookbus --address {address} memory        (a second process; the training runs on)")
    reply = subprocess.run(
        [str(hookbus), "--address", address, "memory"], capture_output=True, text=True, timeout=20, check=False
    )
    require(reply.returncode == 0, f"live memory: {reply.stderr.strip()}")
    for line in reply.stdout.splitlines():
        print(f"  : {line}")
    print(flush=True)
    return reply.stdout


def without_hookbus(dump: Path, lr: str, epochs: str) -> dict[str, list[str]]:
    """The undisturbed run of the same seed."""
    command = [*TRAIN, "--no-bus", "--lr", lr, "--epochs", epochs, "--dump", str(dump)]
    reply = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S // 2, check=False)
    require(reply.returncode == 0, f"a run without hookbus: {reply.stderr.strip()[-300:]}")
    record: dict[str, list[str]] = json.loads(dump.read_text())
    return record


def require(fact: bool, what: str) -> None:
    if not fact:
        raise NotSeen(what)


def heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def closing_words() -> None:
    heading("What was shown")
    print(
        "  A real training ran beside a daemon. MemoryProfilerHook ran in there and wrote into the trainer's log;\n"
        "  a second process read live memory; CheckInvalidLossHook stopped the diverging run at the exact iteration.\n"
        "\n"
        "  Try next (PATH=$PWD/target/release:$PWD/.venv/bin:$PATH first):\n"
        "    hookbus run --print-address -- python demo/train_digits.py --epochs 200\n"
        "    hookbus --address ADDRESS memory --watch          in a second terminal\n"
        "    hookbus --address ADDRESS send digits stop        and see it stop\n"
        "    hookbus hooks                                     what else there is"
    )


if __name__ == "__main__":
    sys.exit(main())
