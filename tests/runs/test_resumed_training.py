"""Resumed trainings of every application equal the uninterrupted ones, bit by bit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import netinv_lightning
from experiments.run_results import differences, result
from netinv_lightning.classifiers.classifier_module import ClassifierModule
from netinv_lightning.downstream import build, generator_rounds
from netinv_lightning.downstream.generator_rounds import GeneratorRounds
from netinv_lightning.errors import InputError, Preempted
from netinv_lightning.inversion.methods import kkt
from netinv_lightning.run import run
from netinv_lightning.runs.resume import resumed_config
from netinv_lightning.tracking import result as publishing
from tests.conftest import few_test_images

DIGITS = ["data=mnist5k", "data.subset_size=200", "data.batch_size=50"]
TRAINED = [
    "application=train_classifier",
    *DIGITS,
    "data.shift=2",
    "data.flip=true",
    "classifier=mlp",
    "+classifier.network.widths=[16]",
    "recipe.epochs=3",
    "application.checkpoint_every=2",
]
TRAIN_AND_INVERT = [*TRAINED[1:-1], "classifier.train=true"]
STUDENT = ["+application.student.stages=[[8],[16]]", "+application.student.hidden=16"]
TINY = [
    "generator=tiny",
    "application.steps=3",
    "application.batch_size=8",
    "application.eval_samples=40",
    "application.keep_samples=40",
]
SCHEDULE = torch.optim.lr_scheduler.OneCycleLR

Interrupt = Callable[[Any, str, int, Callable[[], None]], None]


def killed() -> None:
    raise RuntimeError("killed")


def stopped() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Interrupt:
    """Call `act` once, before the given call of a function that each step calls."""

    def at(owner: Any, name: str, number: int, act: Callable[[], None]) -> None:
        function, calls = getattr(owner, name), 0

        def counting(*args: Any, **keys: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                monkeypatch.setattr(owner, name, function)
                act()
            return function(*args, **keys)

        monkeypatch.setattr(owner, name, counting)

    return at


@pytest.fixture(scope="module", autouse=True)
def of_few_images() -> Iterator[None]:
    with few_test_images(every=20):
        yield


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run writes files of its config only below the working directory."""
    monkeypatch.chdir(tmp_path)


def resume(broken: Path) -> None:
    given = [f"resume={broken}"]
    run(resumed_config(netinv_lightning.compose(given), given), broken, resuming=True)


@pytest.fixture(scope="module")
def inverted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inverted") / "run"
    run(netinv_lightning.compose([*DIGITS, "classifier.zoo=mnist_mlp", *TINY]), path)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trained") / "run"
    run(netinv_lightning.compose(TRAINED), path)
    return path


@pytest.mark.parametrize(
    "step", [2, 5, 8], ids=["before any checkpoint", "after an epoch", "in an epoch"]
)
def test_a_killed_classifier_continues_its_training(
    trained: Path, tmp_path: Path, interrupt: Interrupt, step: int
) -> None:
    """An epoch has four steps, and every second step writes a checkpoint."""
    interrupt(ClassifierModule, "training_step", step, killed)
    with pytest.raises(RuntimeError, match="killed"):
        run(netinv_lightning.compose(TRAINED), tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists() == (step > 2)
    resume(tmp_path / "run")
    assert list(differences(result(trained), result(tmp_path / "run"))) == []


@pytest.mark.parametrize("step", [5, 8], ids=["in an epoch", "at its last step"])
def test_sigterm_saves_the_step_of_a_classifier(
    trained: Path, tmp_path: Path, interrupt: Interrupt, step: int
) -> None:
    broken = tmp_path / "run"
    interrupt(ClassifierModule, "training_step", step, stopped)
    with pytest.raises(
        Preempted, match=rf"stopped by SIGTERM after step {step}; continue with resume={broken}$"
    ):
        run(netinv_lightning.compose(TRAINED), broken)
    assert (
        torch.load(broken / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == step
    )
    resume(broken)
    assert list(differences(result(trained), result(broken))) == []


def test_a_trained_classifier_is_not_trained_again(
    trained: Path, tmp_path: Path, interrupt: Interrupt
) -> None:
    broken, saved = tmp_path / "run", tmp_path / "mine.safetensors"
    interrupt(publishing, "log_artifact", 1, killed)
    command = [*TRAINED, f"application.save_as={saved}"]
    with pytest.raises(RuntimeError, match="killed"):
        run(netinv_lightning.compose(command), broken)
    interrupt(ClassifierModule, "training_step", 1, killed)
    resume(broken)  # may replace its own file, but not another one
    assert saved.read_bytes() == (trained / "classifier.safetensors").read_bytes()
    assert (broken / "summary.json").is_file()
    with pytest.raises(InputError, match=r"application.save_as=.*: exists already"):
        run(netinv_lightning.compose(command), tmp_path / "another")


def test_a_stopped_cached_classifier_continues_its_training(
    tmp_path: Path, interrupt: Interrupt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netinv_lightning.classifiers.training.EVERY", 3)
    networks = []
    for name in ("whole", "broken"):
        command = [
            *TRAIN_AND_INVERT,
            f"classifier.kept_in={tmp_path / name}",
            *TINY,
        ]
        cfg = netinv_lightning.compose(command)
        if name == "broken":
            interrupt(ClassifierModule, "training_step", 6, stopped)
            with pytest.raises(
                Preempted, match="stopped by SIGTERM after step 6; continue with resume="
            ):
                run(cfg, tmp_path / "run")
            assert len(list((tmp_path / name).glob("*/training.ckpt"))) == 1
            interrupt(ClassifierModule, "training_step", 7, killed)  # six steps are left
            resume(tmp_path / "run")
        else:
            run(cfg, tmp_path / "alone")
        (kept,) = (tmp_path / name).glob("*/classifier.safetensors")
        networks.append(kept.read_bytes())
        assert sorted(path.name for path in kept.parent.iterdir()) == [
            "classifier.json",
            "classifier.safetensors",
        ]
    assert networks[0] == networks[1]


@pytest.mark.parametrize(
    ("call", "act"), [(7, stopped), (15, killed)], ids=["student stopped", "control killed"]
)
def test_an_interrupted_distillation_continues(
    inverted: Path,
    tmp_path: Path,
    interrupt: Interrupt,
    monkeypatch: pytest.MonkeyPatch,
    call: int,
    act: Callable[[], None],
) -> None:
    monkeypatch.setattr(build, "GeneratorRounds", partial(GeneratorRounds, images=8))
    monkeypatch.setattr(generator_rounds, "STEPS", generator_rounds.WARM_UP_STEPS + 2)
    command = [
        "application=distill",
        f"application.run={inverted}",
        "application.steps=10",
        "application.batch_size=8",
        "application.every=4",
        "application.checkpoint_every=4",
        "data=mnist5k",
        *STUDENT,
    ]
    whole = inverted.parent / "distilled"
    if not whole.exists():
        run(netinv_lightning.compose(command), whole)
    # A schedule calls `step` once when it is made: for the student and for the control.
    interrupt(SCHEDULE, "step", call + 2, act)
    with pytest.raises((RuntimeError, Preempted)):
        run(netinv_lightning.compose(command), tmp_path / "run")
    resume(tmp_path / "run")
    assert list(differences(result(whole), result(tmp_path / "run"))) == []


def test_fine_tuning_killed_in_its_last_arm_continues(
    inverted: Path, tmp_path: Path, interrupt: Interrupt
) -> None:
    command = [
        "application=finetune",
        f"application.run={inverted}",
        "application.steps=10",
        "application.images=40",
        "application.attacked=8",
        "application.kind=adversarial",
        "application.attack_steps=1",
        "application.checkpoint_every=4",
        *DIGITS,
        "data.batch_size=16",
    ]
    whole = tmp_path / "whole"
    run(netinv_lightning.compose(command), whole)
    # A schedule calls `step` once when it is made, in each of the three arms.
    interrupt(SCHEDULE, "step", 29, killed)
    with pytest.raises(RuntimeError, match="killed"):
        run(netinv_lightning.compose(command), tmp_path / "run")
    resume(tmp_path / "run")
    assert list(differences(result(whole), result(tmp_path / "run"))) == []


def test_killed_kkt_candidates_continue(tmp_path: Path, interrupt: Interrupt) -> None:
    command = [
        "method=kkt",
        "classifier.zoo=mnist_mlp",
        "method.candidates=20",
        "method.steps=8",
        *TINY,
        "application.checkpoint_every=3",
    ]
    run(netinv_lightning.compose(command), tmp_path / "whole")
    interrupt(kkt, "stationarity", 6, killed)
    with pytest.raises(RuntimeError, match="killed"):
        run(netinv_lightning.compose(command), tmp_path / "run")
    interrupt(kkt, "stationarity", 6, killed)  # five steps are left
    resume(tmp_path / "run")
    assert list(differences(result(tmp_path / "whole"), result(tmp_path / "run"))) == []
