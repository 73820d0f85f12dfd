"""`application.micro_batch`: the memory of a part of the batch, the result of the whole batch.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.networks import CNN, MLP, ViT
from netinv_lightning.classifiers.tokens import record_tokens
from netinv_lightning.config.loss_terms import LOSS_TERMS
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.channel_moments import moments
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.generator import Generator
from netinv_lightning.inversion.methods.gradient import PixelInversion
from netinv_lightning.inversion.methods.kkt import KktInversion
from netinv_lightning.inversion.micro_batches import check_parts, in_parts, trace_in_parts
from netinv_lightning.inversion.module import InversionModule
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.perturbation import Perturbation

B = 7
SPEC = DataSpec("small", 4, 1, 28, (0.3,), (0.5,), tuple("abcd"))
LAYERS = ("penultimate", "convolutions.0")
EVERY_TERM = {name: {"weight": 1.0} for name in LOSS_TERMS}


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


EXACT = {name: options for name, options in EVERY_TERM.items() if name != "uncertainty"}
"""Terms whose value does not depend on the parts; `uncertainty` drops other values in each part."""


def small_classifier() -> FrozenClassifier:
    torch.manual_seed(1)
    network = CNN(4, 1, 28, stages=((3,), (4,)), hidden=8)
    return FrozenClassifier(network, SPEC, LAYERS)


def step_of(
    micro_batch: int | None,
    terms: dict[str, dict[str, float]],
    classifier: FrozenClassifier,
    direction: str = "adversarial",
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Return loss, logged values and gradients of the first step of two generators."""
    torch.manual_seed(0)
    conditioning = Conditioning(4, 28)
    sizes = {"latent_dim": 6, "hidden": 5, "seed_widths": [8], "image_widths": [8, 6]}
    module = InversionModule(
        [Generator(conditioning, 1, 28, **sizes) for _ in range(2)],
        conditioning,
        classifier,
        Objective(terms, classifier.feature_layers),
        Perturbation("l2", 0.5, direction, steps=2),
        Augmentation(shift=1, noise=0.1),
        batch_size=B,
        micro_batch=micro_batch,
    )
    recorded: list[Tensor] = []
    module._record = recorded.append  # type: ignore[method-assign]
    module.generators.start_streams(torch.device("cpu"), None)
    loss = module.training_step(None, 0)
    loss.backward()
    gradients = {name: weight.grad for name, weight in module.generators.named_parameters()}
    return loss.detach(), recorded[0], gradients  # type: ignore[return-value]


@pytest.mark.parametrize("per_image", [True, False])
@pytest.mark.parametrize("micro_batch", [1, 3, B])
def test_every_term_has_the_gradients_of_the_whole_batch(micro_batch: int, per_image: bool) -> None:
    terms = {**EXACT, "gradient": {"weight": 1.0, "per_image": per_image}}
    classifier = small_classifier()
    loss, values_GV, gradients = step_of(None, terms, classifier)
    in_parts_loss, in_parts_GV, in_parts_gradients = step_of(micro_batch, terms, classifier)
    torch.testing.assert_close(in_parts_loss, loss, rtol=1e-11, atol=0)
    torch.testing.assert_close(in_parts_GV, values_GV, rtol=1e-9, atol=1e-12)
    assert gradients.keys() == in_parts_gradients.keys()
    for name, gradient in gradients.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(
            in_parts_gradients[name], gradient, rtol=1e-8, atol=1e-11, msg=name
        )


def test_terms_of_tokens_have_the_gradients_of_the_whole_batch() -> None:
    torch.manual_seed(1)
    network = ViT(4, 1, 28, patch=7, dim=12, depth=1, heads=2, stem=4)
    classifier = FrozenClassifier(network, SPEC)
    assert len(record_tokens(classifier)) > 1
    terms = {"ce": {"weight": 1.0}, "patch_similarity": {"weight": 10.0}}
    _, values_GV, gradients = step_of(None, terms, classifier)
    _, in_parts_GV, in_parts_gradients = step_of(3, terms, classifier)
    torch.testing.assert_close(in_parts_GV, values_GV, rtol=1e-9, atol=1e-12)
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            in_parts_gradients[name], gradient, rtol=1e-8, atol=1e-11, msg=name
        )


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_the_network_never_gets_more_images_than_a_part(micro_batch: int) -> None:
    classifier, sizes = small_classifier(), []
    classifier.network.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    terms = {name: options for name, options in EVERY_TERM.items() if name != "gradient"}
    step_of(micro_batch, terms, classifier)  # the gradient term calls it within vmap
    assert max(sizes) == micro_batch


def test_each_image_passes_forward_twice_and_backward_once() -> None:
    classifier = small_classifier()
    counts = classifier.forward_count
    before = counts.forwards
    step_of(3, {"ce": {"weight": 1.0}}, classifier)
    assert (counts.forwards - before, counts.backwards) == (2 * 2 * B, 2 * B)


def test_two_rows_have_the_moments_of_a_batch_norm_input() -> None:
    """They are exact for parts of different sizes, large means and constant channels."""
    torch.manual_seed(0)
    x_BCHW = torch.rand(B, 3, 4, 4) * torch.tensor([1.0, 0.0, 1e-3]).view(3, 1, 1)
    x_BCHW = (x_BCHW + torch.tensor([0.0, 5.0, 100.0]).view(3, 1, 1)).requires_grad_()
    spec = DataSpec("colours", 3, 3, 8, (0.0,) * 3, (1.0,) * 3, tuple("abc"))
    network = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = FrozenClassifier(network, spec, feature_layers=())
    _, _, normed = trace_in_parts(classifier, x_BCHW, 3)
    assert normed["0"].shape == (2, 3)
    results = []
    for values in (normed["0"], x_BCHW):
        mean_C, var_C = moments(values)
        loss = (mean_C * torch.arange(3)).sum() + var_C.sum()
        results.append((mean_C, var_C, torch.autograd.grad(loss, x_BCHW)[0]))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)


def test_parts_are_differentiable_once_only() -> None:
    x_B = torch.rand(4, requires_grad=True)
    (y_B,) = in_parts(lambda x_b: (x_b**3,), 2, x_B)
    (gradient_B,) = torch.autograd.grad(y_B.sum(), x_B, retain_graph=True)
    torch.testing.assert_close(gradient_B, 3 * x_B**2)
    with pytest.raises(RuntimeError, match="needs a second derivative, which is not available"):
        torch.autograd.grad(y_B.sum(), x_B, create_graph=True)


class BatchStatistics(nn.Module):
    """A network that compares each image with the others of its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.head = nn.BatchNorm1d(784, track_running_stats=False), nn.Linear(784, 4)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(x_BCHW.flatten(1)))
        return logits


def test_a_network_that_mixes_images_is_refused() -> None:
    with pytest.raises(InputError, match=r"^application\.micro_batch=2: the logits .* depend"):
        check_parts(FrozenClassifier(BatchStatistics(), SPEC), 2)
    classifier = small_classifier()
    before = classifier.forward_count.forwards
    check_parts(classifier, 2)
    assert classifier.forward_count.forwards == before


def test_optimised_pixels_do_not_depend_on_the_parts() -> None:
    images = []
    for micro_batch in (None, 2):
        torch.manual_seed(0)
        conditioning = Conditioning(4, 28)
        terms = {name: options for name, options in EXACT.items() if name != "l1"}
        pixels = PixelInversion(
            conditioning,
            small_classifier(),
            Objective(terms, LAYERS),
            steps=3,
            micro_batch=micro_batch,
        )
        images.append(pixels.draw(conditioning.sample(5)))
    torch.testing.assert_close(images[1], images[0], rtol=1e-6, atol=1e-8)
    assert images[0].std() > 0.1


def test_kkt_candidates_do_not_depend_on_the_parts() -> None:
    found = []
    for micro_batch in (None, 3):
        torch.manual_seed(0)
        network = MLP(4, 1, 28, widths=(9,), batch_norm=False, dropout=0.0)
        kkt = KktInversion(
            Conditioning(4, 28),
            FrozenClassifier(network, SPEC),
            candidates=8,
            steps=4,
            micro_batch=micro_batch,
        )
        found.append(kkt.reconstruct())
    torch.testing.assert_close(found[1].images_MCHW, found[0].images_MCHW, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(found[1].multiplier_M, found[0].multiplier_M, rtol=1e-6, atol=0)
