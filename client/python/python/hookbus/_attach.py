"""`hookbus.attach`: from arguments to a Bus.

Never waits longer than `timeout_s`, and not at all where no daemon can be.
"""

from __future__ import annotations

import os
import sys

from . import _exit, _facts, _native
from ._bus import Bus
from ._log import TrainerLog

TYPE_CHECKING = False  # typing itself is half of an import; a type checker reads this as true
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TypeVar

    from ._log import Logger

    Kind = TypeVar("Kind", bound=Bus)


def attach(
    run: str | None = None,
    *,
    address: str | None = None,
    token_file: str | os.PathLike[str] | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    hooks: Iterable[Mapping[str, object]] = (),
    max_epochs: int | None = None,
    max_iters: int | None = None,
    iters_per_epoch: int | None = None,
    seed: int | None = None,
    size_multiple: int | None = None,
    allow: Iterable[str] | None = None,
    logger: Logger | None = None,
    timeout_s: float = 5.0,
    val_on_every_rank: bool = False,
    ranks_timeout_s: float = 60.0,
    ranks_every: int = 10,
    kind: type[Kind] = Bus,  # type: ignore[assignment]
) -> Kind:
    """Attaches this process to the daemon as one rank of a run, and returns the bus to report on.

    `run` is the run's name, by default the script's; HOOKBUS_RUN in the environment wins. `address` is
    `unix:///path`, `https://host:port` or `host:port`, by default HOOKBUS_ADDRESS, else the default socket. Over TCP a
    daemon wants the trainer's token: the first one in `token_file`, by default HOOKBUS_TOKEN_FILE, which only its owner
    may be able to read. TLS believes the authorities in `ca_file` (PEM), by default HOOKBUS_CA_FILE, else the machine's
    own. `hooks` are asked of the daemon,
    written as in an MMEngine config: `dict(type="MemoryProfilerHook", interval=50)`. Log lines of hooks go to `logger`,
    by default to `logging.getLogger("hookbus")`. Without a daemon there is one warning and everything is a no-op.

    `max_epochs`, `max_iters` and `iters_per_epoch` are what schedules are made from; `seed` is for random input sizes,
    `size_multiple` what they must be a multiple of. `allow` lists what this trainer takes from a daemon, by default
    everything: "stop", "log", "lr", "size", "mode", "set_epoch", "sync_norm", "checkpoint", "custom:NAME".

    Where torch.distributed is up, all ranks agree as training begins, and from then on apply the same at the same
    iteration: attach on every rank, or on none. Rank 0 hands over what is new every `ranks_every` iterations, by a
    broadcast of 16 bytes. A rank that has not come after `ranks_timeout_s`, or that says something else, switches
    hookbus off on all of them, with one error; the training goes on. `val_on_every_rank` says that every rank reaches
    the points of a validation: else what needs all of them there (NumClassCheckHook, SyncNormHook) is left out of it.
    With `allow=["log"]` a rank may attach alone: it is watched, and takes nothing that the others would have to know.
    """
    log = TrainerLog(logger)
    asked = [dict(hook) for hook in hooks]
    allowed = None if allow is None else list(allow)
    session = _native.attach(
        run=run if run else _script_name(),
        address=address,
        token_file=token_file,
        ca_file=ca_file,
        hooks=asked,
        capabilities=["log", "stop"],
        allow=allowed,
        place=_facts.place(),
        gathers=allowed is None or any(what != "log" for what in allowed),
        timeout_s=float(timeout_s),
    )
    status = session.status()
    for warning in status["warnings"]:
        log.warning(warning)
    for refusal in status["refused"]:
        log.warning(f"hookbus: refused: {refusal}")
    bus = kind(
        session,
        log,
        max_epochs=max_epochs,
        max_iters=max_iters,
        iters_per_epoch=iters_per_epoch,
        seed=seed,
        size_multiple=size_multiple,
        val_on_every_rank=val_on_every_rank,
        ranks_timeout_s=ranks_timeout_s,
        ranks_every=ranks_every,
        agreed_in={"hooks": repr(asked), "allow": repr(allowed and sorted(allowed))},
    )
    _exit.watch(bus)
    return bus


def _script_name() -> str:
    script = os.path.basename(sys.argv[0]) if sys.argv else ""
    name, _ = os.path.splitext(script)
    return name if name and name not in ("-c", "-m", "-") else "python"
