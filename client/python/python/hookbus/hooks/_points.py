"""The points of a training, in the order in which they come, and what "every n" counts at each."""

from __future__ import annotations

POINTS = (
    "before_run",
    "after_load_checkpoint",
    "before_train",
    "before_train_epoch",
    "before_train_iter",
    "after_train_iter",
    "after_train_epoch",
    "before_val",
    "before_val_epoch",
    "before_val_iter",
    "after_val_iter",
    "after_val_epoch",
    "after_val",
    "before_save_checkpoint",
    "after_save_checkpoint",
    "after_train",
    "before_test",
    "before_test_epoch",
    "before_test_iter",
    "after_test_iter",
    "after_test_epoch",
    "after_test",
    "after_run",
)
"""MMEngine's 22 points, and after_save_checkpoint."""

ALWAYS, ITER, INNER_ITER, EPOCH = "always", "iter", "inner_iter", "epoch"


def base_of(point: str) -> str:
    """What MMEngine counts there: the iteration of the whole training, of this validation or test, or the epoch."""
    if point in ("before_train_iter", "after_train_iter"):
        return ITER
    if point not in POINTS:
        return ALWAYS
    if point.endswith("_iter"):
        return INNER_ITER
    return EPOCH if point.endswith("_epoch") else ALWAYS


def is_at_iteration(point: str) -> bool:
    """Whether it comes with each iteration: a gate there has 50 ms, elsewhere 2 s."""
    return base_of(point) in (ITER, INNER_ITER)


def close_to(name: str, known: tuple[str, ...] | list[str]) -> str:
    """ "; do you mean X?", else a full stop: the end of a sentence about a name that is not there."""
    import difflib

    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; do you mean {near[0]}?" if near else "."
