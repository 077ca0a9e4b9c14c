"""Several ranks, one decision: what a job's ranks do together, by their own torch.distributed.

A stop or a change that reached one rank only would leave the others waiting in a collective for ever. So what concerns
the whole job comes from rank 0, at points that all reach. Never imports a framework, holds no policy, and never raises
but a signal: where the ranks cannot meet any more, what is in force stays and the training goes on.
"""

from __future__ import annotations

import sys
from collections import deque

from . import _agreement
from ._actions import named
from ._facts import process_group

TYPE_CHECKING = False  # typing itself is half of an import; a type checker reads this as true
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from ._log import TrainerLog
    from ._native import Session

TIMEOUT_S = 60.0
EVERY = 10  # iterations

# Of the last collectives. gloo's thread lets go of a tensor a moment after a collective has returned. Were it the last
# to do so it would want the interpreter's lock; where the process ends just then there is none, and it is aborted.
_kept: deque[object] = deque(maxlen=16)


def keep(tensor: Any) -> Any:
    """For a tensor that goes into a collective."""
    _kept.append(tensor)
    return tensor


def _has_gloo(distributed: Any) -> bool:
    """Whether a group of ours can be made here. Found out before the ranks agree: one that fails alone would leave the
    others waiting."""
    try:
        if not getattr(distributed, "is_gloo_available", lambda: True)():
            return False
        device = getattr(distributed.distributed_c10d.ProcessGroupGloo, "create_default_device", None)
        if device is not None:
            device()  # by this machine's name, or GLOO_SOCKET_IFNAME
    except Exception:
        return False
    return True


class Ranks:
    """What the native session calls on the training thread, where ranks may have to act together."""

    def __init__(
        self,
        session: Session,
        log: TrainerLog,
        say: Callable[[], Mapping[str, object]],
        *,
        timeout_s: float = TIMEOUT_S,
        every: int = EVERY,
        evaluates: bool = False,
    ) -> None:
        self._session = session
        self._log = log
        self._say = say  # what all ranks must be the same in
        self._timeout_s = timeout_s
        self._every = max(1, int(every))
        self._evaluates = evaluates
        self._distributed: Any = None
        self._group: Any = None
        self._rank = 0
        self._world_size = 1
        self._shares = 0

    def gather(self, training: bool) -> None:
        """Finds out whether there are others, and agrees with them where training begins."""
        distributed = process_group()
        try:
            if distributed is None or distributed.get_world_size() < 2:
                self._session.alone()
            elif training:
                self._distributed = distributed
                self._agree()
        except Exception as error:
            self._off(f"the ranks could not agree ({named(error)})")

    def _agree(self) -> None:
        distributed = self._distributed
        self._rank, self._world_size = distributed.get_rank(), distributed.get_world_size()
        mine = {
            "world size": max(self._session.rank()[1], self._world_size),
            **self._say(),
            "iterations between two meetings": self._every,
            "whether every rank validates": self._evaluates,
        }
        mine["whether gloo can be used"] = _has_gloo(distributed)
        store = distributed.distributed_c10d._get_default_store()
        agreed, why = _agreement.reach(store, self._rank, self._world_size, mine, self._timeout_s, self._log.warning)
        if not agreed:
            self._off(why)
        elif not mine["whether gloo can be used"]:
            self._off("the ranks could meet by gloo only, and it cannot be used here")
        else:
            self._group = distributed.new_group(backend="gloo")
            self._session.agree(self._rank == 0, self._every, self._evaluates)
            self.exchange()

    def exchange(self) -> None:
        """Rank 0 hands over what is new: sixteen bytes, and more only if there is something."""
        self._meet(self._exchange)

    def _exchange(self) -> None:
        torch = sys.modules["torch"]
        offered = bytearray(self._session.offer() if self._rank == 0 else b"")
        header = keep(torch.tensor([self._shares + bool(offered), len(offered)], dtype=torch.int64, device="cpu"))
        self._distributed.broadcast(header, 0, group=self._group)
        self._shares, length = header.tolist()
        if length:
            wrong = self._session.take_share(self._broadcast(offered, length))
            if wrong is not None:
                raise RuntimeError(wrong)

    def _broadcast(self, ours: bytearray, length: int) -> bytes:
        torch = sys.modules["torch"]
        buffer = ours if self._rank == 0 else bytearray(length)
        self._distributed.broadcast(keep(torch.frombuffer(buffer, dtype=torch.uint8)), 0, group=self._group)
        return bytes(buffer)

    def lowest(self, held: list[bool]) -> list[int | None]:
        """For each condition the lowest rank where it holds, the same on all ranks."""

        def reduce() -> list[int | None]:
            torch = sys.modules["torch"]
            nobody = self._world_size
            mine = [self._rank if holds else nobody for holds in held]
            flags = keep(torch.tensor(mine, dtype=torch.int64, device="cpu"))
            self._distributed.all_reduce(flags, op=self._distributed.ReduceOp.MIN, group=self._group)
            return [None if rank == nobody else rank for rank in flags.tolist()]

        return self._meet(reduce) or [None] * len(held)

    def verdict(self, answer: bytes) -> bytes:
        """What rank 0 has as an answer, on all ranks."""

        def broadcast() -> bytes:
            torch = sys.modules["torch"]
            header = keep(torch.tensor([len(answer)], dtype=torch.int64, device="cpu"))
            self._distributed.broadcast(header, 0, group=self._group)
            (length,) = header.tolist()
            return self._broadcast(bytearray(answer), length) if length else b""

        return self._meet(broadcast) or b""

    def _meet(self, collective: Callable[[], Any]) -> Any:
        """A collective of ours; None where it failed: a rank is gone, say, and the trainer's own fail just the same."""
        if self._group is None:
            return None
        try:
            return collective()
        except Exception as error:
            self._part(error)
            return None

    def _part(self, error: Exception) -> None:
        group, self._group = self._group, None
        self._session.part()
        if process_group() is None:
            return  # the trainer has taken its process group down: there is nobody to wait for
        self._log.error(
            f"hookbus: the ranks of this job cannot meet any more ({named(error)}); what is in force stays, no order "
            "and no gate reaches it from now on, the training goes on"
        )
        try:
            self._distributed.destroy_process_group(group)  # the others need not wait for this rank
        except Exception:
            pass  # it is as good as gone

    def _off(self, why: str) -> None:
        self._session.off(why)
        self._log.error(f"hookbus: {why}. hookbus is off on every rank that has it; the training goes on")
