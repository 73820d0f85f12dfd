"""Generators that are trained one after the other: their steps, what they inherit, and resuming."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from experiments.run_results import differences, result
from netinv_lightning import metric_names as names
from netinv_lightning.config.monitor_check import check_monitor
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.build import check_processes, make_module
from netinv_lightning.inversion.module import InversionModule
from netinv_lightning.inversion.rounds import Rounds
from netinv_lightning.run import run

Compose = Callable[..., DictConfig]
ROUNDS = ["generator=tiny", "n_generators=3", "application.round_steps=2", "application.steps=10"]


def test_each_step_has_its_generator_and_each_round_its_schedule() -> None:
    rounds = Rounds(generators=3, round_steps=2, steps=11)
    assert [rounds.generator_at(step) for step in range(12)] == [0] * 6 + [1] * 2 + [2] * 4
    assert [rounds.start(g) for g in range(3)] == [0, 6, 8]
    shares = [rounds.share_at(step) for step in range(12)]
    # The last round ends with the training.
    assert shares == pytest.approx([s / 6 for s in range(6)] + [0, 0.5, 0, 1 / 3, 2 / 3, 1])
    assert {Rounds(1, 2, 5).generator_at(step) for step in range(5)} == {0}
    with pytest.raises(ValueError, match=r"steps=9: 3 generators with round_steps=2 need 10 steps"):
        Rounds(3, 2, 9)


def test_a_round_trains_its_generator_alone(compose: Compose, tmp_path: Path) -> None:
    cfg = compose(*ROUNDS, "application.log_every=1")
    before = make_module(cfg).state_dict()
    metrics = run(cfg, tmp_path / "run")
    assert metrics[names.CLASSIFIER_FORWARDS] == 10 * cfg.application.batch_size
    trained = make_module(cfg)
    trained.load(tmp_path / "run", channels_last=False)
    after = trained.state_dict()
    for g in range(3):
        moved = [
            name
            for name, weight in after.items()
            if name.startswith(f"generators.{g}.") and not torch.equal(weight, before[name])
        ]
        assert any(".stage1." in name for name in moved)
        assert any(".stage2." in name for name in moved)


def test_a_new_round_starts_with_the_second_stage_of_the_last_one(compose: Compose) -> None:
    module = make_module(compose(*ROUNDS))
    first, second = module.generators.generator(0), module.generators.generator(1)
    layout = [weight.clone() for weight in second.stage1.parameters()]
    module.step_seconds = [0.0] * 6
    generators = module._trained_now()
    assert len(generators) == 1
    assert generators.generator(0) is second
    assert generators.streams == [module.generators.streams[1]]
    for part in ("stage2", "to_image"):
        theirs = first.get_submodule(part).state_dict()
        for name, value in second.get_submodule(part).state_dict().items():
            assert torch.equal(value, theirs[name])
    assert all(map(torch.equal, layout, second.stage1.parameters()))


def test_what_rounds_cannot_be_combined_with_is_refused(compose: Compose) -> None:
    cfg = compose(*ROUNDS)
    with pytest.raises(InputError, match=r"application\.round_steps=2: is for one process"):
        check_processes(cfg, 2)
    with pytest.raises(InputError, match=r"application\.steps=9: 3 generators with round_steps=2"):
        make_module(compose(*ROUNDS, "application.steps=9"))
    monitor = ("monitor.metric=inversion/accuracy_train", "monitor.patience=1")
    with pytest.raises(InputError, match=r"cannot be combined with application\.round_steps=2"):
        check_monitor(compose(*ROUNDS, *monitor))


def test_a_killed_run_continues_bit_by_bit(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is killed in its second round, two steps after the last checkpoint."""
    cfg = compose(*ROUNDS, "application.checkpoint_every=3")
    run(cfg, tmp_path / "whole")
    step = InversionModule.training_step

    def killed(module: InversionModule, *batch: object) -> torch.Tensor:
        if len(module.step_seconds) == 8:
            raise RuntimeError("killed")
        return step(module, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(InversionModule, "training_step", killed)
        with pytest.raises(RuntimeError, match="killed"):
            run(cfg, tmp_path / "broken")
    run(cfg, tmp_path / "broken", resuming=True)
    assert list(differences(result(tmp_path / "whole"), result(tmp_path / "broken"))) == []
