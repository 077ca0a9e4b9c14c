"""One rank of every recorded case of SyncNormHook with this many ranks: each a validation in a training of its own.

python norms.py SETTINGS.json RECORD.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from rig import CustomWrapper, Rig
from torch import nn
from train import RANK, WORLD_SIZE

Json = dict[str, Any]


class NormWithChild(nn.BatchNorm2d):
    def __init__(self, size: int, inner: int) -> None:
        super().__init__(size)
        self.inner = nn.Linear(inner, inner, bias=False)


def conv(state: Json, name: str) -> nn.Conv2d:
    out, into, *_ = state[f"{name}.weight"]["shape"]
    return nn.Conv2d(into, out, 1)


def group(**parts: nn.Module) -> nn.Module:
    made = nn.Module()
    for name, part in parts.items():
        made.add_module(name, part)
    return made


def model_of(name: str, state: Json) -> nn.Module:
    """A model of real modules, whose state has these names, types and shapes."""

    def size(layer: str, key: str = "weight") -> int:
        return state[f"{layer}.{key}" if layer else key]["shape"][0]

    def conv_bn(prefix: str = "") -> nn.Sequential:
        return nn.Sequential(conv(state, f"{prefix}0"), nn.BatchNorm2d(size(f"{prefix}1")))

    if name == "conv_bn2d":
        return conv_bn()
    if name == "bn1d_bn2d_bn3d":
        return group(a=nn.BatchNorm1d(size("a")), b=conv_bn("b."), z=nn.BatchNorm3d(size("z")))
    if name == "with_gn_ln":
        bn, gn, ln = nn.BatchNorm2d(size("bn")), nn.GroupNorm(1, size("gn")), nn.LayerNorm(size("ln"))
        return group(bn=bn, gn=gn, ln=ln, bn_last=nn.BatchNorm1d(size("bn_last")))
    if name == "syncbn":
        return nn.Sequential(conv(state, "0"), nn.SyncBatchNorm(size("1")))
    if name == "instance_norm":
        track = nn.InstanceNorm2d(size("track"), affine=True, track_running_stats=True)
        return group(affine=nn.InstanceNorm2d(size("affine"), affine=True), track=track)
    if name == "bn_no_track":
        return nn.Sequential(nn.BatchNorm2d(size("0"), track_running_stats=False), nn.BatchNorm2d(size("1")))
    if name == "bn_no_affine":
        return nn.Sequential(nn.BatchNorm2d(size("0", "running_mean"), affine=False), nn.BatchNorm2d(size("1")))
    if name == "only_gn":
        return nn.Sequential(conv(state, "0"), nn.GroupNorm(1, size("1")), nn.LayerNorm(size("2")))
    if name == "no_norm":
        return nn.Sequential(conv(state, "0"))
    if name == "ddp_like":
        return CustomWrapper(conv_bn("module."))
    if name == "root_is_bn":
        return nn.BatchNorm2d(size(""))
    if name == "shared_bn":
        shared = nn.BatchNorm2d(size("bn_a"))
        return group(conv=conv(state, "conv"), bn_a=shared, bn_b=shared)
    if name == "norm_with_child":
        return nn.Sequential(NormWithChild(size("0"), size("0.inner")))
    if name == "deep":
        inner = conv_bn("backbone.3.")
        backbone = nn.Sequential(*conv_bn("backbone."), nn.ReLU(), inner)
        out, into = state["bbox_head.0.weight"]["shape"]
        bbox_head = nn.Sequential(nn.Linear(into, out), nn.BatchNorm1d(size("bbox_head.1")))
        return group(backbone=backbone, neck=group(gn=nn.GroupNorm(1, size("neck.gn"))), bbox_head=bbox_head)
    dtype = name.removeprefix("bn_")
    assert dtype in ("float16", "bfloat16", "float64"), name
    return nn.Sequential(nn.BatchNorm2d(size("0"))).to(getattr(torch, dtype))


def tensor(recorded: Json) -> torch.Tensor:
    dtype = getattr(torch, recorded["dtype"])
    data = [float(value) if isinstance(value, str) else value for value in recorded["data"]]
    wide = torch.float64 if dtype.is_floating_point else dtype
    return torch.tensor(data, dtype=wide).to(dtype).reshape(recorded["shape"])


def written(value: torch.Tensor) -> Json:
    flat = value.detach().flatten()
    data = flat.double().tolist() if value.dtype.is_floating_point else flat.tolist()
    data = [str(number) if number != number or number in (float("inf"), -float("inf")) else number for number in data]
    return {"dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape), "data": data}


def went(case: Json, folder: Path) -> Json:
    given = case["input"]
    state = given["states"][RANK]
    model = model_of(given["model"], state)
    model.load_state_dict({name: tensor(value) for name, value in state.items()})
    assert list(model.state_dict()) == given["order"]
    rig = Rig(None, folder, [{"type": "SyncNormHook", **case["config"]}], model)
    rig.begin()
    rig.reach("before_train_epoch")
    rig.reach("after_train_epoch")
    rig.reach("before_val")
    reduced: list[list[Any]] = []
    reduce = torch.distributed.all_reduce

    def watched(value: torch.Tensor, *args: Any, **named: Any) -> Any:
        if named.get("group") is None:  # the trainer's own
            reduced.append([str(value.dtype).removeprefix("torch."), value.numel()])
        return reduce(value, *args, **named)

    torch.distributed.all_reduce = watched
    try:
        rig.reach("before_val_epoch")
    finally:
        torch.distributed.all_reduce = reduce
    rig.end()
    after = {name: written(value) for name, value in model.state_dict().items()}
    return {"state": after, "all_reduce": reduced, "said": rig.errors(), "stop": str(rig.stop)}


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    if WORLD_SIZE > 1:
        torch.distributed.init_process_group("gloo")
    cases = json.loads(Path(settings["file"]).read_text())["cases"]
    mine = [case for case in cases if case["input"]["world_size"] == WORLD_SIZE]
    record = {case["name"]: went(case, Path(settings["work_dir"])) for case in mine}
    Path(sys.argv[2]).write_text(json.dumps(record))


if __name__ == "__main__":
    main()
