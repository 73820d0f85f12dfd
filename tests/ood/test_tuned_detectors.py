"""Detectors that are tuned on noise: ODIN and OODL."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.ood.detectors import (
    collect_fit_data,
    extract_features,
    fit_detector,
    tuning_noise,
)
from netinv_lightning.ood.detectors.odin import ODIN, STEPS, TEMPERATURES
from netinv_lightning.ood.detectors.oodl import OODL
from tests.ood.linear_classifiers import TINY, auroc, linear_classifier, source


def odin_of_linear(
    classifier: FrozenClassifier, images_nCHW: Tensor, temperature: float, step: float
) -> Tensor:
    """Compute ODIN with the gradient in closed form: W^T (softmax - one-hot prediction) / T."""
    linear = classifier.network[1]  # type: ignore[index]
    weight_34, bias_3 = linear.weight.double(), linear.bias.double()
    x_nP = images_nCHW.flatten(1).double()
    logits_nN = (x_nP @ weight_34.T + bias_3) / temperature
    predicted_nN = torch.nn.functional.one_hot(logits_nN.argmax(dim=1), 3)
    moved_nP = x_nP - step * ((logits_nN.softmax(dim=1) - predicted_nN) @ weight_34).sign()
    return 1 - ((moved_nP @ weight_34.T + bias_3) / temperature).softmax(dim=1).amax(dim=1)


@pytest.mark.parametrize(
    ("temperature", "step"), [(1.0, 0.004), (10.0, 0.1), (1000.0, 0.0), (1000.0, 0.002)]
)
def test_odin_equals_its_formula(temperature: float, step: float) -> None:
    """Steps are in units of pixels in [0, 1], not of normalised pixels."""
    classifier, images_nCHW = linear_classifier(), torch.rand(150, 1, 2, 2, generator=source())
    score_n = ODIN(classifier, temperature, step, 0.0)(extract_features(classifier, images_nCHW))
    torch.testing.assert_close(
        score_n, odin_of_linear(classifier, images_nCHW, temperature, step), rtol=0, atol=1e-6
    )


def test_odin_selects_the_best_setting_of_its_grid() -> None:
    classifier = linear_classifier(8 * torch.randn(3, 4, generator=source(4)))
    images_nCHW = torch.rand(90, 1, 2, 2, generator=source())
    outliers_nCHW = 0.35 + 0.3 * torch.rand(90, 1, 2, 2, generator=source(5))
    labels_n = torch.arange(90) % 3
    fit_data = collect_fit_data(classifier, images_nCHW, labels_n, images_nCHW, outliers_nCHW)
    chosen = ODIN.fit(fit_data)
    reached = {
        (temperature, step): auroc(
            *(
                odin_of_linear(classifier, images, temperature, step)
                for images in (images_nCHW, outliers_nCHW)
            )
        )
        for temperature in TEMPERATURES
        for step in STEPS
    }
    assert min(reached.values()) < max(reached.values())
    assert chosen.auroc == pytest.approx(max(reached.values()), abs=1e-3)
    assert reached[chosen.temperature, chosen.step] == pytest.approx(chosen.auroc, abs=1e-3)


def test_odin_ties_give_the_highest_temperature_and_no_step() -> None:
    classifier, images_nCHW = linear_classifier(), torch.rand(30, 1, 2, 2, generator=source())
    chosen = ODIN.fit(
        collect_fit_data(
            classifier, images_nCHW, torch.arange(30) % 3, images_nCHW, images_nCHW.clone()
        )
    )
    assert (chosen.temperature, chosen.step, chosen.auroc) == (TEMPERATURES[0], 0, 0.5)


class Contrast(nn.Module):
    """Network that separates images by contrast in its second layer, but not in its first."""

    def __init__(self, hides_again: bool) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Identity(), nn.ReLU(), nn.Tanh()
        self.head, self.hides_again = nn.Linear(4, 3), hides_again

    def forward(self, x_BCHW: Tensor) -> Tensor:
        contrast_BCHW = self.second(self.first(x_BCHW) - 0.5)
        last_BCHW = self.third(0 * contrast_BCHW if self.hides_again else contrast_BCHW)
        logits_BN: Tensor = self.head(last_BCHW.flatten(1))
        return logits_BN


@pytest.mark.parametrize("hides_again", [False, True])
def test_oodl_selects_the_first_layer_that_separates_outliers(hides_again: bool) -> None:
    """All images have a mean of about 0.5; in-distribution images are checkered, outliers are gray.

    The third layer separates them as well as the second, or not at all.
    """
    torch.manual_seed(0)
    classifier = FrozenClassifier(Contrast(hides_again), TINY)
    signs_122 = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]])
    mean_n111 = 0.5 + 0.02 * torch.randn(200, 1, 1, 1, generator=source())
    checkered = mean_n111 + 0.3 * signs_122
    gray = mean_n111.flip(0).expand(-1, 1, 2, 2).contiguous()
    fit_data = collect_fit_data(
        classifier, checkered, torch.arange(200) % 3, checkered.flip(0), gray
    )
    chosen = OODL.fit(fit_data)
    assert (chosen.layer, chosen.auroc) == ("second", 1)
    assert fit_detector("oodl", fit_data).scorer.layers == ("second",)
    assert (
        fit_detector("oodl", fit_data).score(gray).min()
        > fit_detector("oodl", fit_data).score(checkered).quantile(0.9)
    ).item()


def test_tuning_noise_is_half_uniform_and_half_gaussian() -> None:
    made_nCHW = tuning_noise(torch.zeros(1, 3, 16, 16), 41, seed=3)
    assert made_nCHW.shape == (41, 3, 16, 16)
    assert float(made_nCHW.min()) == 0
    assert float(made_nCHW.max()) == 1
    at_ends_n = ((made_nCHW == 0) | (made_nCHW == 1)).flatten(1).float().mean(dim=1)
    assert float(at_ends_n[:21].max()) < 0.01
    beyond_one_deviation = 2 * 0.1587
    assert at_ends_n[21:].mean() == pytest.approx(beyond_one_deviation, abs=0.02)
    assert torch.equal(made_nCHW, tuning_noise(torch.zeros(1, 3, 16, 16), 41, seed=3))
