"""The meaning of `auto` for precision and accelerator."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.accelerators import MPSAccelerator
from omegaconf import OmegaConf
from torch import Tensor

import netinv_lightning
from netinv_lightning.run import run
from netinv_lightning.runs.resume import resumed_config
from netinv_lightning.training import trainer
from tests.conftest import FEW_STEPS


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that fakes the hardware and the speed-up of half precision."""

    def fake(cpu: bool = False, cuda: str = "", mps: bool = False, gain: float = 1.0) -> None:
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: cpu)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cuda))
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation=True: cuda == "bf16"
        )
        monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: mps))
        monkeypatch.setattr(trainer, "half_gain", lambda device, dtype: gain)

    monkeypatch.delenv(trainer.CHOSEN, raising=False)
    return fake


@pytest.mark.parametrize(
    ("machine", "measured", "unmeasured"),
    [
        ({"cpu": True, "gain": 1.3}, "bf16-mixed", "32-true"),
        ({"cpu": True, "gain": 1.05}, "32-true", "32-true"),  # no clear speed-up
        ({"cpu": False, "gain": 9.0}, "32-true", "32-true"),  # emulated
        ({"cuda": "bf16", "gain": 1.0}, "bf16-mixed", "bf16-mixed"),
        ({"cuda": "bf16", "gain": 0.5}, "32-true", "bf16-mixed"),
        ({"cuda": "fp16", "gain": 2.0}, "16-mixed", "16-mixed"),
    ],
)
def test_auto_selects_the_faster_precision(
    hardware: Callable[..., None], machine: dict[str, Any], measured: str, unmeasured: str
) -> None:
    hardware(**machine)
    assert trainer.best_precision("auto") == measured
    assert trainer.best_precision("auto", measure=False) == unmeasured
    assert trainer.best_precision("cpu") == (measured if "cpu" in machine else "32-true")


@pytest.mark.parametrize(("half_seconds", "chosen"), [(4.0, "32-true"), (0.25, "bf16-mixed")])
def test_auto_measures_how_fast_bfloat16_is(
    half_seconds: float, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hardware support is not sufficient: bfloat16 convolutions of some torch versions are slow."""
    seconds = 0.0

    def convolve(x_BCHW: Tensor, weight: Tensor, **_: int) -> Tensor:
        nonlocal seconds
        seconds += half_seconds if torch.is_autocast_enabled("cpu") else 1.0
        return x_BCHW * weight.mean()

    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(trainer, "F", SimpleNamespace(conv2d=convolve))
    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: seconds))
    trainer.half_gain.cache_clear()
    assert trainer.best_precision("cpu") == chosen
    assert trainer.half_gain("cpu", torch.bfloat16) == 1 / half_seconds
    trainer.half_gain.cache_clear()


def test_speed_is_measured_once_and_without_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "TRIAL_SECONDS", 0.0)
    trainer.half_gain.cache_clear()
    before = torch.get_rng_state()
    with torch.no_grad():
        gain = trainer.half_gain("cpu", torch.bfloat16)
    assert 0 < gain < math.inf
    assert torch.equal(torch.get_rng_state(), before)
    assert trainer.half_gain("cpu", torch.bfloat16) == gain
    assert trainer.half_gain.cache_info().hits == 1
    trainer.half_gain.cache_clear()


def test_auto_prefers_the_cpu_to_mps(hardware: Callable[..., None]) -> None:
    hardware(mps=True)
    cfg = netinv_lightning.compose([])
    (first, _) = trainer.resolve_trainer(cfg)
    assert first.startswith("accelerator: cpu (MPS lacks operators")
    assert cfg.trainer.accelerator == "cpu"
    made = trainer.make_trainer(
        netinv_lightning.compose([]), callbacks=[], loggers=[], enable_checkpointing=False
    )
    assert made.strategy.root_device.type == "cpu"
    asked = netinv_lightning.compose(["trainer.accelerator=mps"])
    trainer.resolve_trainer(asked)
    assert asked.trainer.accelerator == "mps"  # the user's choice
    hardware(mps=True, cuda="bf16")
    assert trainer.available_accelerator("auto") == "auto"


def test_all_processes_of_a_run_use_the_same_precision(
    hardware: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process would measure another speed."""
    first, second, explicit = (
        netinv_lightning.compose([]),
        netinv_lightning.compose([]),
        netinv_lightning.compose(["trainer.precision=32"]),
    )
    hardware(cpu=True, gain=1.5)
    assert trainer.resolve_trainer(first) == [
        "precision: bf16-mixed (faster on this machine; to choose another, set trainer.precision)"
    ]
    hardware(cpu=True, gain=1.0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    trainer.resolve_trainer(second)
    assert second.trainer.precision == first.trainer.precision == "bf16-mixed"
    assert trainer.resolve_trainer(explicit) == []
    assert explicit.trainer.precision == 32
    monkeypatch.delenv(trainer.CHOSEN)
    monkeypatch.setenv("WORLD_SIZE", "2")  # started by torchrun: nothing is measured
    hardware(cpu=True, gain=1.5)
    assert trainer.resolve_trainer(netinv_lightning.compose([]))[0].startswith("precision: 32-true")


def test_a_resumed_run_keeps_its_precision(
    hardware: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a machine where `auto` chooses another one, too."""
    folder = tmp_path / "run"
    hardware(cpu=True, gain=1.5)
    run(
        netinv_lightning.compose(
            [*FEW_STEPS, "application.steps=2", "application.eval_samples=20"]
        ),
        folder,
    )
    assert "precision: bf16-mixed (faster on this machine" in capsys.readouterr().out
    assert json.loads((folder / "environment.json").read_text())["precision"] == "bf16-mixed"
    assert OmegaConf.load(folder / "config.yaml").trainer.precision == "bf16-mixed"
    hardware(cpu=False)
    for overrides in (
        ["application.steps=4"],
        [*FEW_STEPS, "application.steps=4", "application.eval_samples=20", "loss=inversion"],
    ):
        cfg = netinv_lightning.compose([*overrides, f"resume={folder}"])
        assert (
            resumed_config(cfg, [*overrides, f"resume={folder}"]).trainer.precision == "bf16-mixed"
        )
