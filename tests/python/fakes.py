"""A session that writes down what the Python half asks of it, for tests of that half alone."""

from __future__ import annotations

from typing import Any


class FakeSession:
    """Counts positions as the native session does."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.results: list[tuple[Any, ...]] = []
        self.known: dict[str, Any] = {}
        self.capabilities: list[str] = []
        self.closed: list[tuple[str, bool]] = []
        self.at = [0, 0, 0]
        self.due: list[tuple[Any, ...]] = []
        self.due_at = ""

    def emit(self, point: str, /, **fields: Any) -> None:
        self.events.append((point, fields))
        if self.due and point == self.due_at:
            due, self.due = self.due, []
            self.apply(due, point)

    def set_apply(self, apply: Any) -> None:
        self.apply = apply

    def result(self, *words: Any) -> None:
        self.results.append(words)

    def facts(self, **known: Any) -> None:
        self.known = known  # the latest replaces the one before

    def set_optimizers(self, optimizers: list[Any], watched: list[bool]) -> None:
        self.optimizers = optimizers

    def give_rates_back(self, optimizer: object | None = None) -> None:
        self.given_back = getattr(self, "given_back", 0) + 1

    def add_capability(self, name: str) -> None:
        self.capabilities.append(name)

    def is_gathering(self) -> bool:
        return False  # one rank

    def wants_description(self, point: str) -> bool:
        return False

    def position(self) -> tuple[int, int, int]:
        return (self.at[0], self.at[1], self.at[2])

    def set_position(self, epoch: int, iter: int, inner_iter: int) -> None:
        self.at = [epoch, iter, inner_iter]

    def close(self, reason: str, failed: bool) -> None:
        self.closed.append((reason, failed))

    @property
    def points(self) -> list[str]:
        return [point for point, _ in self.events]
