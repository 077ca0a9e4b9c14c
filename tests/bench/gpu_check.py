"""The daemon's GPU numbers beside nvidia-smi's, on a real NVIDIA GPU: known sizes are allocated with torch, and a
Markdown table is printed. Ends with 1 where a number is off by more than its row allows.

Needs torch with CUDA, the hookbus package, nvidia-smi, and hookbusd and hookbus in target/release.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from typing import Any

from hookbusd import BINARY, Daemon

MIB = 1 << 20
SIZES_MIB = (0, 256, 1024, 4096)
# nvidia-smi prints whole MiB, and both look at moments of their own
OFF_BY_MIB = 2.0
PATIENCE_S = 30.0


def smi(query: str) -> list[list[str]]:
    """Rows of an nvidia-smi query, without units."""
    text = subprocess.run(
        ["nvidia-smi", query, "--format=csv,noheader,nounits"], check=True, capture_output=True, text=True
    ).stdout
    return [[cell.strip() for cell in line.split(",")] for line in text.splitlines() if line.strip()]


def mib(text: str) -> float | None:
    """None: nvidia-smi does not know it either."""
    try:
        return float(text)
    except ValueError:
        return None


def look(daemon: Daemon) -> dict[str, Any]:
    """`hookbus memory` as JSON."""
    command = [BINARY.with_name("hookbus"), "--address", daemon.address, "memory", "--json"]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert isinstance(answer, dict)
    return answer


def fresh(daemon: Daemon, uuid: str, since: float) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The GPU as it was read after `since`, and this process on it."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        asked = time.monotonic()
        card = next((card for card in look(daemon)["gpus"] if card["uuid"] == uuid), None)
        # Its age is as of the answer, which came later than it was asked for.
        if card is not None and asked - card["total_bytes"].get("age_s", float("inf")) > since:
            own = (process for process in card["processes"] if process["pid"] == os.getpid())
            return card, next(own, None)
        if time.monotonic() > deadline:
            raise SystemExit(f"the daemon has not read {uuid}: {card}")
        time.sleep(0.05)


def written(reading: dict[str, Any] | None) -> tuple[float | None, str]:
    """In MiB, and for the table."""
    if reading is None:
        return None, "not listed"
    value = reading["value"]
    return (None, f"unknown: {reading['unknown']}") if value is None else (value / MIB, f"{value / MIB:.1f}")


def main() -> int:
    try:
        import torch
    except ImportError:
        raise SystemExit("torch is not installed: nothing was checked") from None
    if not torch.cuda.is_available() or shutil.which("nvidia-smi") is None:
        raise SystemExit("no NVIDIA GPU here: nothing was checked")
    device = torch.cuda.current_device()
    torch.zeros(1, device=device)
    rows = smi("--query-compute-apps=pid,gpu_uuid,used_memory")
    uuid = next((row[1] for row in rows if row[0] == str(os.getpid())), None)
    if uuid is None:
        raise SystemExit("nvidia-smi does not list this process: it runs in another pid namespace")
    name, driver = next(row[1:] for row in smi("--query-gpu=uuid,name,driver_version") if row[0] == uuid)
    print(f"{name}, driver {driver}, torch {torch.__version__}\n")
    print("| allocated, MiB | number | hookbus, MiB | nvidia-smi, MiB | |\n|---|---|---|---|---|")
    wrong = 0
    with Daemon("[sampler]\ngpu_ms = 100\n") as daemon:
        for size in SIZES_MIB:
            held = torch.zeros(size * MIB, dtype=torch.uint8, device=device)
            torch.cuda.synchronize()
            card, own = fresh(daemon, uuid, time.monotonic())
            columns = "memory.total,memory.used,memory.reserved,memory.free"
            whole = next(row[1:] for row in smi(f"--query-gpu=uuid,{columns}") if row[0] == uuid)
            apps = smi("--query-compute-apps=pid,gpu_uuid,used_memory")
            used = next((row[2] for row in apps if row[:2] == [str(os.getpid()), uuid]), "not listed")
            pairs = list(zip(("total", "used", "reserved", "free"), whole, strict=True))
            numbers = [(what, card[f"{what}_bytes"], text) for what, text in pairs]
            for what, reading, text in [*numbers, ("this process", own and own["used_bytes"], used)]:
                (ours, shown), theirs = written(reading), mib(text)
                if ours is None or theirs is None:
                    is_right = ours is None and theirs is None
                else:
                    is_right = abs(ours - theirs) <= OFF_BY_MIB
                wrong += not is_right
                print(f"| {size} | {what} | {shown} | {text} | {'' if is_right else 'differs'} |")
            del held
            torch.cuda.empty_cache()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
