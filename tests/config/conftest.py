"""Run directories that somebody else may have written."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from netinv_lightning.classifiers.zoo import zoo_path

CONFIG: dict[str, Any] = {
    "name": "theirs",
    "application": {"name": "invert"},
    "data": {"name": "mnist"},
    "classifier": {},
}
"""A run's config without most keys."""


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A path at which a gadget creates a file."""
    return tmp_path / "canary"


@pytest.fixture
def run_dir(tmp_path: Path) -> Callable[..., Path]:
    """Write a run directory with this network of the classifier and these other keys."""

    def write(network: Any = None, **keys: Any) -> Path:
        content = copy.deepcopy(CONFIG)
        content["classifier"]["network"] = network
        content["classifier"]["path"] = str(zoo_path("mnist_cnn"))
        for key, value in keys.items():
            at, (*parents, last) = content, key.split(".")
            for parent in parents:
                at = at.setdefault(parent, {})
            at[last] = value
        directory = tmp_path / "runs" / "theirs" / "1"
        (directory / "checkpoints").mkdir(parents=True, exist_ok=True)
        (directory / "checkpoints" / "last.ckpt").touch()
        (directory / "config.yaml").write_text(yaml.safe_dump(content))
        (directory / "status.json").write_text(json.dumps({"state": "done"}))
        return directory

    return write
