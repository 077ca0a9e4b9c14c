"""What a model and its datasets are, for hooks that compare them: read by duck typing, as NumClassCheckHook reads them.

Never raises and never imports: where a class is not imported, nothing is an instance of it.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing itself is half of an import; a type checker reads this as true
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._native import Session

# neither is a head of the dataset's classes; subclasses count, classes of the same name elsewhere do not
VGG = ("mmcv.cnn.vgg", "VGG")
FUSED_SEMANTIC_HEAD = ("mmdet.models.roi_heads.mask_heads.fused_semantic_head", "FusedSemanticHead")


def describe(session: Session, model: object, datasets: Mapping[str, object]) -> str | None:
    """Tells the session; `datasets` by phase, "train" and "val". Returns why it could not, in one line."""
    try:
        session.describe(type(model).__name__, heads(model), {phase: of(data) for phase, data in datasets.items()})
    except Exception as error:  # the model's and the dataset's own code
        return f"{type(error).__name__}: {error}"
    return None


def heads(model: object) -> list[tuple[str, str, object, bool, bool]]:
    """Every module with `num_classes`, in the order of named_modules()."""
    found = []
    for name, module in model.named_modules():  # type: ignore[attr-defined]
        if hasattr(module, "num_classes"):
            kinds = (_is(module, VGG), _is(module, FUSED_SEMANTIC_HEAD))
            found.append((name, type(module).__name__, module.num_classes, *kinds))
    return found


def of(dataset: object) -> tuple[str, object]:
    """Its class, and the `classes` of its metainfo or None."""
    return type(dataset).__name__, dataset.metainfo.get("classes", None)  # type: ignore[attr-defined]


def _is(module: object, where: tuple[str, str]) -> bool:
    kind = getattr(sys.modules.get(where[0]), where[1], None)
    return isinstance(kind, type) and isinstance(module, kind)
