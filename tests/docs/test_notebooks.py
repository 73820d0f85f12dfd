"""The notebooks of docs/notebooks: their cells run in order, in tiny sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import FEW_STEPS

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
TINY = {
    "first_inversion": {"STEPS": 8, "SHORT": FEW_STEPS},
    "your_own_network": {"STEPS": 8, "SHORT": FEW_STEPS},
    "audit": {
        "EPOCHS": 20,
        "TRAINING": ["classifier.network.widths=[32]"],
        "ATTACK": ["method.steps=4", "method.candidates=30", *FEW_STEPS[5:]],
        "AUDIT": ["application.reconstructions=30", "application.members=60"],
    },
    "detector": {"SAMPLES": 100, "DETECTORS": "[msp,knn]", "GARBAGE": []},
}
"""Values of the names in each notebook's cell of parameters."""


def cells(name: str) -> list[dict[str, Any]]:
    content = json.loads((FOLDER / f"{name}.ipynb").read_text())
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


def run_cells(name: str) -> dict[str, Any]:
    """Run the cells of code with the tiny parameters, and return the variables."""
    variables: dict[str, Any] = {"__name__": "notebook"}
    for cell in cells(name):
        exec(compile("".join(cell["source"]), f"{name}.ipynb", "exec"), variables)
        if "parameters" in cell["metadata"].get("tags", []):
            assert set(TINY[name]) <= set(variables)
            variables |= TINY[name]
    return variables


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a notebook work in an empty folder, and put its runs there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_the_first_inversion_ends_with_images_of_the_labels() -> None:
    after = run_cells("first_inversion")
    assert after["paper"].verdict
    assert after["paper"].cfg.application.steps == 8
    assert after["natural"].cfg.loss.batch_norm.weight > 0
    assert after["images"].shape == (3, 1, 28, 28)


def test_an_own_network_is_inverted_with_its_normalisation() -> None:
    after = run_cells("your_own_network")
    assert after["result"].classifier.spec.shape == (3, 32, 32)
    assert tuple(after["result"].classifier.spec.std) == (0.25, 0.25, 0.25)
    assert len(after["per_class"]) == 5


def test_an_audit_compares_members_with_others() -> None:
    after = run_cells("audit")
    assert 0 <= after["metrics"]["reconstruction/auc"] <= 1
    assert (after["folder"] / "audit.md").is_file()


def test_a_detector_rejects_a_share_of_other_images() -> None:
    after = run_cells("detector")
    assert after["metrics"]["ood/knn/gaussian_noise/auroc"] > 0.5
    assert 0 <= float(after["share"]) <= 1


def test_every_notebook_is_run_here_and_has_no_outputs() -> None:
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(TINY)
    for name in TINY:
        assert all(cell["outputs"] == [] for cell in cells(name))
        assert "SOURCE" in "".join(cells(name)[0]["source"])  # the first cell installs
