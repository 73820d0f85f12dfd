"""The config of `resume=RUN_DIRECTORY`: keys that may change, and steps that may be added."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

import netinv_lightning
from netinv_lightning.errors import InputError
from netinv_lightning.runs.resume import resumed_config
from netinv_lightning.runs.run_directory import RunDir
from tests.conftest import FEW_STEPS

Compose = Callable[..., DictConfig]


def left_behind(job_dir: Path, cfg: DictConfig, state: str) -> None:
    """Write what `resume=` reads of a run."""
    job_dir.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, job_dir / "config.yaml", resolve=True)
    RunDir(job_dir).record(state=state)


def refused(job_dir: Path, *overrides: str) -> str:
    """Return the message that refuses `resume=job_dir` with these overrides."""
    given = [f"resume={job_dir}", *overrides]
    with pytest.raises(InputError) as error:
        resumed_config(netinv_lightning.compose(given), given)
    return str(error.value).removeprefix(f"resume={job_dir}: ")


def test_refused_keys_are_those_of_the_command_line(compose: Compose, job_dir: Path) -> None:
    left_behind(job_dir, compose("name=mine", "seed=4"), "done")
    resume = f"resume={job_dir}"
    for keys in (["seed=3"], ["application.lr=1.0", "application.steps=12"]):
        with pytest.raises(
            InputError,
            match=rf"{job_dir}: {keys[0].split('=')[0]} cannot be changed in a resumed run",
        ):
            resumed_config(compose(resume, *keys), [resume, *keys])
    longer = resumed_config(
        compose(resume, "application.steps=12"), [resume, "application.steps=12"]
    )
    assert (longer.application.steps, longer.seed, longer.name) == (12, 4, "mine")


def test_a_finished_run_is_not_run_again(compose: Compose, job_dir: Path) -> None:
    """It may be trained longer, but not shorter, and not again with the same config."""
    left_behind(job_dir, compose(), "done")
    line = "the run is finished; to train longer, set application.steps above 8"
    assert refused(job_dir) == line
    assert refused(job_dir, "application=invert", *FEW_STEPS) == line
    assert refused(job_dir, "application.steps=8") == line
    fewer = f"the run in {job_dir} has done 8 steps; set 8 or more, or start a new run"
    assert refused(job_dir, "application.steps=7") == f"application.steps=7: {fewer}"


def test_a_run_ends_at_its_checkpoint_but_not_before(compose: Compose, job_dir: Path) -> None:
    left_behind(job_dir, compose("application.steps=20"), "running")
    (job_dir / "checkpoints").mkdir()
    torch.save({"global_step": 8}, job_dir / "checkpoints" / "last.ckpt")
    assert "has done 8 steps" in refused(job_dir, "application.steps=7")
    given = [f"resume={job_dir}", "application.steps=8"]
    assert resumed_config(netinv_lightning.compose(given), given).application.steps == 8
    (job_dir / "checkpoints" / "last.ckpt").write_bytes(b"damaged")
    assert refused(job_dir, "application.steps=7").startswith(
        f"{job_dir}/checkpoints/last.ckpt: cannot be read"
    )


def test_only_inversions_can_be_trained_longer(job_dir: Path) -> None:
    """The learning rate of other trainings is scheduled for all of their steps."""
    cfg = netinv_lightning.compose(["application=finetune", "application.run=runs/mine"])
    left_behind(job_dir, cfg, "failed")
    assert refused(job_dir, "application.steps=500").startswith(
        "application.steps cannot be changed in a resumed run"
    )
    left_behind(job_dir, cfg, "done")
    assert refused(job_dir) == "the run is finished"
    assert (
        refused(job_dir, "measure.samples=50")
        == "the run is finished; to change measure.samples, start a new run"
    )
