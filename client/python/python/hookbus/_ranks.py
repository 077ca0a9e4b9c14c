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
        differ: Callable[[str], None],
        *,
        timeout_s: float = TIMEOUT_S,
        every: int = EVERY,
        evaluates: bool = False,
    ) -> None:
        self._session = session
        self._log = log
        self._say = say  # what all ranks must be the same in
        self._differ = differ  # told what else they are not the same in
        self._timeout_s = timeout_s
        self._every = max(1, int(every))
        self._evaluates = evaluates
        self._distributed: Any = None
        self._group: Any = None
        self._rank = 0
        self._world_size = 1

    def gather(self, training: bool) -> None:
        """Finds out whether there are others, and agrees with them where training begins."""
        distributed = process_group()
        try:
            if distributed is not None and distributed.get_world_size() > 1:
                if training:
                    self._distributed = distributed
                    self._agree()
            elif training or self._session.rank()[1] < 2:  # else the group may still come up
                self._session.alone()
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
        mine["whether orders wait for this"] = self._session.is_gathering()
        store = distributed.distributed_c10d._get_default_store()
        agreed, why = _agreement.reach(store, self._rank, self._world_size, mine, self._timeout_s, self._log.warning)
        if not agreed:
            self._off(why)
        elif not mine["whether gloo can be used"]:
            self._off("the ranks could meet by gloo only, and it cannot be used here")
        elif not mine["whether orders wait for this"]:
            self._off("torch.distributed came up after a point of the training had been reached: bring it up before")
        else:
            self._group = distributed.new_group(backend="gloo")
            if why:
                self._differ(why)
            self._session.agree(self._rank == 0, self._every, self._evaluates)
            self.exchange(0)

    def leave(self) -> None:
        """At the end: ranks that would still wait for this one need not, and gloo's threads end."""
        group, self._group = self._group, None
        if group is not None and process_group() is not None:
            self._destroy(group)

    def exchange(self, tag: int) -> None:
        """Rank 0 hands over what is new: sixteen bytes, and more only if there is something."""

        def exchange(group: Any) -> None:
            offered = bytearray(self._session.offer() if self._rank == 0 else b"")
            share = self._handed_over(group, tag, offered)
            if share:
                wrong = self._session.take_share(share)
                if wrong is not None:
                    raise RuntimeError(wrong)

        self._meet(exchange)

    def lowest(self, tag: int, held: list[bool]) -> list[int | None]:
        """For each condition the lowest rank where it holds, the same on all ranks."""

        def reduce(group: Any) -> list[int | None]:
            self._begin(group, tag)
            nobody = self._world_size
            lowest = self._least(group, [self._rank if holds else nobody for holds in held])
            return [None if rank == nobody else rank for rank in lowest]

        return self._meet(reduce) or [None] * len(held)

    def verdict(self, tag: int, answer: bytes) -> bytes:
        """What rank 0 has as an answer, on all ranks."""
        return self._meet(lambda group: self._handed_over(group, tag, bytearray(answer))) or b""

    def _begin(self, group: Any, tag: int, length: int = 0) -> int:
        """Every meeting begins alike, so that ranks at different points see it. Returns rank 0's length."""
        torch = sys.modules["torch"]
        header = keep(torch.tensor([tag, length], dtype=torch.int64, device="cpu"))
        self._distributed.broadcast(header, 0, group=group)
        theirs, length = header.tolist()
        if theirs != tag:
            raise RuntimeError(
                f"rank {self._rank} is at iteration {tag >> 8} and rank 0 at {theirs >> 8}, or at another point of it: "
                "every rank must make the same iterations and reach the same points"
            )
        return int(length)

    def _handed_over(self, group: Any, tag: int, ours: bytearray) -> bytes:
        """Rank 0's bytes, once every rank has them."""
        length = self._begin(group, tag, len(ours))
        if not length:
            return b""
        torch = sys.modules["torch"]
        buffer = ours if self._rank == 0 else bytearray(length)
        self._distributed.broadcast(keep(torch.frombuffer(buffer, dtype=torch.uint8)), 0, group=group)
        self._least(group, [1])  # rank 0's broadcast is over before the others have it
        return bytes(buffer)

    def _least(self, group: Any, numbers: list[int]) -> list[int]:
        """Of each number the least over all ranks."""
        torch = sys.modules["torch"]
        tensor = keep(torch.tensor(numbers, dtype=torch.int64, device="cpu"))
        self._distributed.all_reduce(tensor, op=self._distributed.ReduceOp.MIN, group=group)
        least: list[int] = tensor.tolist()
        return least

    def _meet(self, collective: Callable[[Any], Any]) -> Any:
        """A collective of ours; None where it failed: a rank is gone, say, and the trainer's own fail just the same."""
        group = self._group  # taken once: a signal's handler may close the bus meanwhile, and None is the trainer's own
        if group is None:
            return None
        try:
            return collective(group)
        except Exception as error:
            self._part(error)
            return None

    def _part(self, error: Exception) -> None:
        group, self._group = self._group, None
        self._session.part()
        if group is None or process_group() is None:
            return  # the bus was closed meanwhile, or the trainer has taken its process group down: nobody waits
        self._log.error(
            f"hookbus: the ranks of this job cannot meet any more ({named(error)}); what is in force stays, no order "
            "and no gate reaches it from now on, the training goes on"
        )
        self._destroy(group)  # the others need not wait for this rank

    def _destroy(self, group: Any) -> None:
        try:
            self._distributed.destroy_process_group(group)
        except Exception:
            pass  # it is as good as gone

    def _off(self, why: str) -> None:
        self._session.off(why)
        self._log.error(f"hookbus: {why}. hookbus is off on every rank that has it; the training goes on")
