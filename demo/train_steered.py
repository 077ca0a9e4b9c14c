"""The training of train_digits.py once more, steered: by what a daemon decides ahead, and by what an operator orders.

    hookbus run --print-address -- python demo/train_steered.py --epochs 40
    hookbus --address ADDRESS send digits lr --scale 0.5        # in a second terminal

The learning rate follows the daemon's curve, the images' size changes every third epoch, and the augmentation goes off
before the end. hookbus is in `main` again: next to `attach` and `bind` there are two handlers.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from train_digits import STOPPED, Array, Loader, Network, Sgd, digits  # isort: skip (one thread, before NumPy)

import numpy as np

import hookbus

HOOKS = [
    dict(
        type="YOLOXLrUpdaterHook",
        by_epoch=False,
        warmup="exp",
        warmup_by_epoch=True,
        warmup_iters=1,
        warmup_ratio=1.0,
        num_last_epochs=1,
        min_lr_ratio=0.05,
    ),
    dict(type="SyncRandomSizeHook", ratio_range=(1, 2), img_scale=(64, 64), interval=3),
    dict(type="YOLOXModeSwitchHook", num_last_epochs=2, skip_type_keys=["RandomShift"]),
]
STORED_PIXELS = 8  # height and width of a digit as it comes


def random_shift(images: Array, rng: np.random.Generator) -> Array:
    """The augmentation: a batch moves by up to one stored pixel."""
    return np.roll(images, rng.integers(-1, 2, size=2), axis=(1, 2))


class SteeredLoader(Loader):
    """Batches that are augmented by a pipeline of named steps, and enlarged to `pixels`."""

    pixels = 32

    def __init__(self, images: Array, labels: Array, batch_size: int, rng: np.random.Generator) -> None:
        super().__init__(images, labels, batch_size, rng)
        self.pipeline = {"RandomShift": random_shift}

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        for images, labels in super().__iter__():
            for augment in self.pipeline.values():
                images = augment(images, self.rng)
            yield enlarged(images, self.pixels), labels

    def resize(self, size: tuple[int, int]) -> None:
        self.pixels = size[0]  # height and width are the same here

    def skip(self, names: list[str]) -> None:
        for name in names:
            self.pipeline.pop(name, None)


def enlarged(images: Array, pixels: int) -> Array:
    """To the nearest neighbour."""
    times = pixels // STORED_PIXELS
    return images.repeat(times, axis=1).repeat(times, axis=2)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dump", metavar="FILE", type=Path, help="write what each iteration trained with, as JSON")
    parser.add_argument("--paced", metavar="FOLDER", type=Path, help="after epoch N wait until FOLDER/N is there")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    rng = np.random.default_rng(args.seed)
    train_x, test_x, train_y, test_y = digits(args.seed)
    network = Network(rng, widths=(16, 32, 32), stride=2)
    optimizer = Sgd(network.parameters(), args.lr)
    loader = SteeredLoader(train_x, train_y, args.batch_size, rng)
    losses: list[float] = []
    trained_with: list[dict[str, object]] = []

    def step(epoch: int, images: Array, labels: Array) -> float:
        loss, gradients = network.loss_and_gradients(images, labels)
        optimizer.step(gradients)
        losses.append(loss)
        used = dict(epoch=epoch, lr=optimizer.param_groups[0]["lr"], pixels=images.shape[1], steps=[*loader.pipeline])
        trained_with.append(used)
        return loss

    def end_of_epoch(epoch: int) -> None:
        correct = (network.forward(enlarged(test_x, loader.pixels)).argmax(axis=1) == test_y).mean()
        loss, size = np.mean(losses[-len(loader) :]), f"{loader.pixels} x {loader.pixels} pixels"
        print(f"epoch {epoch}: loss {loss:.4f}, test accuracy {correct:.1%}, {size}", flush=True)

    status = 0
    try:
        with hookbus.attach(
            "digits", hooks=HOOKS, max_epochs=args.epochs, iters_per_epoch=len(loader), seed=args.seed
        ) as bus:
            bus.bind(optimizer=optimizer)
            bus.on("size", loader.resize)
            bus.on("mode", loader.skip)
            for epoch in bus.epochs():
                for images, labels in bus.iters(loader):
                    bus.report(loss=step(epoch, images, labels))
                end_of_epoch(epoch)
                if args.paced:
                    wait_for(args.paced / str(epoch), bus)
    except hookbus.TrainingStopped as stop:
        print(f"stopped after {len(losses)} iterations: {stop.reason}", flush=True)
        status = STOPPED

    if args.dump:
        facts = dict(hooks=HOOKS, lr=args.lr, epochs=args.epochs, iters_per_epoch=len(loader), seed=args.seed)
        args.dump.write_text(json.dumps(dict(facts, trained_with=trained_with)), encoding="utf-8")
    return status


def wait_for(file: Path, bus: hookbus.Bus) -> None:
    """For the demo alone: whatever it sends while the training waits here comes in time, on any machine."""
    while not file.exists():
        bus.event("waiting")  # at any point lines from the daemon are written to the log
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main())
