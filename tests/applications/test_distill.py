"""Data-free distillation: a student learns from its teacher on generated images."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import netinv_lightning
from experiments.forked import run_command
from netinv_lightning import metric_names as names
from netinv_lightning.applications import distill, make_application
from netinv_lightning.classifiers.build import load_carded, load_zoo, named_card, training_split
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.classifiers.zoo import zoo_path
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.downstream.classifier_predictions import predict
from netinv_lightning.downstream.distillation import (
    DistillationResult,
    distil,
    mix_images,
    softened_kl,
)
from netinv_lightning.downstream.feature_hint import FeatureHint
from netinv_lightning.downstream.generator_rounds import (
    WARM_UP_STEPS,
    GeneratorRounds,
    reset_first_stage,
)
from netinv_lightning.downstream.replay_buffer import ReplayBuffer
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.finished_run import inversion_config, load_generators
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.generator import Generator
from netinv_lightning.privacy.real_images import check_comparable
from netinv_lightning.run import run
from netinv_lightning.training.distributed import Stream
from tests.conftest import FEW_STEPS

CPU = torch.device("cpu")
SPEC = DataSpec("made_up", 3, 1, 4, (0.0,), (1.0,), ("a", "b", "c"))
DATA = ["data=mnist5k", "classifier.zoo=mnist_cnn"]
SMALL = ["+application.student.stages=[[16],[32]]", "+application.student.hidden=64"]
FEW = ["application.steps=3", "application.batch_size=8", *SMALL]


def linear(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


@pytest.fixture
def teacher() -> FrozenClassifier:
    """Classifier that predicts the brightest of three stripes."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    weight_NP = torch.zeros(3, 4, 4)
    for label in range(3):
        weight_NP[label, label] = 4.0
    linear_layer = network[1]
    assert isinstance(linear_layer, nn.Linear)
    linear_layer.weight.data, linear_layer.bias.data = weight_NP.flatten(1), torch.zeros(3)
    return FrozenClassifier(network, SPEC)


def draw(number: int) -> Tensor:
    return torch.rand(32, 1, 4, 4, generator=torch.Generator().manual_seed(number))


def distilled_from(
    teacher: FrozenClassifier, real: tuple[Tensor, Tensor] | None = None, **keywords: Any
) -> DistillationResult:
    return distil(
        teacher, draw, linear(1), real, **{"steps": 200, "lr": 0.05, "seed": 3, **keywords}
    )


def test_softened_kl_by_hand() -> None:
    student_BN, teacher_BN = (
        torch.tensor([[0.0, 0.0], [1.0, 1.0]]),
        torch.tensor([[2 * torch.log(torch.tensor(3.0)), 0.0], [5.0, 5.0]]),
    )
    # At temperature 2 the teacher predicts (3/4, 1/4) and the student (1/2, 1/2).
    expected = 4 * (0.75 * torch.log(torch.tensor(1.5)) + 0.25 * torch.log(torch.tensor(0.5)))
    torch.testing.assert_close(
        softened_kl(student_BN, teacher_BN, 2.0), torch.tensor([float(expected), 0.0])
    )


def test_student_learns_the_predictions_of_its_teacher(teacher: FrozenClassifier) -> None:
    images_nCHW = torch.rand(500, 1, 4, 4, generator=torch.Generator().manual_seed(99))
    label_n = images_nCHW[:, 0, :3].sum(dim=2).argmax(dim=1)
    untrained = distil(teacher, draw, linear(1), (images_nCHW, label_n), steps=1, lr=1e-9)
    assert untrained.agreement is not None
    assert untrained.agreement < 0.6
    found = distilled_from(teacher, (images_nCHW, label_n))
    assert found.agreement_fresh > 0.97
    assert found.agreement == found.accuracy  # the teacher is always right
    assert found.accuracy is not None
    assert found.accuracy > 0.97
    as_bytes = (images_nCHW * 255).round().byte()
    assert distilled_from(teacher, (as_bytes, label_n)).accuracy == pytest.approx(
        found.accuracy, abs=0.02
    )
    assert not found.student.training


def test_equal_seeds_give_equal_students_and_keep_global_state(teacher: FrozenClassifier) -> None:
    augmentation = Augmentation(shift=1, noise=0.1)
    images_nCHW, label_n = torch.rand(10, 1, 4, 4), torch.zeros(10, dtype=torch.long)
    before = torch.get_rng_state()
    frozen = {name: value.clone() for name, value in teacher.state_dict().items()}
    first = distilled_from(teacher, augmentation=augmentation, steps=20).student.state_dict()
    again = distilled_from(
        teacher, (images_nCHW, label_n), augmentation=augmentation, steps=20
    ).student.state_dict()  # evaluated with real images
    other = distilled_from(
        teacher, augmentation=augmentation, steps=20, seed=4
    ).student.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(frozen[name], value) for name, value in teacher.state_dict().items())


def test_each_step_is_reported_and_draws_a_new_batch(teacher: FrozenClassifier) -> None:
    drawn: list[int] = []
    reported: list[int] = []

    def recorded(number: int) -> Tensor:
        drawn.append(number)
        return draw(number)

    distil(teacher, recorded, linear(1), steps=5, on_step=lambda step, _: reported.append(step))
    assert drawn == list(range(15))  # five of the training and ten of the evaluation
    assert reported == [1, 2, 3, 4, 5]


def test_mixtures_combine_two_images() -> None:
    """All pixels of image i equal i, so the source of each pixel is known."""
    level_B = torch.arange(64.0)
    x_BCHW = level_B.view(64, 1, 1, 1).expand(64, 3, 16, 16)
    boxed_BCHW = mix_images(x_BCHW, Stream(0), boxes=True)
    foreign_BHW = boxed_BCHW[:, 0] != level_B.view(64, 1, 1)
    for image_CHW, foreign_HW in zip(boxed_BCHW, foreign_BHW, strict=True):
        assert len(image_CHW[0][foreign_HW].unique()) <= 1  # from one other image
        rows_H, columns_W = foreign_HW.any(dim=1), foreign_HW.any(dim=0)
        assert torch.equal(foreign_HW, rows_H[:, None] & columns_W)  # a box
        assert max(int(rows_H.sum()), int(columns_W.sum())) <= 12
    assert 0.02 < float(foreign_BHW.float().mean()) < 0.3
    blended_BCHW = mix_images(x_BCHW, Stream(0), boxes=False)
    other_B = level_B[Stream(0).uniform(64).argsort()]
    moved_B, distance_B = (blended_BCHW[:, 0, 0, 0] - level_B).abs(), (other_B - level_B).abs()
    assert (moved_B <= distance_B / 2).all()
    assert 0.15 < float(moved_B.sum() / distance_B.sum()) < 0.35  # about a quarter
    assert torch.equal(blended_BCHW.amin(dim=(1, 2, 3)), blended_BCHW.amax(dim=(1, 2, 3)))


def test_hint_is_the_distance_of_mapped_unit_features() -> None:
    """The features are the first pixels, and the map is initialised as the identity."""

    class First(nn.Module):
        def __init__(self, features: int) -> None:
            super().__init__()
            self.features, self.head = features, nn.Linear(features, 3)

        def forward(self, x_BCHW: Tensor) -> Tensor:
            logits_BN: Tensor = self.head(x_BCHW.flatten(1)[:, : self.features])
            return logits_BN

    x_BCHW = torch.zeros(2, 1, 4, 4)
    x_BCHW[0, 0, 0, :3] = torch.tensor([3.0, 4.0, 0.0])
    x_BCHW[1, 0, 0, :3] = torch.tensor([0.0, 3.0, 4.0])
    teacher, student = FrozenClassifier(First(3), SPEC), Classifier(First(2), SPEC)
    hint = FeatureHint(teacher, student)
    with hint.record():
        teacher(x_BCHW)
        student(x_BCHW)
    # The unit features of both are (0.6, 0.8, 0) for the first image; for the second, (0, 0.6, 0.8)
    # and (0, 1, 0).
    assert float(hint.distance().detach()) == pytest.approx((0 + 0.4**2 + 0.8**2) / 2, abs=1e-6)
    teacher(2 * x_BCHW)  # this pass is not recorded
    assert float(hint.distance().detach()) == pytest.approx(0.4, abs=1e-6)
    assert [weight.shape for weight in hint.parameters()] == [(3, 2)]


def test_hint_transfers_features_of_a_constant_teacher(teacher: FrozenClassifier) -> None:
    """A teacher with constant logits still provides its features."""

    def network(seed: int) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))

    constant = network(5)
    last = constant[-1]
    assert isinstance(last, nn.Linear)
    last.weight.data.zero_()
    frozen = FrozenClassifier(constant, SPEC)

    def distance(student: nn.Module) -> float:
        hint = FeatureHint(frozen, Classifier(student, SPEC))
        with hint.record(), torch.no_grad():
            frozen(draw(99))
            student(draw(99))
            # This is the error of the best linear map.
            teacher_BD, student_BD = hint.recorded_BD
            mapped_BD = student_BD @ torch.linalg.lstsq(student_BD, teacher_BD).solution
            return float((mapped_BD - teacher_BD).square().mean())

    without, with_hint = (
        distil(frozen, draw, network(6), steps=200, lr=0.02, features=weight).student.network
        for weight in (0.0, 1.0)
    )
    assert distance(with_hint) < 0.5 * distance(without)


@pytest.fixture(scope="module")
def inverted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a short inversion, which has images of all classes."""
    path = tmp_path_factory.mktemp("inverted") / "run"
    overrides = ["application.steps=50", "application.batch_size=20", "loss=natural"]
    overrides += ["application.checkpoint_every=1000"]
    run(netinv_lightning.compose([*DATA, *FEW_STEPS, *overrides]), path)
    return path


@pytest.fixture(scope="module")
def distilled(inverted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a distillation from the command line."""
    overrides = [
        "application=distill",
        f"application.run={inverted}",
        "application.steps=120",
        "application.batch_size=25",
        *SMALL,
    ]
    done = run_command(overrides, cwd=tmp_path_factory.mktemp("cwd"))
    assert done.returncode == 0, done.stderr
    assert "student  step 120/120" in done.stderr
    return Path(done.stdout.splitlines()[-1])


IMAGES = 30


def rounds(
    inverted: Path, weight: float = 1.0, seed: int = 0
) -> tuple[GeneratorRounds, ReplayBuffer, Classifier]:
    module = load_generators(inversion_config(inverted), inverted)
    assert module is not None
    buffer = ReplayBuffer(10, seed, CPU)
    student = Classifier(load_zoo("mnist_mlp").network, module.classifier.spec)
    return (
        GeneratorRounds(
            module, buffer, Augmentation(shift=1), weight, 4.0, every=5, seed=seed, images=IMAGES
        ),
        buffer,
        student.train(),
    )


def test_rounds_fill_the_buffer_and_do_not_change_the_student(
    inverted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netinv_lightning.downstream.generator_rounds.STEPS", WARM_UP_STEPS + 2)
    generation, buffer, student = rounds(inverted)
    before, state = (
        torch.get_rng_state(),
        {name: value.clone() for name, value in student.state_dict().items()},
    )
    for step in range(6):
        generation(step, student)
        assert len(buffer) == 2 * IMAGES * (1 + step // 5)
    new_nCHW = generation.new_round(student)
    assert len(buffer) == 2 * len(new_nCHW)
    assert all(torch.equal(state[name], value) for name, value in student.state_dict().items())
    assert student.training
    assert all(weight.requires_grad for weight in student.parameters())
    assert torch.equal(torch.get_rng_state(), before)
    again, buffer_again, student_again = rounds(inverted)
    again(0, student_again)
    again(5, student_again)
    assert torch.equal(buffer.images_nCHW, buffer_again.images_nCHW)
    assert torch.equal(new_nCHW, again.new_round(student_again))
    other, buffer_other, _ = rounds(inverted, seed=1)
    other(0, student)
    assert not torch.equal(buffer.images_nCHW[: len(buffer_other)], buffer_other.images_nCHW)


def test_rounds_are_more_diverse_than_the_generator(inverted: Path) -> None:
    """Images of one class differ more between rounds; the teacher still recognises them."""
    generation, _, student = rounds(inverted, weight=0.0)
    module = generation.module
    label_n = torch.full((IMAGES,), 3)
    plain_nCHW = module.draw(module.conditioning.of_labels(label_n))
    made = [generation.new_round(student)[-IMAGES:] for _ in range(4)]
    label_B = torch.arange(IMAGES) % 10
    of_rounds_nCHW = torch.cat([x_BCHW[label_B == 3] for x_BCHW in made])
    assert float(of_rounds_nCHW.var(dim=0).mean()) > 1.5 * float(plain_nCHW.var(dim=0).mean())
    assert float((predict(module.classifier, made[-1]) == label_B).float().mean()) > 0.9


def test_weight_of_disagreement_increases_disagreement(inverted: Path) -> None:
    def disagreement(weight: float) -> float:
        generation, _, student = rounds(inverted, weight)
        x_BCHW = generation.new_round(student)[-IMAGES:]
        return float(
            softened_kl(student.eval()(x_BCHW), generation.module.classifier(x_BCHW), 4.0)
            .detach()
            .mean()
        )

    assert disagreement(3.0) > 1.2 * disagreement(0.0)


def test_only_the_first_stage_is_reinitialised(inverted: Path) -> None:
    module = load_generators(inversion_config(inverted), inverted)
    assert module is not None
    generator = module.generators[0]
    assert isinstance(generator, Generator)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    with torch.random.fork_rng():
        reset_first_stage(generator)
    changed = {
        name.partition(".")[0]
        for name, value in generator.state_dict().items()
        if not torch.equal(before[name], value)
    }
    assert changed == {"stage1", "embedding"}


def test_student_of_inverted_images_beats_one_of_noise(distilled: Path) -> None:
    summary = json.loads((distilled / "summary.json").read_text())
    assert summary[names.STUDENT_ACCURACY] > summary[names.noise_student("accuracy")] + 0.1
    # Chance is 0.1. The inversion had 50 steps and the student 120.
    assert summary[names.STUDENT_AGREEMENT] > 0.2
    assert summary[names.noise_student("agreement")] < 0.15
    assert summary[names.TEACHER_ACCURACY] > 0.98
    assert (
        json.loads((distilled / "status.json").read_text())["best_metric"]
        == summary[names.STUDENT_ACCURACY]
    )
    with (distilled / "distillation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["network"] for row in rows] == [
        "student of inverted images",
        "student of noise (control)",
        "teacher",
    ]
    assert float(rows[0]["accuracy"]) == summary[names.STUDENT_ACCURACY]
    assert rows[2]["agreement"] == "1.0"
    assert names.STUDENT_LOSS in (distilled / "metrics.csv").read_text()
    assert (distilled / "figures" / "taught.png").stat().st_size > 1000


def test_saved_student_is_the_evaluated_one(distilled: Path) -> None:
    student = load_carded(distilled / "student.safetensors", "classifier.path")
    images_nCHW, label_n = ImageDataModule("mnist5k").test
    summary = json.loads((distilled / "summary.json").read_text())
    found_n, teacher_n = predict(student, images_nCHW), predict(load_zoo("mnist_cnn"), images_nCHW)
    assert float((found_n == label_n).double().mean()) == summary[names.STUDENT_ACCURACY]
    assert float((found_n == teacher_n).double().mean()) == summary[names.STUDENT_AGREEMENT]


def test_student_is_compared_with_its_teachers_training_data(distilled: Path) -> None:
    student, teacher = (
        netinv_lightning.compose(
            ["classifier=checkpoint", f"classifier.path={path}", "data=mnist5k"]
        )
        for path in (distilled / "student.safetensors", zoo_path("mnist_cnn"))
    )
    assert (
        training_split(student)
        == training_split(teacher)
        == {"val_fraction": 0.0, "subset_size": None, "split_seed": 0}
    )
    # A student was not trained on any real image.
    training_images = named_card(student).get("training_images")
    check_comparable(training_images, ImageDataModule("mnist5k"))


def test_training_images_are_never_read(
    inverted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The student is the same with and without data, and missing metrics are reported."""
    application = ["application=distill", f"application.run={inverted}", *FEW]
    monkeypatch.setattr("netinv_lightning.downstream.generator_rounds.STEPS", WARM_UP_STEPS + 1)
    monkeypatch.setattr(distill, "GeneratorRounds", partial(GeneratorRounds, images=20))

    def refuse(self: ImageDataModule) -> Any:
        raise AssertionError("training images were read")

    with monkeypatch.context() as patch:
        patch.setattr(
            ImageDataModule, "train", property(refuse, lambda self, split: None), raising=False
        )
        with_data = run(netinv_lightning.compose(application), tmp_path / "with")
    monkeypatch.setattr(
        "netinv_lightning.applications.distill.open_test_data",
        lambda cfg, spec: (None, "no real data: not there"),
    )
    without = run(netinv_lightning.compose(application), tmp_path / "without")
    first, second = (
        load_file(tmp_path / name / "student.safetensors") for name in ("with", "without")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert names.STUDENT_ACCURACY in with_data
    assert not {names.STUDENT_ACCURACY, names.STUDENT_AGREEMENT, names.TEACHER_ACCURACY} & set(
        without
    )
    assert without[names.STUDENT_AGREEMENT_FRESH] == with_data[names.STUDENT_AGREEMENT_FRESH]
    assert "no real data: not there" in (tmp_path / "without" / "distillation.md").read_text()


def test_a_run_without_a_generator_uses_its_saved_images(tmp_path: Path) -> None:
    overrides = [
        *DATA,
        *FEW_STEPS,
        "method=gradient",
        "method.steps=3",
        "application.eval_samples=20",
        "application.keep_samples=20",
    ]
    run(netinv_lightning.compose(overrides), tmp_path / "run")
    command = ["application=distill", f"application.run={tmp_path / 'run'}", *FEW]
    metrics = run(netinv_lightning.compose(command), tmp_path / "distilled")
    assert 0 <= metrics[names.STUDENT_AGREEMENT] <= 1
    assert "20 images saved by the run" in (tmp_path / "distilled" / "distillation.md").read_text()


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["application.steps=0"], r"application.steps=0: must be 1 or more"),
        (["application.batch_size=1"], r"application.batch_size=1: must be 2 or more"),
        (["application.lr=0"], r"application.lr=0.0: must be above 0"),
        (["application.every=0"], r"application.every=0: must be 1 or more"),
        (["application.features=-1"], r"application.features=-1.0: must be 0 or more"),
        (["application.temperature=-1"], r"application.temperature=-1.0: must be above 0"),
        (["augmentation.shift=-1"], r"augmentation.shift=-1.0: must be from 0 to 4096"),
        (
            ["+application.student.stages=[[8],[8],[8],[8],[8]]"],
            r"application.student=.*cannot be made: .*poolings leave nothing",
        ),
        (
            ["application.student={_target_: torch.nn.Identity}"],
            r"application.student=.*Identity.*: ",
        ),
        (
            ["data=fashion_mnist"],
            r"data=fashion_mnist: the run uses data=mnist5k, which cannot be changed. Remove",
        ),
        (
            ["application.run="],
            r"application.run: is missing. Give the directory of a finished inversion",
        ),
    ],
)
def test_invalid_input_gives_one_line(inverted: Path, overrides: list[str], line: str) -> None:
    with pytest.raises(InputError, match=line) as error:
        make_application(
            netinv_lightning.compose(
                ["application=distill", f"application.run={inverted}", *overrides]
            )
        )
    assert "\n" not in str(error.value)


def test_the_run_must_be_given_and_finished(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"application.run: is missing. Give the directory"):
        make_application(netinv_lightning.compose(["application=distill"]))
    with pytest.raises(InputError, match=r"nowhere: there is no such directory"):
        make_application(
            netinv_lightning.compose(
                ["application=distill", f"application.run={tmp_path / 'nowhere'}"]
            )
        )
