"""Test the generator's image shapes, its layer plans and the conditioning of its two stages.

Shape suffixes: B batch, Z latent, N classes, S side of the matrix, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn

from netinv_lightning.inversion.conditioning import MODES, Conditioning
from netinv_lightning.inversion.generator import ChannelDropout, Generator, growth, side_after
from netinv_lightning.training.distributed import Stream

M = TypeVar("M", bound=nn.Module)
TINY: dict[str, Any] = {"latent_dim": 5, "hidden": 4, "seed_widths": [8], "image_widths": [8, 6]}
REFERENCE: dict[str, Any] = {  # the layout of the papers' public MNIST notebooks
    "latent_dim": 100,
    "hidden": 100,
    "dropout": 0.1,
    "dropout_in_seed": False,
    "stage1": [[64, 4, 1, 0], [128, 4, 1, 0], [256, 4, 1, 0]],
    "stage2": [[512, 4, 1, 1], [256, 4, 1, 1], [128, 4, 2, 1], [64, 4, 1, 0], [0, 4, 1, 1]],
}


def made(
    mode: str = "vector_matrix",
    classes: int = 10,
    size: int = 28,
    channels: int = 1,
    **arguments: Any,
) -> tuple[Generator, Conditioning]:
    torch.manual_seed(0)
    conditioning = Conditioning(classes, size, mode=mode)
    return Generator(conditioning, channels, size, **{**TINY, **arguments}).eval(), conditioning


def modules(network: nn.Module, kind: type[M]) -> list[M]:
    return [module for module in network.modules() if isinstance(module, kind)]


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("size", [28, 32, 40, 45, 64])
@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
@pytest.mark.parametrize("mode", MODES)
def test_images_have_the_requested_shape_and_range(
    mode: str, upsampling: str, size: int, classes: int
) -> None:
    for channels in (1, 3):
        generator, conditioning = made(mode, classes, size, channels, upsampling=upsampling)
        with torch.no_grad():
            for weight in generator.to_image.parameters():
                weight.mul_(1e4)  # large enough to leave the range without the sigmoid
            x_BCHW = generator(generator.sample_latent(3), conditioning.sample(3))
        assert x_BCHW.shape == (3, channels, size, size)
        assert x_BCHW.min() >= 0
        assert x_BCHW.max() <= 1
        assert (x_BCHW - 0.5).abs().max() > 0.45


def test_reference_layout_has_the_parameters_of_the_notebooks() -> None:
    generator, conditioning = made(**REFERENCE)
    assert (
        sum(weight.numel() for weight in generator.parameters()) == 5_724_365 - 1_408
    )  # biases that are redundant before BatchNorm
    with torch.no_grad():
        condition = conditioning.sample(2)
        assert generator.stage1(torch.randn(2, 200, 1, 1)).shape == (2, 256, 10, 10)
        assert generator(generator.sample_latent(2), condition).shape == (2, 1, 28, 28)
    assert len(modules(generator.stage1, ChannelDropout)) == 0
    assert len(modules(generator.stage2, ChannelDropout)) == 4


# Layer plans


@pytest.mark.parametrize("target", range(28, 65))
def test_a_growth_plan_reaches_every_image_side_from_every_side(target: int) -> None:
    for side in range(4, target + 1):
        for widths in ([7], [7, 5, 3, 2, 2]):
            plan = growth(side, target, widths)
            assert side_after(plan, side) == target
            assert len(plan) >= len(widths)
            assert [layer[0] for layer in plan] == [
                widths[min(k, len(widths) - 1)] for k in range(len(plan))
            ]
            assert all(2 <= kernel <= 5 and stride in (1, 2) for _, kernel, stride, _ in plan)
        assert side_after(growth(1, side, [7]), 1) == side


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(4, 2, 1), (3, 1, 1), (5, 1, 0), (4, 1, 1)]
)
def test_side_after_equals_the_output_side_of_torch(kernel: int, stride: int, padding: int) -> None:
    x_BCHW = nn.ConvTranspose2d(1, 1, kernel, stride, padding)(torch.zeros(1, 1, 9, 9))
    assert x_BCHW.shape[-1] == side_after([(1, kernel, stride, padding)], 9)


def test_longer_widths_make_a_deeper_generator() -> None:
    shallow, deep = made()[0], made(seed_widths=[3] * 4, image_widths=[2] * 5)[0]
    assert (
        len(modules(shallow, nn.ConvTranspose2d))
        < len(modules(deep, nn.ConvTranspose2d))
        == 4 + 5 + 1
    )


# Structure and conditioning


@pytest.mark.parametrize("mode", MODES)
def test_the_matrix_is_a_channel_between_the_two_stages(mode: str) -> None:
    generator, conditioning = made(mode, seed_widths=[6])
    seen: dict[str, Tensor] = {}
    for name in ("stage1", "stage2"):
        getattr(generator, name).register_forward_hook(
            lambda module, given, out, name=name: seen.update({name: given[0], name + "_out": out})
        )
    condition = conditioning.sample(3)
    generator(generator.sample_latent(3), condition)
    # The latent, and the embedding of the condition
    assert seen["stage1"].shape == (
        3,
        5 + (0 if mode == "matrix" else 4),
        1,
        1,
    )
    assert seen["stage1_out"].shape == (3, 6, 10, 10)
    assert torch.equal(seen["stage2"][:, :6], seen["stage1_out"])
    assert seen["stage2"].shape[1] == (7 if mode in ("matrix", "vector_matrix") else 6)
    if condition.matrix_B1SS is not None:
        assert torch.equal(seen["stage2"][:, 6:], condition.matrix_B1SS)


@pytest.mark.parametrize("mode", ["matrix", "vector_matrix"])
def test_the_matrix_changes_the_image(mode: str) -> None:
    generator, conditioning = made(mode)
    z_BZ, condition = (
        generator.sample_latent(1).expand(10, -1),
        conditioning.of_labels(torch.zeros(10, dtype=torch.long)),
    )
    other = replace(condition, matrix_B1SS=conditioning.of_labels(torch.arange(10)).matrix_B1SS)
    with torch.no_grad():
        same_BCHW, other_BCHW = generator(z_BZ, condition), generator(z_BZ, other)
    torch.testing.assert_close(same_BCHW, same_BCHW[:1].expand(10, -1, -1, -1))
    assert len(other_BCHW.flatten(1).round(decimals=6).unique(dim=0)) == 10


def test_label_mode_uses_only_the_embedding_of_the_label() -> None:
    generator, conditioning = made("label")
    z_BZ, condition = (
        generator.sample_latent(1).expand(10, -1),
        conditioning.of_labels(torch.arange(10)),
    )
    assert isinstance(generator.embedding, nn.Embedding)
    assert generator.embedding.weight.shape == (10, 4)
    with torch.no_grad():
        told_BCHW = generator(z_BZ, condition)
        assert len(told_BCHW.flatten(1).round(decimals=6).unique(dim=0)) == 10
        torch.testing.assert_close(
            generator(z_BZ, replace(condition, target_BN=condition.target_BN.flip(1))), told_BCHW
        )
        generator.embedding.weight.copy_(generator.embedding.weight[3].clone().expand(10, -1))
        torch.testing.assert_close(
            generator(z_BZ, condition), told_BCHW[3:4].expand(10, -1, -1, -1)
        )


def test_vector_mode_uses_the_vector_and_not_the_label() -> None:
    generator, conditioning = made("vector")
    z_BZ, condition = generator.sample_latent(4), conditioning.sample(4)
    assert condition.vector_BN is not None
    with torch.no_grad():
        x_BCHW = generator(z_BZ, condition)
        torch.testing.assert_close(
            generator(z_BZ, replace(condition, label_B=(condition.label_B + 1) % 10)), x_BCHW
        )
        assert not torch.allclose(
            generator(z_BZ, replace(condition, vector_BN=condition.vector_BN.flip(1))),
            x_BCHW,
            atol=1e-6,
        )


def test_matrix_mode_does_not_condition_stage_1() -> None:
    generator, conditioning = made("matrix")
    assert generator.embedding is None
    outputs: list[Tensor] = []
    generator.stage1.register_forward_hook(lambda module, given, out: outputs.append(out))
    z_BZ = generator.sample_latent(4)
    images = [generator(z_BZ, conditioning.of_labels(torch.full((4,), label))) for label in (0, 7)]
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.allclose(images[0], images[1], atol=1e-6)


def test_dropout_and_activations_are_in_the_configured_layers() -> None:
    plain, leaky = made(dropout=0.0)[0], made(dropout=0.4, slope=0.2)[0]
    assert not modules(plain, ChannelDropout)
    assert modules(plain, nn.ReLU)
    assert not modules(plain, nn.LeakyReLU)
    rates = [module.p for module in modules(leaky, ChannelDropout)]
    assert rates
    assert set(rates) == {0.4}
    assert len(modules(leaky.stage1, ChannelDropout)) == len(modules(leaky.stage1, nn.BatchNorm2d))
    assert {module.negative_slope for module in modules(leaky, nn.LeakyReLU)} == {0.2}
    assert not modules(leaky, nn.ReLU)


def test_latents_are_normal_and_seeded() -> None:
    generator = made(latent_dim=8)[0]
    z_BZ = generator.sample_latent(5000, stream=Stream(3))
    assert torch.equal(z_BZ, torch.randn(5000, 8, generator=torch.Generator().manual_seed(3)))


def test_weight_std_initialises_weights_as_in_dcgan() -> None:
    generator = made(**{**REFERENCE, "weight_std": 0.02})[0]
    for layer in modules(generator, nn.ConvTranspose2d):
        assert layer.weight.mean().item() == pytest.approx(0, abs=0.003)
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert layer.bias is None or not layer.bias.any()
    for norm in modules(generator, nn.BatchNorm2d):
        assert norm.weight.mean().item() == pytest.approx(1, abs=0.01)
        assert norm.weight.std().item() == pytest.approx(0.02, rel=0.3)
        assert not norm.bias.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 27}, r"image_size=27: "),
        ({"size": 65}, r"image_size=65: "),
        ({"upsampling": "bilinear"}, r"upsampling=bilinear: choose transposed or resize"),
        ({"dropout": 1.0}, r"dropout=1.0: must be from 0 to below 1"),
        ({"dropout": -0.1}, r"dropout=-0.1: must be from 0 to below 1"),
        ({"latent_dim": 0}, r"latent_dim=0: "),
        ({"seed_widths": [8, 0]}, r"seed_widths=\[8, 0\]: "),
        ({"seed_widths": []}, r"seed_widths=\[\]: "),
        ({"image_widths": []}, r"image_widths=\[\]: "),
        (
            {"stage1": [[8, 4, 1, 0]]},
            r"stage1=\[\[8, 4, 1, 0\]\]: gives a side of 4; must give 10",
        ),
        (
            {"stage2": [[8, 4, 2, 1], [0, 3, 1, 1]]},
            r"stage2=.*: gives a side of 20; must give 28",
        ),
    ],
)
def test_invalid_values_name_their_key(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        made(**arguments)
