"""`loss.networks`: several classifiers at once; `application.sampling_views`: views of samples.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from omegaconf import DictConfig

from netinv_lightning.classifiers.build import load_classifier, load_zoo
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.build import make_module
from netinv_lightning.inversion.build_objective import build_objective
from tests.inversion.small_objective import made_step, value_of

Compose = Callable[..., DictConfig]


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_the_term_is_the_sum_of_three_terms_of_each_network(micro_batch: int | None) -> None:
    step = replace(made_step(), micro_batch=micro_batch)
    kl, ce, batch_norm = (value_of(step, name) for name in ("kl", "ce", "batch_norm"))
    two = [step.classifier, step.classifier]
    value = value_of(step, "networks", networks=two, statistics=0.5)
    torch.testing.assert_close(value, 2 * (kl + ce + 0.5 * batch_norm))
    torch.testing.assert_close(
        value_of(step, "networks", networks=two, statistics=0), 2 * (kl + ce)
    )


def test_the_networks_get_the_views_of_the_classifier() -> None:
    step = made_step()
    view_BCHW = 1 - step.x_BCHW
    logits_BN, features, normed = step.classifier.trace(view_BCHW)
    of_views = replace(step, logits_BN=logits_BN, features=features, normed=normed)
    expected = value_of(of_views, "kl") + value_of(of_views, "ce")
    with_views = replace(step, view_BCHW=view_BCHW)
    found = value_of(with_views, "networks", networks=[step.classifier], statistics=0)
    torch.testing.assert_close(found, expected)
    gradient_BCHW = torch.autograd.grad(found, step.x_BCHW)[0]
    assert gradient_BCHW.abs().sum() > 0


def test_a_verifier_is_refused_and_a_term_without_networks_too(compose: Compose) -> None:
    cfg = compose("application.verifiers=[mnist_resnet]", "+loss.networks={weight: 1}")
    classifier = load_classifier(cfg)
    with pytest.raises(InputError, match=r"loss\.networks: needs other networks in loss\.networks"):
        build_objective(cfg, classifier)
    cfg = compose(
        "application.verifiers=[mnist_resnet]",
        "+loss.networks={weight: 1, networks: [mnist_resnet]}",
    )
    with pytest.raises(InputError, match=r"loss\.networks\.networks=mnist_resnet: is a verifier"):
        build_objective(cfg, classifier)
    cfg = compose("+loss.networks={weight: 1, networks: [mnist_mlp]}")
    assert build_objective(cfg, load_zoo("mnist_cnn")).weights["networks"] == 1


def test_samples_are_views_without_noise(compose: Compose) -> None:
    def drawn(*overrides: str) -> torch.Tensor:
        module = make_module(compose("loss=natural", "generator=tiny", *overrides))
        torch.manual_seed(1)
        return module.draw(module.conditioning.sample(4))

    plain, viewed = drawn(), drawn("application.sampling_views=true")
    assert plain.shape == viewed.shape
    assert (plain - viewed).abs().max() > 0.01
    none = [f"augmentation.{key}=0" for key in ("shift", "rotation", "scale", "shear")]
    # The noise of the training views is left out, and views without changes are the images.
    assert torch.equal(plain, drawn("application.sampling_views=true", *none))
    assert Augmentation(noise=0.3, resize=[8, 64]).without_noise().moves is False
