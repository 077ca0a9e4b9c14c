"""The ranks of a job agree, once, on whether and where they meet: through their process group's store, before any
collective of ours, so that a rank without hookbus makes nobody hang.

Every rank says what it is about. Rank 0 compares, and whoever decides first decides for all: rank 0, or a rank that has
waited too long. Imports no framework.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False  # typing itself is half of an import; a type checker reads this as true
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    class Store(Protocol):
        """What all stores of torch.distributed have. Nothing here waits in the store: every call returns at once."""

        def add(self, key: str, amount: int) -> int: ...
        def set(self, key: str, value: str) -> None: ...
        def get(self, key: str) -> bytes: ...


PREFIX = "hookbus/agreement"
ASIDE = "norm layers of the model"  # ranks that differ in it agree all the same, and know it
AGREED = "agreed: "
TELL_AFTER_S = 5.0
PAUSES_S = (0.001, 0.05)
# of who has decided, for writing it down
WRITE_S = 60.0

_nth = 0  # of this process: each training's ranks agree anew


def reach(
    store: Store,
    rank: int,
    world_size: int,
    mine: Mapping[str, object],
    timeout_s: float,
    tell: Callable[[str], None],
) -> tuple[bool, str]:
    """Whether all ranks agree, the same on every rank, and why not, or what they differ in all the same. Waits for
    them, `timeout_s` at most."""
    global _nth
    agreement = _Agreement(store, f"{PREFIX}/{_nth}", rank, world_size, timeout_s, tell)
    _nth += 1
    return agreement.reach(mine)


class _Agreement:
    def __init__(
        self, store: Store, prefix: str, rank: int, world_size: int, timeout_s: float, tell: Callable[[str], None]
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._rank = rank
        self._world_size = world_size
        self._timeout_s = timeout_s
        self._tell = tell

    def reach(self, mine: Mapping[str, object]) -> tuple[bool, str]:
        import json

        whole = json.dumps(mine, default=lambda value: int(value) if hasattr(value, "__index__") else str(value))
        self._store.set(self._key(f"said/{self._rank}"), whole)
        self._store.add(self._key(f"here/{self._rank}"), 1)
        self._store.add(self._key("here"), 1)
        if self._rank == 0:
            self._wait(lambda: self._count("here") >= self._world_size or self._count("decided") > 0, self._missing)
            if self._count("here") < self._world_size:
                return self._decide(False, self._late(self._missing()))
            said = [json.loads(self._store.get(self._key(f"said/{rank}"))) for rank in range(self._world_size)]
            aside = [{ASIDE: one.pop(ASIDE, None)} for one in said]
            difference = differs(said)
            return self._decide(difference is None, difference or differs(aside) or "")
        if not self._wait(lambda: self._count("decided") > 0, self._missing):
            return self._decide(False, self._late(self._missing()))
        return self._decision()

    def _decide(self, agreed: bool, why: str) -> tuple[bool, str]:
        """The first one decides; all do what it says."""
        if self._store.add(self._key("decided"), 1) > 1:
            return self._decision()
        self._store.set(self._key("decision"), AGREED + why if agreed else why)
        self._store.add(self._key("written"), 1)
        return agreed, why

    def _decision(self) -> tuple[bool, str]:
        if not self._wait(lambda: self._count("written") > 0, None, WRITE_S):
            return False, "the rank that decided for all has died"
        decision = self._store.get(self._key("decision")).decode()
        return decision.startswith(AGREED), decision.removeprefix(AGREED)

    def _wait(
        self, reached: Callable[[], bool], missing: Callable[[], list[int]] | None, timeout_s: float | None = None
    ) -> bool:
        start = time.monotonic()
        until = start + (self._timeout_s if timeout_s is None else timeout_s)
        pause, told = PAUSES_S[0], False
        while not reached():
            now = time.monotonic()
            if now >= until:
                return False
            if missing is not None and not told and now - start >= min(TELL_AFTER_S, (until - start) / 2):
                told = True
                self._tell(
                    f"hookbus: waiting for {ranks(missing())} of {self._world_size} to attach, "
                    f"{self._timeout_s:.0f} s at most"
                )
            time.sleep(pause)
            pause = min(pause * 2, PAUSES_S[1])
        return True

    def _missing(self) -> list[int]:
        every = range(self._world_size)
        if self._rank > 0 and self._count("here/0") == 0:
            return [0]  # it counts the others
        return [rank for rank in every if self._count(f"here/{rank}") == 0]

    def _late(self, missing: list[int]) -> str:
        return (
            f"{ranks(missing)} of {self._world_size} did not attach within {self._timeout_s:.0f} s, rank {self._rank} "
            "did: attach on every rank, or on none"
        )

    def _count(self, name: str) -> int:
        return self._store.add(self._key(name), 0)

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}"


def differs(said: list[dict[str, object]]) -> str | None:
    """In one line, what two ranks disagree in first."""
    for key, expected in said[0].items():
        for rank, other in enumerate(said):
            if other.get(key) != expected:
                return f"ranks 0 and {rank} disagree in {key}: {expected} and {other.get(key)}"
    return None


def ranks(which: list[int]) -> str:
    """For people: "rank 1", "ranks 1, 3"."""
    some = ", ".join(str(rank) for rank in which[:16]) + (", ..." if len(which) > 16 else "")
    return f"rank{'' if len(which) == 1 else 's'} {some}"
