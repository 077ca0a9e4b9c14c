"""The one exception that hookbus raises into a training loop: a stop that a hook or an operator decided."""

from __future__ import annotations


class TrainingStopped(AssertionError):
    """A hook or an operator has stopped this training.

    It is an AssertionError because the in-process CheckInvalidLossHook raises one, so code that caught that keeps
    working. `reason` is a sentence, `by` the hook or operator that decided, `id` the order's id in the run's record.
    """

    reason: str
    by: str
    id: str

    def __init__(self, reason: str, by: str = "", id: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.by = by
        self.id = id

    def __reduce__(self) -> tuple[type[TrainingStopped], tuple[str, str, str]]:
        """Keeps `by` and `id` where the exception crosses a process."""
        return type(self), (self.reason, self.by, self.id)
