"""Sweeps of W&B: their parameters are overrides, and their jobs keep the agent's id."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.config.validate import check
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.tracking.loggers import open_loggers
from tests.tracking.offline_runs import parts

Compose = Callable[..., DictConfig]

# wandb-workspaces uses a deprecated form of pydantic models.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")

SWEEP = Path(__file__).parents[2] / "experiments" / "wandb_sweep.yaml"


def choices(parameter: dict[str, Any]) -> list[Any]:
    return parameter.get("values") or [parameter["min"], parameter["max"]]


def test_every_parameter_of_the_wandb_sweep_is_an_override() -> None:
    sweep = yaml.safe_load(SWEEP.read_text())
    assert sweep["metric"] == {"name": names.TRANSFER_ACCURACY, "goal": "maximize"}
    assert sweep["command"][:4] == ["${env}", "python", "-m", "netinv_lightning.run"]
    assert sweep["command"][-1] == "${args_no_hyphens}"
    fixed = sweep["command"][4:-1]
    OverridesParser.create().parse_overrides(fixed)
    for key, parameter in sweep["parameters"].items():
        assert set(parameter) in ({"values"}, {"distribution", "min", "max"})
        for value in choices(parameter):
            cfg = netinv_lightning.compose([*fixed, f"{key}={value}"])
            check(cfg)
            assert OmegaConf.select(cfg, key) == value
            assert cfg.logger.name == "wandb"


# W&B does not close the agent's file.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_wandb_sweep_job_has_the_agents_id_and_its_config(
    compose: Compose, job_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W&B's agent passes the id of the run, and writes the chosen values to a file."""
    chosen = {
        key: choices(parameter)[0]
        for key, parameter in yaml.safe_load(SWEEP.read_text())["parameters"].items()
    }
    path = tmp_path / "parameters.yaml"
    path.write_text(
        yaml.safe_dump(
            {"wandb_version": 1, **{key: {"value": value} for key, value in chosen.items()}}
        )
    )
    with monkeypatch.context() as patch:
        patch.setenv("WANDB_SWEEP_ID", "sweep1")
        patch.setenv("WANDB_RUN_ID", "agents1")
        patch.setenv("WANDB_SWEEP_PARAM_PATH", str(path))
        wandb.teardown()  # W&B reads its environment only once
        cfg = compose(
            "logger=wandb",
            "logger.mode=offline",
            *(f"{key}={value}" for key, value in chosen.items()),
        )
        run_dir = RunDir(job_dir)
        with run_dir.open(cfg), open_loggers(cfg, run_dir):
            pass
    wandb.teardown()
    (part,) = parts(job_dir)
    assert part["run_id"] == run_dir.status["wandb_run_id"] == "agents1"
    assert part["config"]["conditioning"]["mode"] == "label"
    assert part["config"]["loss"]["kl"]["weight"] == 1
