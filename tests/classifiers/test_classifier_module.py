"""The training recipe of a classifier, and its batches."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netinv_lightning.classifiers.classifier_module import ClassifierModule
from netinv_lightning.classifiers.networks import CNN, MLP, ResNet, ViT
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.data.datamodule import Batches, ImageDataModule
from netinv_lightning.data.specs import CIFAR10, DataSpec

# The recipe


def module(network: type[nn.Module] = CNN, **recipe: Any) -> ClassifierModule:
    torch.manual_seed(0)
    without_dropout = {} if network is ResNet else {"dropout": 0.0}
    made = ClassifierModule(Classifier(network(10, 3, 32, **without_dropout), CIFAR10), **recipe)
    made.log = lambda *args, **kwargs: None
    return made


def loss(**recipe: Any) -> Tensor:
    batch = (
        torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1)),
        torch.tensor([0, 1, 2, 3, 4, 9]),
    )
    return module(MLP, **recipe).training_step(batch, 0)


def test_label_smoothing_equals_its_closed_form() -> None:
    made = module(MLP)
    x_BCHW, y_B = (
        torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1)),
        torch.tensor([0, 1, 2, 3, 4, 9]),
    )
    logp_BN = F.log_softmax(made.classifier(x_BCHW), dim=1)
    right, uniform = -logp_BN[torch.arange(6), y_B].mean(), -logp_BN.mean()
    for smoothing in (0.0, 0.1, 0.4):
        torch.testing.assert_close(
            loss(label_smoothing=smoothing), (1 - smoothing) * right + smoothing * uniform
        )


def test_l1_adds_the_sum_of_absolute_weights() -> None:
    made = module(MLP)
    weights = [layer.weight for layer in made.modules() if isinstance(layer, nn.Linear)]
    norm = sum(weight.abs().sum() for weight in weights)
    torch.testing.assert_close(loss(l1=0.01) - loss(), 0.01 * norm, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("network", [CNN, MLP, ResNet, ViT])
@pytest.mark.parametrize(
    ("optimizer", "cls"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)]
)
def test_only_weights_and_kernels_have_weight_decay(
    network: type[nn.Module], optimizer: str, cls: type
) -> None:
    made = module(network, optimizer=optimizer, lr=0.2, weight_decay=0.03)
    made.trainer = SimpleNamespace(estimated_stepping_batches=10)
    made_optimizer = made.configure_optimizers()["optimizer"]
    assert type(made_optimizer) is cls
    decay = {
        id(parameter): group["weight_decay"]
        for group in made_optimizer.param_groups
        for parameter in group["params"]
    }
    assert (
        sum(len(group["params"]) for group in made_optimizer.param_groups)
        == len(decay)
        == len(list(made.classifier.parameters()))
    )
    for layer in made.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            if name == "bias" or isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm)):
                assert decay[id(parameter)] == 0.0
            elif isinstance(layer, (nn.Linear, nn.Conv2d)):
                assert decay[id(parameter)] == 0.03


@pytest.mark.parametrize("warmup", [0.25, 0.6])
def test_the_learning_rate_rises_in_the_warmup_and_then_falls(warmup: float) -> None:
    made = module(lr=0.2, warmup=warmup)
    made.trainer = SimpleNamespace(estimated_stepping_batches=100)
    schedule = made.configure_optimizers()
    rates = []
    for _ in range(100):
        rates.append(schedule["optimizer"].param_groups[0]["lr"])
        schedule["optimizer"].step()
        schedule["lr_scheduler"]["scheduler"].step() if len(rates) < 100 else None
    assert schedule["lr_scheduler"]["interval"] == "step"
    assert max(rates) == pytest.approx(0.2)
    assert rates.index(max(rates)) == pytest.approx(100 * warmup, abs=2)
    assert (rates[0], rates[-1]) == (pytest.approx(0.2 / 25), pytest.approx(0.0, abs=1e-4))


class Reader(nn.Module):
    """Network that predicts the label stored in the first pixel."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.one_hot((x_BCHW[:, 0, 0, 0] * 255).round().long(), 3).float()


def test_test_accuracy_counts_images_not_batches() -> None:
    spec = DataSpec("tiny", 3, 1, 2, (0.0,), (1.0,), ("a", "b", "c"))
    made = ClassifierModule(Classifier(Reader(), spec))
    images = (torch.tensor([0, 1, 2, 0, 1])[:, None, None, None] / 255).expand(-1, 1, 2, 2)
    batches = Batches((images, torch.tensor([0, 1, 2, 0, 2])), 4, shuffle=False)
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    assert trainer.test(made, batches, verbose=False) == [
        {"classifier/test_accuracy": pytest.approx(4 / 5)}
    ]


# Batches


def test_batches_contain_every_image_once_per_epoch() -> None:
    split = torch.arange(11)[:, None], torch.arange(11) + 100

    def epochs(seed: int) -> list[list[int]]:
        torch.manual_seed(seed)
        batches = Batches(split, 4, shuffle=True)
        return [[int(label) for _, labels in batches for label in labels] for _ in range(3)]

    assert [len(labels) for _, labels in Batches(split, 4, shuffle=False)] == [4, 4, 3]
    assert [len(labels) for _, labels in Batches(split, 4, shuffle=False, drop_last=True)] == [4, 4]
    assert [len(Batches(split, size, shuffle=False, drop_last=True)) for size in (4, 11, 12)] == [
        2,
        1,
        1,
    ]  # never an empty set
    assert all(sorted(epoch) == list(range(100, 111)) for epoch in epochs(0))
    assert all(
        torch.equal(images[:, 0] + 100, labels)
        for images, labels in Batches(split, 4, shuffle=True)
    )
    assert len({tuple(epoch) for epoch in epochs(0) + epochs(1)}) == 6
    assert epochs(0) == epochs(0)


@pytest.mark.parametrize(
    ("stage", "augmented"),
    [("training", True), ("validating", False), ("testing", False), ("predicting", False)],
)
def test_batches_are_in_0_to_1_and_augmented_only_in_training(
    stage: str, augmented: bool, tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    np.savez(tmp_path / "mine.npz", X=images, y=np.arange(40) % 2)
    data = ImageDataModule("npz", path=str(tmp_path / "mine.npz"), shift=2, flip=True)
    data.trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False
    )
    setattr(data.trainer, stage, True)
    batch = torch.from_numpy(images)[:, None], torch.arange(40)
    moved, labels = data.on_after_batch_transfer(batch, 0)
    assert (moved.dtype, moved.shape, moved.min(), moved.max()) == (
        torch.float32,
        (40, 1, 8, 8),
        0,
        1,
    )
    assert torch.equal(labels, batch[1])
    kept = (moved == batch[0] / 255).flatten(1).all(dim=1)
    assert kept.sum() < 20 if augmented else kept.all()
