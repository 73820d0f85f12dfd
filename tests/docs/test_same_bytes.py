"""`experiments.same_bytes` finds a difference in numbers, samples or weights, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from experiments.run_results import differences
from experiments.same_bytes import RUNS, computed
from netinv_lightning.config.application_schema import APPLICATION_KEYS


def finished(
    folder: Path, accuracy: float = 0.5, seconds: float = 1.0, pixel: float = 0.0, weight: int = 1
) -> Path:
    """Write the files of a run that contain its numbers, samples and weights."""
    (folder / "samples").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    summary = {"inversion/accuracy": accuracy, "time/seconds": seconds}
    (folder / "summary.json").write_text(json.dumps(summary))
    save_file({"images": torch.full((2, 3), pixel)}, folder / "samples" / "samples.safetensors")
    state = {"state_dict": {"weight": torch.tensor([weight])}}
    torch.save(state, folder / "checkpoints" / "last.ckpt")
    return folder


def test_times_are_no_difference(tmp_path: Path) -> None:
    one, two = (computed(finished(tmp_path / str(s), seconds=s)) for s in (1.0, 2.0))
    assert list(differences(one, two)) == []


@pytest.mark.parametrize(
    "changed",
    [
        lambda folder: finished(folder, accuracy=0.5000001),
        lambda folder: finished(folder, pixel=1e-7),
        lambda folder: finished(folder, weight=2),
    ],
    ids=["number", "sample", "weight"],
)
def test_each_changed_value_is_one_difference(
    tmp_path: Path, changed: Callable[[Path], Path]
) -> None:
    one, two = computed(finished(tmp_path / "one")), computed(changed(tmp_path / "two"))
    assert len(list(differences(one, two))) == 1


def test_every_application_has_a_run() -> None:
    commands = [" ".join(command) for command in RUNS.values()]
    without = {
        name
        for name in APPLICATION_KEYS
        if name != "invert" and not any(f"application={name}" in command for command in commands)
    }
    assert without == set()
