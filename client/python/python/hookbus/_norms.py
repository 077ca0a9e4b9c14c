"""The mean of the norm layers' states over all ranks: mmdet 3.3.0's SyncNormHook, with its choice of modules, its
float32 arithmetic and its one collective. Learnable weights are averaged too, as the original does.

Never imports a framework: a model of PyTorch's is there, so PyTorch is.
"""

from __future__ import annotations

import sys

from ._ranks import keep

TYPE_CHECKING = False  # typing itself is half of an import; a type checker reads this as true
if TYPE_CHECKING:
    from typing import Any


def sync(model: Any, distributed: Any) -> str | None:
    """Averages in place. Returns what was done, for the record; None: there was nothing to average."""
    from collections import OrderedDict

    torch: Any = sys.modules["torch"]
    world_size = distributed.get_world_size()
    states = states_of(model)
    if world_size == 1 or not states:
        return None
    flat = keep(torch.cat([state.flatten().float() for state in states.values()]))
    distributed.all_reduce(flat, op=distributed.ReduceOp.SUM)
    flat /= world_size
    parts = torch.split(flat, [state.numel() for state in states.values()])
    each = zip(states.items(), parts, strict=True)
    means = OrderedDict((name, part.reshape(state.shape)) for (name, state), part in each)
    model.load_state_dict(means, strict=False)
    return f"mean of {len(states)} tensors over {world_size} ranks"


def states_of(model: Any) -> dict[str, Any]:
    """Of every layer of PyTorch's _NormBase (batch norm, synchronised too, and instance norm) all states, in the order
    of named_modules()."""
    norm = sys.modules["torch"].nn.modules.batchnorm._NormBase
    states = {}
    for name, module in model.named_modules():
        if isinstance(module, norm):
            states.update({f"{name}.{key}": state for key, state in module.state_dict().items()})
    return states
