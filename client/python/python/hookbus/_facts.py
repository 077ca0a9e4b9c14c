"""Reads what hooks need to know from the trainer's objects, by duck typing: no framework is imported or required.

Never raises: an object of another shape yields fewer facts.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself is half of an import; a type checker reads this as true
if TYPE_CHECKING:
    from typing import TypedDict

    class Facts(TypedDict, total=False):
        """What a trainer knows about itself; a key that is not known is absent."""

        max_epochs: int
        max_iters: int
        iters_per_epoch: int
        groups: list[tuple[float, str]]
        persistent_workers: bool
        loader_workers: int


def of_optimizer(optimizer: object) -> Facts:
    """The base learning rate of each parameter group: `initial_lr`, else `lr`."""
    groups: list[tuple[float, str]] = []
    for index, group in enumerate(_groups(optimizer)):
        try:
            base = float(group["initial_lr"] if "initial_lr" in group else group["lr"])  # type: ignore[arg-type]
            groups.append((base, str(group.get("name", index))))
        except (KeyError, TypeError, ValueError):
            return {}  # a list with holes would map curves to the wrong groups
    return {"groups": groups} if groups else {}


def of_loader(loader: object) -> Facts:
    """Iterations an epoch and the shape of a data loader."""
    facts: Facts = {}
    try:
        facts["iters_per_epoch"] = len(loader)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError, AttributeError):
        pass  # an iterable data set has no length
    workers = getattr(loader, "num_workers", None)
    if isinstance(workers, int):
        facts["loader_workers"] = workers
    persistent = getattr(loader, "persistent_workers", None)
    if isinstance(persistent, bool):
        facts["persistent_workers"] = persistent
    return facts


def first_group(optimizer: object) -> dict[str, object] | None:
    """The live first parameter group, whose `lr` each iteration reports."""
    groups = _groups(optimizer)
    return groups[0] if groups and "lr" in groups[0] else None


def _groups(optimizer: object) -> list[dict[str, object]]:
    groups = getattr(optimizer, "param_groups", None)
    if not isinstance(groups, (list, tuple)):
        return []
    return [group for group in groups if isinstance(group, dict)]
