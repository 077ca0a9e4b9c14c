"""The native half: a session's buffer, its background thread and its plan. Built from client/python/src."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, TypeAlias, TypedDict, final

from .hooks._event import Call
from .hooks._plan import Subscription
from .hooks._slot import Answer

__all__ = ["ProviderLink", "Session", "__version__", "attach", "close_all"]

__version__: str

Action: TypeAlias = (
    tuple[Literal["log"], str, int, str]
    | tuple[Literal["stop"], str, str, str]
    | tuple[Literal["checkpoint"], str, str]
    | tuple[Literal["custom"], str, str, str]
    | tuple[Literal["size"], str, int, int]
    | tuple[Literal["mode"], str, list[str]]
    | tuple[Literal["set_epoch"], str, int, bool]
    | tuple[Literal["sync_norm"], str, bool]
    | tuple[Literal["prepare"]]
    | tuple[Literal["warning"], str]
    | tuple[Literal["error"], str]
)

ProviderFrame: TypeAlias = (
    tuple[Literal["connected"]]
    | tuple[Literal["lost"], str]
    | tuple[Literal["ended"], str]
    | tuple[Literal["assignment"], list[dict[str, object]]]
    | tuple[Literal["accepted"], list[tuple[str, str]]]
    | tuple[Literal["opened"], tuple[int, str, str, int, int], dict[str, object] | None, dict[str, str]]
    | tuple[Literal["facts"], int, dict[str, object]]
    | tuple[Literal["calls"], list[Call]]
    | tuple[Literal["closed"], int]
)
OfferedHook: TypeAlias = tuple[dict[str, object], list[Subscription], bool, bool, str]

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
    def set_ranks(self, ranks: Any) -> None: ...
    def is_gathering(self) -> bool: ...
    def rank(self) -> tuple[int, int]: ...
    def run_name(self) -> str: ...
    def alone(self) -> None: ...
    def agree(self, leads: bool, every: int, evaluates: bool) -> None: ...
    def part(self) -> None: ...
    def off(self, reason: str) -> None: ...
    def offer(self) -> bytes: ...
    def take_share(self, bytes: bytes) -> str | None: ...
    def begin(self, point: str) -> None: ...
    def ends_epochs(self) -> None: ...
    def wants_description(self, point: str) -> bool: ...
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

@final
class ProviderLink:
    """A provider's link to the daemon, which comes back for ever; used by one thread."""

    def __new__(
        cls,
        *,
        module: str,
        address: str | None = None,
        ticket: str = "",
        token_file: str | PathLike[str] | None = None,
        ca_file: str | PathLike[str] | None = None,
    ) -> ProviderLink: ...
    @property
    def address(self) -> str: ...
    def next(self, timeout_s: float) -> list[ProviderFrame]: ...
    def offer(self, hooks: list[OfferedHook], refused: Sequence[tuple[str, str]]) -> None: ...
    def answer(self, answers: list[Answer]) -> None: ...

def attach(
    *,
    run: str,
    address: str | None,
    token_file: str | PathLike[str] | None,
    ca_file: str | PathLike[str] | None,
    hooks: Sequence[Mapping[str, object]],
    capabilities: Sequence[str],
    allow: Sequence[str] | None,
    gathers: bool,
    place: tuple[int, int] | None,
    timeout_s: float,
) -> Session: ...
def close_all(each: Sequence[tuple[Session, str, bool]]) -> None: ...
