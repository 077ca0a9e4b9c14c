"""Makes the recording that ships with the package: a real training whose validation loss reaches a plateau and whose
loss then becomes NaN, stopped by CheckInvalidLossHook(interval=10).

    .venv/bin/python tests/python/record_digits.py client/python/python/hookbus/hooks/digits.ndjson
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from conftest import Daemon, binary, clean_environment

CONFIG = """
[journal]
sample_ms = 500
[[hooks]]
type = "CheckInvalidLossHook"
interval = 10
"""
EPOCHS, BATCH = 14, 150


def train(address: str) -> None:
    """A network with one hidden layer; from epoch 10 on its learning rate is a typo."""
    import numpy as np
    from sklearn.datasets import load_digits

    import hookbus

    images, labels = load_digits(return_X_y=True)
    images = images / 16.0
    split = 1350
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((64, 24)) * 0.1, rng.standard_normal((24, 10)) * 0.1

    class Optimizer:
        param_groups = [{"lr": 0.5}]  # noqa: RUF012

    def forward(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hidden = np.maximum(batch @ first, 0)
        scores = hidden @ second
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return hidden, scores / scores.sum(axis=1, keepdims=True)

    def loss_of(probabilities: np.ndarray, truth: np.ndarray) -> float:
        return float(-np.log(probabilities[np.arange(len(truth)), truth]).mean())

    batches = [slice(at, at + BATCH) for at in range(0, split, BATCH)]
    with (
        np.errstate(all="ignore"),
        hookbus.attach(
            run="digits",
            address=address,
            max_epochs=EPOCHS,
            max_iters=EPOCHS * len(batches),
            iters_per_epoch=len(batches),
        ) as bus,
    ):
        bus.bind(optimizer=Optimizer)
        try:
            for epoch in bus.epochs():
                Optimizer.param_groups[0]["lr"] = 1e160 if epoch >= 10 else 0.5 if epoch < 4 else 0.001
                for batch in bus.iters(batches):
                    truth = labels[batch]
                    hidden, probabilities = forward(images[batch])
                    loss = loss_of(probabilities, truth)
                    slope = probabilities.copy()
                    slope[np.arange(len(truth)), truth] -= 1
                    slope /= len(truth)
                    back = (slope @ second.T) * (hidden > 0)
                    rate = Optimizer.param_groups[0]["lr"]
                    second -= rate * hidden.T @ slope
                    first -= rate * images[batch].T @ back
                    bus.report(loss=loss)
                _, probabilities = forward(images[split:])
                bus.event("before_val")
                bus.event("before_val_epoch")
                bus.event("after_val_epoch", val_loss=loss_of(probabilities, labels[split:]))
                bus.event("after_val")
        except hookbus.TrainingStopped as stopped:
            print(f"stopped: {stopped}", file=sys.stderr)


def main(path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="hb") as name:
        folder = Path(name)
        daemon = Daemon(folder, CONFIG)
        try:
            environment = clean_environment(HOOKBUS_LAUNCH="recorded", PYTHONPATH=os.environ.get("PYTHONPATH", ""))
            subprocess.run([sys.executable, __file__, "--train", daemon.address], check=True, env=environment)
            out = folder / "out"
            words = ["--address", daemon.address, "export", "digits", "--ndjson", str(out)]
            subprocess.run([str(binary("hookbus")), *words], check=True, env=clean_environment(), stdout=sys.stderr)
        finally:
            daemon.kill()
        with path.open("w") as lines:
            for table in ("run", "attempts", "events", "metrics", "samples", "log"):
                for line in (out / f"{table}.ndjson").read_text().splitlines():
                    row = json.loads(line)
                    if table == "run":
                        row["node"] = "recorded"
                    assert not any(isinstance(value, float) and math.isnan(value) for value in row.values())
                    lines.write(json.dumps({"table": table, **row}) + "\n")


if __name__ == "__main__":
    if sys.argv[1] == "--train":
        train(sys.argv[2])
    else:
        main(Path(sys.argv[1]))
