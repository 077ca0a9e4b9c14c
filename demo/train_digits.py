"""Trains a small convolutional network on handwritten digits, in NumPy alone, with hookbus beside it.

    hookbus run -- python demo/train_digits.py
    hookbus run -- python demo/train_digits.py --lr 1         # diverges: CheckInvalidLossHook stops it

hookbus is in `main`, in six lines; take them for your own loop. The same seed gives the same bits, with hookbus or
without (`--no-bus`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from itertools import pairwise

# one thread: the demo leaves the other cores alone, and sums are added in the same order each time
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import hookbus

Array = np.ndarray
STOPPED = 3  # this script's exit status where a hook or an operator stopped it


def windows(x: Array, stride: int) -> Array:
    """The 3 x 3 neighbourhood of each stride-th pixel: (n, h, w, c) to (n, h', w', c, 3, 3), zeros beyond the edge."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::stride, ::stride]


class Conv:
    """A 3 x 3 convolution as one matrix product, followed by a leaky ReLU."""

    def __init__(self, rng: np.random.Generator, inputs: int, outputs: int, stride: int) -> None:
        self.stride = stride
        scale = np.sqrt(2.0 / (9 * inputs))
        self.weight = (rng.standard_normal((inputs * 9, outputs)) * scale).astype(np.float32)
        self.bias = np.zeros(outputs, np.float32)

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        seen = windows(x, self.stride)
        self.columns = seen.reshape(-1, self.weight.shape[0])
        out = self.columns @ self.weight + self.bias
        self.slope = np.where(out > 0, np.float32(1), np.float32(0.1))
        return (out * self.slope).reshape(*seen.shape[:3], -1)

    def backward(self, grad: Array) -> tuple[Array, list[Array]]:
        n, h, w, c = self.shape
        patches_shape = (*grad.shape[:3], c, 3, 3)
        grad = grad.reshape(self.slope.shape) * self.slope
        patches = (grad @ self.weight.T).reshape(patches_shape)
        padded = np.zeros((n, h + 2, w + 2, c), np.float32)
        for dy in range(3):
            for dx in range(3):
                padded[:, dy : dy + h : self.stride, dx : dx + w : self.stride] += patches[..., dy, dx]
        return padded[:, 1:-1, 1:-1], [self.columns.T @ grad, grad.sum(axis=0)]


class Network:
    """Convolutions, the mean over all pixels, so that any size of image will do, and a linear layer."""

    def __init__(self, rng: np.random.Generator, widths: tuple[int, ...] = (16, 32), stride: int = 1) -> None:
        self.convs = [Conv(rng, inputs, outputs, stride) for inputs, outputs in pairwise((1, *widths))]
        self.weight = (rng.standard_normal((widths[-1], 10)) * np.sqrt(1.0 / widths[-1])).astype(np.float32)
        self.bias = np.zeros(10, np.float32)

    def parameters(self) -> list[Array]:
        return [p for conv in self.convs for p in (conv.weight, conv.bias)] + [self.weight, self.bias]

    def forward(self, images: Array) -> Array:
        x = images
        for conv in self.convs:
            x = conv.forward(x)
        self.last = x.shape
        self.pooled = x.mean(axis=(1, 2))
        return self.pooled @ self.weight + self.bias

    def loss_and_gradients(self, images: Array, labels: Array) -> tuple[float, list[Array]]:
        """The mean cross entropy of a batch, and its gradient for each parameter."""
        logits = self.forward(images)
        logits = logits - logits.max(axis=1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        rows = np.arange(len(labels))
        loss = float(-log_p[rows, labels].mean())
        grad = np.exp(log_p)
        grad[rows, labels] -= 1
        grad /= len(labels)
        gradients = [self.pooled.T @ grad, grad.sum(axis=0)]
        x = (grad @ self.weight.T / (self.last[1] * self.last[2]))[:, None, None, :]
        x = np.broadcast_to(x, self.last)
        for conv in reversed(self.convs):
            x, own = conv.backward(x)
            gradients = own + gradients
        return loss, gradients


class Sgd:
    """Stochastic gradient descent with momentum; `param_groups` is what hookbus reads, as in PyTorch."""

    def __init__(self, parameters: list[Array], lr: float, momentum: float = 0.9) -> None:
        self.param_groups = [{"lr": lr, "momentum": momentum, "params": parameters}]
        self.velocity = [np.zeros_like(p) for p in parameters]

    def step(self, gradients: list[Array]) -> None:
        group = self.param_groups[0]
        lr, momentum = np.float32(group["lr"]), np.float32(group["momentum"])
        for parameter, velocity, gradient in zip(group["params"], self.velocity, gradients, strict=True):
            velocity *= momentum
            velocity += gradient
            parameter -= lr * velocity


class Loader:
    """Batches in a new order each epoch."""

    def __init__(self, images: Array, labels: Array, batch_size: int, rng: np.random.Generator) -> None:
        self.images, self.labels, self.batch_size, self.rng = images, labels, batch_size, rng

    def __len__(self) -> int:
        return len(self.labels) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        order = self.rng.permutation(len(self.labels))
        for i in range(len(self)):
            rows = order[i * self.batch_size : (i + 1) * self.batch_size]
            yield self.images[rows], self.labels[rows]


def digits(seed: int) -> list[Array]:
    """Images to train and to test with, then their labels."""
    data = load_digits()
    images = ((data.images - data.images.mean()) / data.images.std()).astype(np.float32)[..., None]
    return train_test_split(images, data.target, test_size=0.2, random_state=seed)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--check-interval", type=int, default=10, help="iterations between two looks at the loss")
    parser.add_argument("--memory-interval", type=int, default=20, help="iterations between two lines on memory")
    parser.add_argument("--no-bus", action="store_true", help="train without hookbus, to compare")
    parser.add_argument("--dump", metavar="FILE", help="write losses, and hashes of losses and weights, as JSON")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    rng = np.random.default_rng(args.seed)
    train_x, test_x, train_y, test_y = digits(args.seed)
    network = Network(rng)
    optimizer = Sgd(network.parameters(), args.lr)
    loader = Loader(train_x, train_y, args.batch_size, rng)
    losses: list[float] = []

    def step(batch: tuple[Array, Array]) -> float:
        loss, gradients = network.loss_and_gradients(*batch)
        optimizer.step(gradients)
        losses.append(loss)
        return loss

    def end_of_epoch(epoch: int) -> None:
        correct = (network.forward(test_x).argmax(axis=1) == test_y).mean()
        print(f"epoch {epoch}: loss {np.mean(losses[-len(loader) :]):.4f}, test accuracy {correct:.1%}", flush=True)

    status = 0
    # a training that diverges is what the hook is for; NumPy's own warnings would only say it again
    with np.errstate(all="ignore"):
        if args.no_bus:
            for epoch in range(args.epochs):
                for batch in loader:
                    step(batch)
                end_of_epoch(epoch)
        else:
            hooks = [
                dict(type="CheckInvalidLossHook", interval=args.check_interval),
                dict(type="MemoryProfilerHook", interval=args.memory_interval),
            ]
            try:
                with hookbus.attach("digits", hooks=hooks, max_epochs=args.epochs, iters_per_epoch=len(loader)) as bus:
                    bus.bind(optimizer=optimizer)
                    for epoch in bus.epochs():
                        for batch in bus.iters(loader):
                            bus.report(loss=step(batch))
                        end_of_epoch(epoch)
            except hookbus.TrainingStopped as stop:
                print(f"stopped after {len(losses)} iterations: {stop.reason}", flush=True)
                status = STOPPED

    if args.dump:
        dump(args.dump, losses, network)
    return status


def dump(path: str, losses: list[float], network: Network) -> None:
    """The losses as text, because JSON has no NaN; the hashes compare runs bit for bit."""
    weights = b"".join(p.tobytes() for p in network.parameters())
    record = {
        "losses": [repr(loss) for loss in losses],
        "losses_sha256": hashlib.sha256(np.array(losses, np.float64).tobytes()).hexdigest(),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(record, file)


if __name__ == "__main__":
    sys.exit(main())
