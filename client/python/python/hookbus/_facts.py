"""Reads what hooks need to know from the trainer's objects, by duck typing: no framework is imported or required.

Never raises: an object of another shape yields fewer facts.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself is half of an import; a type checker reads this as true
if TYPE_CHECKING:
    from typing import Any, TypedDict

    class Facts(TypedDict, total=False):
        """What a trainer knows about itself; a key that is not known is absent."""

        max_epochs: int
        max_iters: int
        iters_per_epoch: int
        groups: list[tuple[float, str]]
        persistent_workers: bool
        loader_workers: int
        own_scheduler: bool
        scheduler: str
        seed: int
        size_multiple: int
        process_group: bool


def optimizers_of(optimizer: object) -> list[object]:
    """One optimizer, or several in the order of their dict or list: in this order their groups are counted."""
    if isinstance(optimizer, dict):
        return list(optimizer.values())
    if isinstance(optimizer, (list, tuple)):
        return list(optimizer)
    return [optimizer]


def of_optimizers(optimizers: list[object]) -> Facts:
    """The base learning rate of each parameter group, `initial_lr`, else `lr`; and a scheduler that steps them."""
    groups: list[tuple[float, str]] = []
    for group in (group for optimizer in optimizers for group in _groups(optimizer)):
        try:
            base = float(group["initial_lr"] if "initial_lr" in group else group["lr"])  # type: ignore[arg-type]
            groups.append((base, str(group.get("name", len(groups)))))
        except Exception:  # a tensor of two elements raises another one in each PyTorch
            return {}  # a list with holes would map curves to the wrong groups
    facts: Facts = {"groups": groups} if groups else {}
    # what PyTorch's schedulers leave on the step of an optimizer that is theirs
    steps = [getattr(optimizer, "step", None) for optimizer in optimizers]
    if any(hasattr(step, "_wrapped_by_lr_sched") or hasattr(step, "_with_counter") for step in steps):
        facts["own_scheduler"] = True
        facts["scheduler"] = "a scheduler of torch.optim.lr_scheduler"
    return facts


def of_scheduler(scheduler: object) -> Facts:
    """The trainer's own scheduler, by name."""
    return {"own_scheduler": True, "scheduler": type(scheduler).__name__}


def of_process_group() -> Facts:
    """Whether torch.distributed is up, without importing it."""
    return {"process_group": True} if process_group() is not None else {}


def process_group() -> Any | None:
    """torch.distributed, if its process group is up."""
    import sys

    distributed: Any = getattr(sys.modules.get("torch"), "distributed", None)
    try:
        up = distributed is not None and distributed.is_available() and distributed.is_initialized()
    except Exception:  # a build without it
        up = False
    return distributed if up else None


def place() -> tuple[int, int] | None:
    """Rank and number of ranks, if a process group is up."""
    distributed = process_group()
    try:
        return None if distributed is None else (distributed.get_rank(), distributed.get_world_size())
    except Exception:  # one that this process is not in
        return None


def of_loader(loader: object) -> Facts:
    """Iterations an epoch and the shape of a data loader."""
    facts: Facts = {}
    try:
        facts["iters_per_epoch"] = len(loader)  # type: ignore[arg-type]
    except Exception:
        pass  # an iterable data set has no length; a loader's own code may raise anything
    workers = getattr(loader, "num_workers", None)
    if isinstance(workers, int):
        facts["loader_workers"] = workers
    persistent = getattr(loader, "persistent_workers", None)
    if isinstance(persistent, bool):
        facts["persistent_workers"] = persistent
    return facts


def first_rate(optimizer: object) -> object | None:
    """The learning rate of the first parameter group now. It is looked up each time: a checkpoint makes new groups."""
    try:
        rate: object = optimizer.param_groups[0]["lr"]  # type: ignore[attr-defined]
    except (AttributeError, IndexError, KeyError, TypeError):
        return None
    return rate


def _groups(optimizer: object) -> list[dict[str, object]]:
    groups = getattr(optimizer, "param_groups", None)
    if not isinstance(groups, (list, tuple)):
        return []
    return [group for group in groups if isinstance(group, dict)]
