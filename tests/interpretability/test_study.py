"""The registry of analyses."""

from __future__ import annotations

from importlib import import_module

import pytest

from netinv_lightning.config.schema import ANALYSES


@pytest.mark.parametrize("target", ANALYSES.values())
def test_every_analysis_exists(target: str) -> None:
    module, function = target.split(":")
    assert callable(getattr(import_module(module), function))
