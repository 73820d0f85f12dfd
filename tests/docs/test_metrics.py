"""docs/metrics.md and the descriptions that it is made from: complete, current, within range."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from netinv_lightning import metric_names as names
from netinv_lightning.config.metric_descriptions import describe, descriptions

ROOT = Path(__file__).parents[2]
NOT_NUMBERS = {
    names.COST,
    names.INVERSION_CONFUSION,
    names.SAMPLES_GRID,
    names.SAMPLES_TABLE,
    names.STEP,
}


def test_the_page_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "docs"), *sys.path])
    import reference_pages

    assert (ROOT / "docs" / "metrics.md").read_text() == reference_pages.metrics_page(), (
        "run python docs/reference_pages.py"
    )


def test_every_named_metric_is_described() -> None:
    named = {
        value
        for name, value in vars(names).items()
        if name.isupper() and isinstance(value, str) and "/" in value
    } - NOT_NUMBERS
    assert len(named) > 60
    assert [name for name in named if not describe(name) and not describe(f"{name}/verifier")] == []


def test_every_number_of_a_run_is_described_and_in_range(inverted: Path) -> None:
    summary = json.loads((inverted / "summary.json").read_text())
    assert len(summary) > 20
    for name, value in summary.items():
        description = describe(name)
        assert description is not None, name
        assert description.low <= value <= description.high, name


def test_every_description_says_what_how_far_and_which_way() -> None:
    for of in descriptions():
        assert of.subject
        assert len(of.definition) > 10
        assert of.low < of.high
        assert of.better in ("higher", "lower", "")
    listed = [of.name for of in descriptions()]
    assert len(set(listed)) == len(listed)


def test_the_most_special_description_is_found() -> None:
    found = describe("ood/best/mean/auroc")
    assert found is not None
    assert "upper bound" in found.definition
    assert describe("nothing/at/all") is None
