"""Shadow networks trained at once, and the attacks that use them."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

import netinv_lightning
from netinv_lightning.classifiers.classifier_module import ClassifierModule
from netinv_lightning.classifiers.log_odds import log_odds
from netinv_lightning.classifiers.networks import CNN, MLP
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.data.specs import MNIST
from netinv_lightning.errors import InputError
from netinv_lightning.privacy.build import build_shadow_plan
from netinv_lightning.privacy.shadow_attack import attack_scores
from netinv_lightning.privacy.shadow_networks import (
    ShadowNetworks,
    paired_halves,
)
from netinv_lightning.privacy.stacked_training import StackRecipe

RECIPE = StackRecipe(
    epochs=4,
    batch_size=20,
    optimizer="sgd",
    lr=0.05,
    momentum=0.9,
    weight_decay=1e-2,
    l1=0.0,
    label_smoothing=0.1,
    warmup=0.25,
)
X = torch.rand(40, 1, 28, 28, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(40) % 10


def networks(count: int = 2) -> list[Classifier]:
    torch.manual_seed(0)
    return [
        Classifier(MLP(10, 1, 28, widths=[16], batch_norm=False, dropout=0), MNIST)
        for _ in range(count)
    ]


def test_a_stacked_network_trains_as_one_alone() -> None:
    """Full batches, so that the order does not matter; both have the training of the package."""
    several = networks()
    alone = copy.deepcopy(several[1])
    included_SP = paired_halves(2, 40, seed=0)
    shadows = ShadowNetworks(several)
    shadows.train(X, LABELS, included_SP, RECIPE, seed=0)
    module = ClassifierModule(alone, lr=0.05, weight_decay=1e-2)
    module.total_steps = 4
    found = module.configure_optimizers()
    for _ in range(4):
        found["optimizer"].zero_grad()
        x_BCHW, label_B = X[included_SP[1]], LABELS[included_SP[1]]
        nn.functional.cross_entropy(alone(x_BCHW), label_B, label_smoothing=0.1).backward()
        found["optimizer"].step()
        found["lr_scheduler"]["scheduler"].step()
    expected_m = log_odds(alone.eval()(X).detach().double(), LABELS)
    torch.testing.assert_close(shadows.log_odds(X, LABELS)[1], expected_m, atol=1e-4, rtol=1e-4)


def test_batch_norm_and_dropout_train_in_stacks() -> None:
    torch.manual_seed(0)
    several = [
        Classifier(CNN(10, 1, 28, stages=((2,), (2,)), hidden=4, dropout=0.5), MNIST)
        for _ in range(2)
    ]
    shadows = ShadowNetworks(several)
    shadows.train(X, LABELS, paired_halves(2, 40, seed=0), RECIPE, seed=0)
    (counts,) = {
        tuple(count.tolist())
        for name, count in shadows.buffers.items()
        if name.endswith("num_batches_tracked")
    }
    assert counts == (4, 4)
    means = next(of for name, of in shadows.buffers.items() if name.endswith("running_mean"))
    assert not torch.equal(means[0], means[1])
    score_Sm = shadows.log_odds(X, LABELS)
    assert score_Sm.shape == (2, 40)
    assert torch.equal(score_Sm, shadows.log_odds(X, LABELS))  # no dropout


def test_each_image_is_in_one_half_of_each_pair() -> None:
    included_SP = paired_halves(6, 10, seed=3)
    assert included_SP.sum(dim=1).tolist() == [5] * 6
    assert (included_SP[::2] ^ included_SP[1::2]).all()
    assert not torch.equal(included_SP[0], included_SP[2])


def test_log_odds_of_three_classes_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]).double()
    found = log_odds(logits.expand(5, 2, 3), torch.tensor([2, 0]))
    assert found.shape == (5, 2)
    expected = [-(torch.tensor(2.0).log()), 1 - torch.tensor(2.0).log()]
    assert found[0].tolist() == pytest.approx([float(value) for value in expected])


def test_shadows_reveal_members_that_losses_do_not() -> None:
    """Images differ in difficulty by 10, and membership raises the log odds by only 2."""
    source = torch.Generator().manual_seed(0)
    m, S = 400, 16
    difficulty_m = 10 * torch.randn(m, generator=source).double()
    included_Sm = paired_halves(S, m, seed=0)
    shadow_Sm = difficulty_m + 2 * included_Sm + 0.5 * torch.randn(S, m, generator=source)
    member = torch.arange(m) < 200
    score_m = difficulty_m + 2 * member + 0.5 * torch.randn(m, generator=source)
    found = attack_scores(score_m, shadow_Sm, included_Sm, members=200)
    assert found["loss"].auc < 0.65
    assert found["lira_online"].auc > 0.95
    assert found["lira_offline"].auc > 0.95
    assert found["rmia_online"].auc > 0.9
    assert found["lira_online"].identified[1].true_positive_rate > 0.5


def test_shadow_networks_need_a_recipe_and_pairs(tmp_path: Path) -> None:
    cardless = tmp_path / "mine.safetensors"
    cardless.write_bytes(b"")
    classifier = Classifier(MLP(10, 1, 28), MNIST)
    for overrides, told in (
        (["application.shadow=5"], r"application.shadow=5: must be even\..* Set 6"),
        (
            ["application.shadow=4", "classifier.zoo=null", f"classifier.path={cardless}"],
            r"application.shadow=4: shadow networks need the network and the recipe",
        ),
    ):
        cfg = netinv_lightning.compose(
            ["application=audit", "data=mnist5k", "classifier.zoo=mnist_mlp", *overrides]
        )
        with pytest.raises(InputError, match=told):
            build_shadow_plan(cfg, classifier)  # type: ignore[arg-type]
    cfg.application.shadow = None
    assert build_shadow_plan(cfg, classifier) is None  # type: ignore[arg-type]
