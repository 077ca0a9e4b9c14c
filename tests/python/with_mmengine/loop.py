"""A plain PyTorch loop over several ranks, exactly recorded: one rank, one process.

    python loop.py SETTINGS.json RECORD.json

Nothing in it knows of hookbus but `attach`, `epochs`, `iters` and `report`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn

import hookbus
import hookbus.adapters.torch

RANK, WORLD_SIZE = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))

DEFAULTS: dict[str, Any] = {
    "asked": [],  # hooks
    "attached": [0, 1],  # ranks that attach
    "arguments": [{}, {}],  # of attach, a rank
    "epochs": 4,
    "iterations": 10,  # an epoch
    "nan": None,  # [rank, iteration]: the loss of one iteration
    "die": None,  # [rank, iteration]: this rank ends itself there
    "started": "by a launcher",  # or "by a parent": without RANK and WORLD_SIZE in the environment
    "extra": [0, 0],  # iterations that a rank makes more in each epoch; without DDP, as that could not
    "closed_at": None,  # [rank, iteration]: this rank closes its bus there and goes on
    "bound": [0, 1],  # ranks that bind their model
    "validates": False,  # after each epoch
    "point_before": False,  # reach a point of one's own before the process group is up
    "ask_at": [],  # before these iterations: print a line, and wait for one
}


class Nobody:
    """In the place of a bus where this rank does not attach."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs

    def epochs(self) -> Any:
        return iter(range(self._epochs))

    def iters(self, loader: list[torch.Tensor]) -> Any:
        return iter(loader)

    def report(self, **_: object) -> None:
        pass

    def close(self) -> None:
        pass


def main(settings: dict[str, Any], record: dict[str, Any]) -> None:
    torch.manual_seed(5)
    if settings["started"] == "by a parent":
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
            del os.environ[name]
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    model: nn.Module = net
    arguments = dict(max_epochs=settings["epochs"], hooks=settings["asked"], timeout_s=20.0)
    arguments |= settings["arguments"][RANK]
    early: Any = None
    if settings["point_before"]:
        early = hookbus.adapters.torch.attach("loop", **arguments)
        early.event("data_is_ready")
    if WORLD_SIZE > 1:
        distributed.init_process_group("gloo", rank=RANK, world_size=WORLD_SIZE)
        if not any(settings["extra"]):
            model = nn.parallel.DistributedDataParallel(net)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    samples = torch.Generator().manual_seed(RANK)
    loader = [torch.randn(4, 6, generator=samples) for _ in range(settings["iterations"] + settings["extra"][RANK])]
    bus: Any = Nobody(settings["epochs"])
    if RANK in settings["attached"]:
        bus = early or hookbus.adapters.torch.attach("loop", **arguments)
        bus.bind(optimizer=optimizer, model=model if RANK in settings["bound"] else None)
        if not any(settings["extra"]):
            bus.bind(loader=loader)
    iteration = 0
    try:
        for _ in bus.epochs():
            for batch in bus.iters(loader):
                if iteration in settings["ask_at"]:
                    print(f"at {iteration}", flush=True)
                    sys.stdin.readline()
                if settings["closed_at"] == [RANK, iteration]:
                    bus.close()
                if settings["die"] == [RANK, iteration]:
                    os.kill(os.getpid(), 9)
                loss = model(batch).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if settings["nan"] == [RANK, iteration]:
                    loss = loss * float("nan")  # it is only seen: the weights stay as they are
                record["losses"].append(loss.item().hex())
                record["rates"].append(optimizer.param_groups[0]["lr"].hex())
                iteration += 1
                bus.report(loss=loss)
            if settings["validates"]:
                for _batch in bus.val_iters(loader[:1]):
                    pass
    except hookbus.TrainingStopped as stop:
        record["stopped"] = [iteration, stop.reason, stop.by]
    except RuntimeError as error:
        record["raised"] = [iteration, str(error)]
    record["iterations"] = iteration
    bus.close()
    digest = hashlib.sha256()
    for _, value in sorted(net.state_dict().items()):
        digest.update(value.numpy().tobytes())
    record["weights"] = digest.hexdigest()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
    record: dict[str, Any] = {"losses": [], "rates": [], "stopped": None, "raised": None}
    main(DEFAULTS | json.loads(Path(sys.argv[1]).read_text()), record)
    Path(sys.argv[2]).write_text(json.dumps(record))
