"""A Runner's validation alone, over several ranks: validation.py SETTINGS.json RECORD.json"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from rig import Rig
from torch import distributed, nn

DEFAULTS: dict[str, Any] = {"attached": [0, 1], "asked": [], "classes": ["cat", "dog"], "heads": 2}


class Pictures:
    def __init__(self, classes: list[str]) -> None:
        self.metainfo = {"classes": tuple(classes)}


def main(settings: dict[str, Any]) -> dict[str, Any]:
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    model = nn.Sequential(nn.BatchNorm1d(2))
    nn.init.constant_(model[0].weight, rank)
    model.bbox_head = nn.Module()
    model.bbox_head.num_classes = settings["heads"]
    rig = Rig(None, Path(tempfile.mkdtemp()), settings["asked"], model)
    rig.hook._arguments.update(ranks_timeout_s=1.0 if len(settings["attached"]) < 2 else 30.0)
    if rank not in settings["attached"]:
        rig.runner._hooks.clear()
    rig.validates(Pictures(settings["classes"]))
    for point in ("before_run", "before_val", "before_val_epoch"):
        rig.reach(point)
    distributed.barrier()  # each rank is here, whatever became of hookbus
    rig.end()
    if rig.hook.bus is not None:
        rig.hook.bus.close()
    return {
        "stopped": rig.stop and str(rig.stop),
        "weight": model[0].weight.tolist(),
        "errors": [text for level, text in rig.logs if level == "ERROR"],
    }


if __name__ == "__main__":
    record = main(DEFAULTS | json.loads(Path(sys.argv[1]).read_text()))
    Path(sys.argv[2]).write_text(json.dumps(record))
