"""Shows the spine on a real training, and checks for itself that what it shows has happened.

    python demo/demo.py --bin target/release

Exit status 0 if all of it was seen; else 1, and one line that says what was not.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from beside import HERE, NotSeen, Operator, bounded, heading, require, run_beside_daemon
from steering import steering_part

MEMORY_LINE = re.compile(r"Memory information available_memory: \d+ MB, .*current_process_memory: (\d+) MB")
ACCURACY = re.compile(r"test accuracy ([\d.]+)%")
INVALID_LINE = "loss become infinite or NaN!"
GOOD_LR, BAD_LR = "0.1", "1"
EPOCHS, CHECK_INTERVAL = "12", 10


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
            steering_part(hookbus, Path(folder))
    except NotSeen as missing:
        print(f"\ndemo: NOT SEEN: {missing}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\ndemo: {error}; `make demo` builds what is needed", file=sys.stderr)
        return 1
    closing_words(hookbus)
    return 0


def memory_part(hookbus: Path, folder: Path) -> None:
    """A training that goes well, with its memory in its own log and in a second process."""
    heading("1. Memory: in the trainer's log, and live from a second process")
    dump = folder / "good.json"
    train = ["--lr", GOOD_LR, "--epochs", EPOCHS, "--memory-interval", "40"]
    live: list[str] = []

    def look(line: str, address: str) -> None:
        if line.startswith("epoch 2:") and not live:
            live.append(Operator(hookbus, address).ask("memory"))

    code, lines = run_beside_daemon(hookbus, "train_digits.py", train, ["--dump", str(dump)], look)
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
    train = ["--lr", BAD_LR, "--epochs", EPOCHS, "--memory-interval", "0"]
    unsaid = ["--check-interval", str(CHECK_INTERVAL), "--dump", str(dump)]
    code, lines = run_beside_daemon(hookbus, "train_digits.py", train, unsaid)
    require(code == 3, f"the stop (the training ended with status {code}, not 3)")
    require(any(INVALID_LINE in line for line in lines), f"the hook's line in the log: {INVALID_LINE}")
    done = json.loads(dump.read_text())["losses"]
    require(len(done) - 1 == due, f"the stop at iteration {due} (it was at {len(done) - 1})")
    require(done == losses[: len(done)], "the losses of the undisturbed run up to the stop")
    require(any("stop by CheckInvalidLossHook" in line for line in lines), "the report's line on who stopped it")
    print(f"\n  seen: stopped at iteration {due}, the first due one with an invalid loss; the report says who and why")


def without_hookbus(dump: Path, lr: str, epochs: str) -> dict[str, list[str]]:
    """The undisturbed run of the same seed."""
    train = [sys.executable, str(HERE / "train_digits.py"), "--no-bus"]
    command = bounded(*train, "--lr", lr, "--epochs", epochs, "--dump", str(dump))
    reply = subprocess.run(command, capture_output=True, text=True, check=False)
    require(reply.returncode == 0, f"a run without hookbus: status {reply.returncode} {reply.stderr.strip()[-300:]}")
    record: dict[str, list[str]] = json.loads(dump.read_text())
    return record


def closing_words(hookbus: Path) -> None:
    heading("What was shown")
    print(
        "  Trainings ran beside a daemon. MemoryProfilerHook ran in there and wrote into the trainer's log; a second\n"
        "  process read live memory. CheckInvalidLossHook stopped the diverging run at the exact iteration. Learning\n"
        "  rate, input size and augmentation followed what was decided ahead, and an operator's orders above it.\n"
        "\n"
        "Try next\n"
        "--------\n"
        "  In one terminal a training that goes on for some minutes:\n"
        f"    cd {HERE.parent}\n"
        f"    export PATH={hookbus.parent}:{Path(sys.executable).parent}:$PATH\n"
        "    hookbus run --print-address -- python demo/train_steered.py --epochs 500\n"
        "\n"
        "  In a second one, with the address that the first one printed:\n"
        f"    export PATH={hookbus.parent}:$PATH\n"
        "    export HOOKBUS_ADDRESS=unix:///tmp/hookbus-...\n"
        "    hookbus watch digits --no-events          # orders, decisions and results as they come, until Ctrl-C\n"
        "    hookbus send digits lr --scale 0.5        # half of the planned learning rate\n"
        "    hookbus send digits lr --release          # all of it again\n"
        "    hookbus send digits size 64 64            # until the next planned size\n"
        "    hookbus memory --watch                    # host, trainer and GPU, until Ctrl-C\n"
        "    hookbus show digits                       # its hooks, and what was applied where\n"
        "    hookbus send digits stop                  # ends it\n"
        "    hookbus hooks                             # what else there is"
    )


if __name__ == "__main__":
    sys.exit(main())
