"""Descriptions of networks that run code, load files or reach the network, in several forms."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

CNN = "netinv_lightning.classifiers.networks.CNN"
RUN = "torch.utils.collect_env.run"
GADGETS: dict[str, dict[str, Any]] = {
    "shell": {"_target_": RUN, "command": "touch CANARY"},
    "os.system": {"_target_": "os.system", "command": "touch CANARY"},
    "subprocess": {"_target_": "subprocess.run", "args": ["touch", "CANARY"]},
    "eval": {"_target_": "builtins.eval", "_args_": ["open('CANARY', 'w')"]},
    "exec": {"_target_": "builtins.exec", "_args_": ["open('CANARY', 'w')"]},
    "torch.load": {"_target_": "torch.load", "f": "EVIL", "weights_only": False},
    "joblib.load": {"_target_": "joblib.load", "filename": "EVIL"},
    "pandas": {"_target_": "pandas.read_pickle", "filepath_or_buffer": "EVIL"},
    "numpy": {"_target_": "numpy.load", "file": "EVIL", "allow_pickle": True},
    "runpy": {"_target_": "runpy.run_path", "path_name": "EVIL"},
    "torch.hub": {
        "_target_": "torch.hub.load",
        "repo_or_dir": "EVIL",
        "model": "m",
        "source": "local",
    },
    "pathlib": {
        "_target_": "pathlib.Path.write_text",
        "_args_": [{"_target_": "pathlib.Path", "_args_": ["CANARY"]}, "x"],
    },
    "partial": {"_target_": "os.system", "command": "touch CANARY", "_partial_": True},
    "timm hub": {"_target_": "timm.create_model", "model_name": "hf-hub:someone/evil"},
    "timm folder": {"_target_": "timm.create_model", "model_name": "local-dir:EVIL"},
    "timm pretrained": {
        "_target_": "timm.create_model",
        "model_name": "resnet18",
        "pretrained": True,
    },
    "timm file": {
        "_target_": "timm.create_model",
        "model_name": "resnet18",
        "checkpoint_path": "EVIL",
    },
    "timm config": {
        "_target_": "timm.create_model",
        "model_name": "resnet18",
        "pretrained_cfg": {"file": "EVIL"},
    },
    "weights": {
        "_target_": "torchvision.models.get_model",
        "name": "resnet18",
        "weights": "DEFAULT",
    },
    "detector": {"_target_": "torchvision.models.get_model", "name": "fasterrcnn_resnet50_fpn"},
    "get_weight": {"_target_": "torchvision.models.get_weight", "name": "ResNet18_Weights.DEFAULT"},
    "submodule": {
        "_target_": "torchvision.models.utils.load_state_dict_from_url",
        "url": "http://127.0.0.1/",
    },
}
"""`CANARY` is a file that exists afterwards if the code ran."""
FORMS: dict[str, Callable[[dict[str, Any], str], dict[str, Any]]] = {
    "directly": lambda gadget, text: gadget,
    "nested": lambda gadget, text: {"_target_": CNN, "batch_norm": gadget},
    "in a list": lambda gadget, text: {"_target_": CNN, "stages": [[gadget]]},
    "decoded": lambda gadget, text: {"_target_": CNN, "batch_norm": f"${{oc.decode:'{text}'}}"},
    "created": lambda gadget, text: {
        "_target_": CNN,
        "batch_norm": f"${{oc.create:${{oc.decode:'{text}'}}}}",
    },
    "escaped": lambda gadget, text: {"_target_": CNN, "batch_norm": f"\\${{oc.decode:'{text}'}}"},
    "from the environment": lambda gadget, text: {"_target_": "${oc.env:GADGET}"},
    "as a key": lambda gadget, text: {"_target_": CNN, "${oc.env:GADGET}": 1},
}


def filled(gadget: dict[str, Any], canary: Path) -> dict[str, Any]:
    text = (
        json.dumps(gadget)
        .replace("CANARY", str(canary))
        .replace("EVIL", str(canary.with_name("evil")))
    )
    content: dict[str, Any] = json.loads(text)
    return content
