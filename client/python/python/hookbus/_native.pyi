"""The native half: a session's buffer, its background thread and its plan. Built from client/python/src."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, TypeAlias, TypedDict, final

__all__ = ["Session", "__version__", "attach"]

__version__: str

Action: TypeAlias = (
    tuple[Literal["log"], str, int, str]
    | tuple[Literal["stop"], str, str, str]
    | tuple[Literal["checkpoint"], str, str]
    | tuple[Literal["custom"], str, str, str]
    | tuple[Literal["size"], str, int, int]
    | tuple[Literal["mode"], str, list[str]]
    | tuple[Literal["set_epoch"], str, int, bool]
    | tuple[Literal["prepare"]]
    | tuple[Literal["warning"], str]
    | tuple[Literal["error"], str]
)

class Status(TypedDict):
    """What the client knows of its connection; counts are cumulative."""

    connected: bool
    verdict: str
    run_id: str
    warnings: list[str]
    refused: list[str]
    dropped: int
    gate_timeouts: int
    buffered_bytes: int
    acked: int

@final
class Session:
    """One rank's session; every method is a no-op where no daemon answered, and in a forked child."""

    @property
    def emit(self) -> Callable[..., None]: ...
    def set_apply(self, apply: Callable[[list[Action], str], None]) -> None: ...
    def result(self, id: str, outcome: str, old: str | None, new: str | None, reason: str) -> None: ...
    def facts(self, **known: Any) -> None: ...
    def describe(
        self,
        model_class: str,
        modules: Sequence[tuple[str, str, object, bool, bool]],
        datasets: Mapping[str, tuple[str, object]],
    ) -> None: ...
    def set_optimizers(self, optimizers: Sequence[object], watched: Sequence[bool]) -> None: ...
    def give_rates_back(self, optimizer: object | None = None) -> None: ...
    def write_rates_again(self, optimizer: object) -> None: ...
    def add_capability(self, name: str) -> None: ...
    def position(self) -> tuple[int, int, int]: ...
    def set_position(self, epoch: int, iter: int, inner_iter: int) -> None: ...
    def status(self) -> Status: ...
    def wants(self, point: str) -> bool: ...
    def flush(self, timeout_s: float) -> bool: ...
    def close(self, reason: str, failed: bool) -> None: ...

def attach(
    *,
    run: str,
    address: str | None,
    token_file: str | PathLike[str] | None,
    ca_file: str | PathLike[str] | None,
    hooks: Sequence[Mapping[str, object]],
    capabilities: Sequence[str],
    allow: Sequence[str] | None,
    timeout_s: float,
) -> Session: ...
