"""Early stopping and the best checkpoint of a training."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch.callbacks import Callback

import netinv_lightning
from netinv_lightning.config.monitor_schema import MonitorConfig
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.checkpoint import checkpoint_of
from netinv_lightning.training.monitor import load_best, monitor_callbacks
from tests.training.scripted_training import METRIC, ScriptedModule, train

RISE_AND_FALL = [0.1, 0.2, 0.9, 0.3, 0.2, 0.1, 0.1, 0.1]


def callbacks_of(folder: Path, **options: object) -> list[Callback]:
    chosen = MonitorConfig(METRIC, **options)  # type: ignore[arg-type]
    return monitor_callbacks(chosen, folder, every=1)


def test_training_stops_without_improvement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = ScriptedModule(RISE_AND_FALL)
    train(module, callbacks_of(tmp_path, patience=2))
    assert float(module.weight.detach()) == 5
    line = f"stopped early at step 5: {METRIC} has not been better than 0.9000 in 2 checks"
    assert line in capsys.readouterr().err


def test_best_weights_are_kept_and_are_those_of_the_run(tmp_path: Path) -> None:
    module, folder = ScriptedModule(RISE_AND_FALL), tmp_path / "checkpoints"
    assert checkpoint_of(tmp_path).name == "last.ckpt"
    train(module, callbacks_of(folder, keep_best=True))
    assert float(module.weight.detach()) == len(RISE_AND_FALL)
    load_best(module, folder)
    assert float(module.weight.detach()) == 3
    assert [path.name for path in folder.iterdir()] == ["best.ckpt"]
    assert checkpoint_of(tmp_path) == folder / "best.ckpt"


def test_low_values_are_better_with_mode_min(tmp_path: Path) -> None:
    module = ScriptedModule(RISE_AND_FALL)
    train(module, callbacks_of(tmp_path, patience=3, mode="min"))
    assert float(module.weight.detach()) == 4


def test_nothing_is_monitored_without_a_metric(tmp_path: Path) -> None:
    assert monitor_callbacks(netinv_lightning.compose([]).monitor, tmp_path, every=1) == []


def test_unknown_metric_is_refused_with_the_nearest(tmp_path: Path) -> None:
    callbacks = monitor_callbacks(MonitorConfig("example/scor", patience=2), tmp_path, every=1)
    with pytest.raises(InputError, match=r"monitor.metric=example/scor: .*'example/score'\?"):
        train(ScriptedModule(RISE_AND_FALL), callbacks)


REFUSED = {
    "monitor.patience=3": "monitor.patience=3: needs the name of a metric",
    "monitor.metric=a": "monitor.metric=a: has no effect. Set monitor.patience=N",
    "monitor=best method=gradient": "method=gradient trains no generator",
    "monitor=best application=detect_ood": "application=detect_ood does not use it",
    "monitor=best monitor.every=5": "monitor.every=5: must be application.log_every=10 or more",
}


@pytest.mark.parametrize("words", REFUSED)
def test_keys_without_effect_are_refused(words: str) -> None:
    with pytest.raises(InputError) as refused:
        netinv_lightning.compose(words.split())
    assert REFUSED[words] in str(refused.value)
