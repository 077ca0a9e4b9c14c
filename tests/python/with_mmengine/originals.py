"""MMDetection's genuine hook classes, unmodified, without the rest of MMDetection.

Importing them the usual way imports every detector, plotting and COCO's tools. Here the packages around the hooks'
files are empty. Of what the files import, one thing is played that cannot change a hook: `DetDataSample`, a name in
annotations.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import mmdet

EMPTY = (
    "mmdet.engine",
    "mmdet.engine.hooks",
    "mmdet.models",
    "mmdet.models.roi_heads",
    "mmdet.models.roi_heads.mask_heads",
    "mmdet.structures",
    "mmdet.utils",
)


def _empty(name: str) -> ModuleType:
    package = ModuleType(name)
    package.__path__ = [str(Path(mmdet.__file__).parent.joinpath(*name.split(".")[1:]))]
    sys.modules[name] = package
    return package


def _take(package: str, file: str, *names: str) -> None:
    """Puts names of a genuine file where its package would have put them."""
    module = importlib.import_module(f"{package}.{file}")
    for name in names:
        setattr(sys.modules[package], name, getattr(module, name))


assert not set(EMPTY) & set(sys.modules), "MMDetection is imported already"
for _name in EMPTY:
    _empty(_name)
sys.modules["mmdet.structures"].DetDataSample = object  # type: ignore[attr-defined]
_take("mmdet.utils", "typing_utils", "ConfigType", "MultiConfig", "OptConfigType")
_take("mmdet.utils", "dist_utils", "all_reduce_dict")
_take("mmdet.models.roi_heads.mask_heads", "fused_semantic_head", "FusedSemanticHead")

from mmcv.cnn import VGG  # noqa: E402
from mmdet.engine.hooks.checkloss_hook import CheckInvalidLossHook  # noqa: E402
from mmdet.engine.hooks.memory_profiler_hook import MemoryProfilerHook  # noqa: E402
from mmdet.engine.hooks.num_class_check_hook import NumClassCheckHook  # noqa: E402
from mmdet.engine.hooks.set_epoch_info_hook import SetEpochInfoHook  # noqa: E402
from mmdet.engine.hooks.sync_norm_hook import SyncNormHook  # noqa: E402
from mmdet.engine.hooks.yolox_mode_switch_hook import YOLOXModeSwitchHook  # noqa: E402
from mmdet.models.roi_heads.mask_heads import FusedSemanticHead  # noqa: E402


def _class_of(file: str, name: str) -> type:
    """One class of a file whose other imports are not wanted, as it stands there, with the names that it uses."""
    import ast
    import random

    import torch
    from mmengine.dist import barrier, broadcast, get_dist_info
    from mmengine.logging import MessageHub

    path = Path(mmdet.__file__).parent / file
    named = {node.name: node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)}
    node = named[name]
    node.decorator_list = []  # it is registered by nobody else here
    space = {
        "random": random, "torch": torch, "nn": torch.nn, "F": torch.nn.functional, "Tensor": torch.Tensor,
        "List": list, "Tuple": tuple, "DetDataSample": object, "MessageHub": MessageHub, "barrier": barrier,
        "broadcast": broadcast, "get_dist_info": get_dist_info, "__name__": __name__,
    }  # fmt: skip
    exec(compile(ast.Module([node], []), str(path), "exec"), space)
    return space[name]  # type: ignore[return-value]


BatchSyncRandomResize = _class_of("models/data_preprocessors/data_preprocessor.py", "BatchSyncRandomResize")

__all__ = [
    "VGG",
    "BatchSyncRandomResize",
    "CheckInvalidLossHook",
    "FusedSemanticHead",
    "MemoryProfilerHook",
    "NumClassCheckHook",
    "SetEpochInfoHook",
    "SyncNormHook",
    "YOLOXModeSwitchHook",
]
