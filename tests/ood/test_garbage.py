"""Classifier with a garbage class: class weights, growing number of garbage images, resuming."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import netinv_lightning
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.outliers import outliers
from netinv_lightning.errors import InputError
from netinv_lightning.ood.detectors.garbage_class import (
    GarbageOdds,
    GarbageOddsAndEnergy,
    garbage_detector,
)
from netinv_lightning.ood.garbage.extended_network import (
    copy_trained_weights,
    extended_network,
    with_garbage_class,
)
from netinv_lightning.ood.garbage.garbage_module import (
    GarbageModule,
    count_weights,
    garbage_weights,
)
from netinv_lightning.ood.garbage.garbage_training import GarbageTraining
from netinv_lightning.runs.run_directory import RunDir
from tests.ood.garbage_runs import config, training_of
from tests.ood.linear_classifiers import linear_classifier

END_OF_EPOCH = GarbageModule.on_train_epoch_end


def run_dir(path: Path, resuming: bool = False) -> RunDir:
    path.mkdir(exist_ok=True)
    return RunDir(path, resuming)


def test_count_weights_give_all_classes_equal_weight() -> None:
    """The weight is n / (M count); with 2, 2, 4 and 0 images of 8 it is 1, 1, 0.5 and 0."""
    weights_M = count_weights(torch.tensor([0, 0, 1, 1, 2, 2, 2, 2]), 4)
    assert weights_M.tolist() == [1.0, 1.0, 0.5, 0.0]
    label_n = torch.randint(7, (1000,), generator=torch.Generator().manual_seed(0))
    assert count_weights(label_n, 7)[label_n].sum() == pytest.approx(1000, rel=1e-5)


def test_garbage_weights_balance_garbage_only() -> None:
    """Classes of 3 and 1 images keep weight 1; two garbage images match the mean of 2."""
    label_n = torch.tensor([0, 0, 0, 1, 2, 2])
    assert garbage_weights(label_n, 3).tolist() == [1.0, 1.0, 1.0]
    assert garbage_weights(torch.cat([label_n, torch.tensor([2, 2])]), 3).tolist() == [
        1.0,
        1.0,
        0.5,
    ]


def test_odds_and_energy_are_standardised_and_summed() -> None:
    """For classes a, b and garbage g: log odds g - log(e^a + e^b), energy -log(e^a + e^b)."""
    logits_nM = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 1.0, 2.0], [5.0, 0.0, -1.0]])
    in_distribution_n = logits_nM[:, :2].double().logsumexp(dim=1)
    odds_n, energy_n = logits_nM[:, 2].double() - in_distribution_n, -in_distribution_n
    scorer = GarbageOddsAndEnergy(
        torch.stack([odds_n.mean(), energy_n.mean()]), torch.stack([odds_n.std(), energy_n.std()])
    )
    features = FeatureSet(torch.empty(0), logits_nM, torch.empty(0))
    expected_n = (odds_n - odds_n.mean()) / odds_n.std() + (
        energy_n - energy_n.mean()
    ) / energy_n.std()
    assert scorer(features).tolist() == pytest.approx(expected_n.tolist())
    assert GarbageOdds()(features).tolist() == pytest.approx(odds_n.tolist())
    unlike_any_n = torch.tensor([[0.0, 0.0, 3.0]])
    assert scorer(FeatureSet(torch.empty(0), unlike_any_n, torch.empty(0))) > expected_n.max()


def test_uncertainty_ranks_certain_garbage_highest() -> None:
    """A certain class, an uncertain class, uncertain garbage and certain garbage, in this order."""
    logits_nM = torch.tensor([[9.0, 0, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1.0], [0, 0, 0, 9.0]])
    scorer = garbage_detector("paper", "uncertainty", linear_classifier(), torch.empty(0)).scorer
    score_n = scorer(FeatureSet(torch.empty(0), logits_nM, torch.empty(0)))
    p = math.e / (math.e + 3)
    ue = (1 - p**2 - 3 * ((1 - p) / 3) ** 2) * 4 / 3  # N / (N - 1) times the Gini impurity
    assert score_n[1:3].tolist() == pytest.approx([ue, 2 - ue])
    assert score_n[0] < score_n[1] < 1 < score_n[2] < score_n[3] <= 2


def test_score_is_standardised_on_the_given_images() -> None:
    classifier = load_classifier(netinv_lightning.compose(["classifier.zoo=mnist_mlp"]))
    images_nCHW = ImageDataModule("mnist5k").val[0][:50].float() / 255
    detector = garbage_detector("inverted", "odds_and_energy", classifier, images_nCHW)
    assert float(detector.score(images_nCHW).mean()) == pytest.approx(0, abs=1e-9)
    assert isinstance(
        garbage_detector("inverted", "odds", classifier, images_nCHW).scorer, GarbageOdds
    )


@pytest.mark.parametrize("zoo", ["mnist_mlp", "mnist_cnn", "svhn_head_vit", "cifar10_resnet"])
def test_extended_network_keeps_the_trained_logits(zoo: str) -> None:
    cfg = netinv_lightning.compose([f"classifier.zoo={zoo}"])
    plain = load_classifier(cfg)
    from netinv_lightning.classifiers.build import described_network

    description, network = extended_network(described_network(cfg), plain.spec)
    copy_trained_weights(network, plain.network)
    extended = FrozenClassifier(network, with_garbage_class(plain.spec))
    shape = (5, plain.spec.channels, plain.spec.image_size, plain.spec.image_size)
    x_nCHW = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    logits_nM = extended(x_nCHW)
    assert logits_nM.shape == (5, 11)
    torch.testing.assert_close(logits_nM[:, :10], plain(x_nCHW))
    assert extended.spec.class_names[-1] == "garbage"
    assert description["_target_"] == described_network(cfg)["_target_"]


def test_weights_of_another_shape_are_an_input_error() -> None:
    with pytest.raises(
        InputError,
        match=r"0.weight of the network with a garbage class has the shape \(11, 4\); in the",
    ):
        copy_trained_weights(nn.Sequential(nn.Linear(4, 11)), nn.Sequential(nn.Linear(5, 10)))


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[GarbageTraining, Path, list[dict[str, float]], list[Tensor]]:
    """Train a classifier; return it with the metrics of its epochs and its class weights."""
    cfg = config("garbage.inverted.distil=0.5")
    training, path = training_of(cfg), tmp_path_factory.mktemp("trained")
    before = {
        name: value.clone() for name, value in training.classifier.network.state_dict().items()
    }
    numbers, weights = record(training)
    training.run(run_dir(path), [])
    after = training.classifier.network.state_dict()
    assert all(
        torch.equal(before[name], after[name]) for name in before
    )  # the plain classifier is unchanged
    return training, path, numbers, weights


def record(
    training: GarbageTraining, stop_after: int | None = None
) -> tuple[list[dict[str, float]], list[Tensor]]:
    numbers: list[dict[str, float]] = []
    weights: list[Tensor] = []

    def keep(epoch: int, values: dict[str, float]) -> None:
        numbers.append(values)

    def on_train_epoch_end(self: GarbageModule) -> None:
        if stop_after is not None and self.current_epoch == stop_after:
            raise RuntimeError("stopped")
        assert self.class_weights_N is not None
        weights.append(self.class_weights_N.clone())
        END_OF_EPOCH(self)

    training._log_epoch = lambda loggers: keep  # type: ignore[method-assign]
    GarbageModule.on_train_epoch_end = on_train_epoch_end  # type: ignore[method-assign]
    return numbers, weights


@pytest.fixture(autouse=True, scope="module")
def _restore() -> object:
    yield
    GarbageModule.on_train_epoch_end = END_OF_EPOCH  # type: ignore[method-assign]


def test_zoom_adds_an_enlarged_crop_of_each_image(tmp_path: Path) -> None:
    training = training_of(
        netinv_lightning.compose(
            [
                "application=detect_ood",
                "data=mnist5k",
                "classifier.zoo=mnist_mlp",
                "garbage=noise",
                "garbage.noise.zoom=4",
                "garbage.noise.epochs=2",
                "garbage.noise.images=200",
                "garbage.noise.initial=50",
                "garbage.noise.per_class=3",
                "garbage.noise.distil=0",
            ]
        ),
        "noise",
    )
    numbers, _ = record(training)
    training.run(run_dir(tmp_path / "run"), [])
    assert [values["images"] for values in numbers] == [50, 50 + 2 * 30]


def test_figure_has_rows_for_the_garbage_of_each_epoch() -> None:
    """Rows of ten images: noise, first images of the epoch, crops of these images."""
    overrides = ["zoom=4", "epochs=2", "initial=50", "per_class=3"]
    training = training_of(
        netinv_lightning.compose([
            "application=detect_ood",
            "data=mnist5k",
            "classifier.zoo=mnist_mlp",
            "garbage=noise",
            *(f"garbage.noise.{override}" for override in overrides),
        ]),
        "noise",
    )  # fmt: skip
    number_n = torch.arange(110).byte()
    x_RKCHW, rows = training._figure_rows(number_n[:, None, None, None].expand(110, 1, 28, 28))
    assert rows == ["initial", "epoch 1", "enlarged"]
    assert (x_RKCHW[:, :, 0, 0, 0] * 255).round().tolist() == [
        [*range(begin, begin + 10)] for begin in (0, 50, 80)
    ]


def test_each_epoch_adds_images_of_each_class(trained: tuple) -> None:
    training, _, numbers, _ = trained
    assert training.per_epoch == 200
    assert [values["images"] for values in numbers] == [200, 400, 600]
    assert all(0 <= values["already_rejected"] <= 1 for values in numbers[:2])
    assert "already_rejected" not in numbers[2]  # the last epoch adds no images


def test_garbage_weight_follows_its_count(trained: tuple) -> None:
    """The weight is (600 + g) / (22 g): 600 training images, g garbage images, half a class."""
    assert [float(weights_M[-1]) for weights_M in trained[3]] == pytest.approx(
        [(600 + g) / (2 * 11 * g) for g in (200, 400, 600)]
    )


def test_trained_classifier_keeps_accuracy_and_rejects_noise(trained: tuple) -> None:
    training = trained[0]
    test_nCHW, label_n = training.data.test
    predicted_n = training.frozen(test_nCHW.float() / 255).argmax(dim=1)
    assert float((predicted_n == label_n).float().mean()) > 0.93
    noise_nCHW = outliers("gaussian_noise", training.classifier.spec, 200, 3, Path())
    assert float((training.frozen(noise_nCHW).argmax(dim=1) == 10).float().mean()) > 0.9


def test_teacher_probabilities_are_mixed_into_labels() -> None:
    training = training_of(config("garbage.inverted.distil=0.25"))
    x_BCHW, y_B = (
        torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0)),
        torch.tensor([3, 10, 0, 10]),
    )
    module = GarbageModule(
        Classifier(training.network, training.frozen.spec),
        training.data,
        torch.zeros(2, 1, 28, 28, dtype=torch.uint8),
        training.source,
        training.classifier,
        epochs=1,
        seed=0,
        on_epoch=lambda epoch, metrics: None,
        teacher_share=0.25,
    )
    target_BM = module.targets(x_BCHW, y_B)
    teacher_BM = training.classifier(x_BCHW).softmax(dim=1)
    assert target_BM[1].tolist() == target_BM[3].tolist() == [0.0] * 10 + [1.0]
    torch.testing.assert_close(target_BM[0, :10], 0.25 * teacher_BM[0] + 0.75 * torch.eye(10)[3])
    assert target_BM[0, 10] == 0
    torch.testing.assert_close(target_BM.sum(dim=1), torch.ones(4))
    assert not any(name.startswith("teacher") for name in module.state_dict())


def test_batch_norm_statistics_can_be_kept(tmp_path: Path) -> None:
    training = training_of(
        config(
            "garbage.inverted.batch_norm=kept",
            "garbage.inverted.epochs=2",
            "garbage.inverted.images=200",
        )
    )
    record(training)
    network, plain = (
        training.run(run_dir(tmp_path / "run"), []).network.state_dict(),
        training.classifier.network.state_dict(),
    )
    statistics = [name for name in plain if name.endswith(("running_mean", "running_var"))]
    assert len(statistics) == 4
    assert all(torch.equal(network[name], plain[name]) for name in statistics)
    assert not torch.equal(network["head.weight"][:10], plain["head.weight"])


def test_resumed_training_gives_the_same_weights(trained: tuple, tmp_path: Path) -> None:
    stopped = training_of(config("garbage.inverted.distil=0.5"))
    record(stopped, stop_after=1)
    with pytest.raises(RuntimeError, match="stopped"):
        stopped.run(run_dir(tmp_path / "run"), [])
    assert not (tmp_path / "run" / "detectors").exists()
    resumed = training_of(config("garbage.inverted.distil=0.5"))
    numbers, _ = record(resumed)
    network = resumed.run(run_dir(tmp_path / "run", resuming=True), []).network
    assert [values["images"] for values in numbers] == [400, 600]
    whole = trained[0].network.state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in network.state_dict().items())


def test_trained_classifier_is_not_trained_again(trained: tuple) -> None:
    training = training_of(config("seed=5"))  # other weights, unless the file is read
    numbers, _ = record(training)
    network = training.run(run_dir(trained[1], resuming=True), []).network
    assert numbers == []
    assert all(
        torch.equal(value, trained[0].network.state_dict()[name])
        for name, value in network.state_dict().items()
    )
