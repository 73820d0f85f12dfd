"""The page of hyper-parameters names keys that exist, with the values of the recipe."""

from __future__ import annotations

import re
from pathlib import Path

import netinv_lightning
from netinv_lightning.inversion.temperature import default_temperature

PAGE = Path(__file__).parents[2] / "docs" / "hyperparameters.md"
NOT_IN_THE_RECIPE = {
    "loss.l1.weight": "term not used",
    "loss.ce.label_smoothing": "0",
    "conditioning.temperature": "1 for ten classes",
}


def test_defaults_are_those_of_the_recipe() -> None:
    cfg = netinv_lightning.compose(["+experiment=mnist_invert"])
    rows = re.findall(r"^\| `([\w.]+)` \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    assert len(rows) == 13
    for key, default in rows:
        value = cfg
        for part in key.split("."):
            value = None if value is None else value.get(part)
        if value is None:
            assert NOT_IN_THE_RECIPE[key] == default
        else:
            numbers = [float(number) for number in re.findall(r"[\d.]+", default)]
            assert numbers == [float(x) for x in (value if key.endswith("betas") else [value])]
    assert default_temperature(10) == 1.0
