"""Plans of the generator: sides, widths and numbers of parameters for any shape.

Shape suffixes: B batch, Z latent, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.generator import Generator
from netinv_lightning.inversion.generator_plan import (
    Layer,
    Plan,
    doublings,
    plan_layers,
    planned_width,
)

PROPERTY = settings(deadline=None, derandomize=True, max_examples=60)


def transposed(plan: Plan) -> list[list[tuple[int, ...]]]:
    """The layers as (channels, kernel, stride, padding, side)."""
    stages = [plan.stage1, plan.stage2, [plan.to_image]]
    assert all(layer.transposed for layers in stages for layer in layers)
    return [
        [(x.channels, x.kernel[0], x.stride[0], x.padding[0], x.sides[0]) for x in layers]
        for layers in stages
    ]


def parameters(generator: nn.Module) -> int:
    return sum(weight.numel() for weight in generator.parameters())


def test_plans_of_the_papers_images_are_as_before() -> None:
    assert transposed(plan_layers((28, 28), 1, (10, 10))) == [
        [(16, 5, 1, 0, 5), (16, 4, 2, 1, 10)],
        [(24, 5, 1, 0, 14), (12, 4, 2, 1, 28)],
        [(1, 3, 1, 1, 28)],
    ]
    assert transposed(plan_layers((32, 32), 3, (4, 4))) == [
        [(16, 4, 1, 0, 4)],
        [(24, 4, 2, 1, 8), (12, 4, 2, 1, 16), (12, 4, 2, 1, 32)],
        [(3, 3, 1, 1, 32)],
    ]
    assert transposed(plan_layers((45, 45), 1, (43, 43))) == [
        [(16, 43, 1, 0, 43)],
        [(24, 3, 1, 0, 45), (12, 3, 1, 1, 45)],
        [(1, 3, 1, 1, 45)],
    ]


def test_the_mnist_generator_has_as_many_parameters_as_before() -> None:
    # embedding 10 x 128 + 128; (32 + 128) x 16 x 5^2; 16 x 16 x 4^2; 17 x 24 x 5^2; 24 x 12 x 4^2;
    # 12 x 3^2 + 1; BatchNorm 2 x (16 + 16 + 24 + 12)
    expected = 1408 + 64_000 + 4096 + 10_200 + 4608 + 109 + 136
    assert parameters(Generator(Conditioning(10, 28), 1, 28)) == expected


def test_sides_double_up_to_a_large_image() -> None:
    plan = plan_layers((128, 128), 3, (10, 10))
    assert plan.stage1[0] == Layer(256, (5, 5), (5, 5), transposed=True)
    assert plan.stage1[1:] == [Layer(200, (10, 10), (3, 3), padding=(1, 1))]
    assert [(layer.channels, *layer.sides) for layer in plan.stage2] == [
        (128, 16, 16), (64, 32, 32), (32, 64, 64), (16, 128, 128),
    ]  # fmt: skip
    assert plan.to_image == Layer(3, (128, 128), (3, 3), padding=(1, 1))


def test_a_small_rectangular_image_has_the_widths_of_a_square() -> None:
    plan = plan_layers((32, 64), 3, (10, 10))
    layers = [*plan.stage1, *plan.stage2, plan.to_image]
    assert [(layer.channels, *layer.sides) for layer in layers] == [
        (16, 5, 5), (16, 10, 10), (24, 10, 16), (12, 16, 32), (12, 32, 64), (3, 32, 64),
    ]  # fmt: skip


def test_a_large_generator_has_the_planned_parameters() -> None:
    convolutions = (
        160 * 256 * 25 + 256 * 200 * 9 + 201 * 128 * 9 + 128 * 64 * 9 + 64 * 32 * 9 + 32 * 16 * 9
    )
    batch_norms = 2 * (256 + 200 + 128 + 64 + 32 + 16)
    expected = 1408 + convolutions + batch_norms + 16 * 3 * 9 + 3
    assert expected == 1_816_355
    assert parameters(Generator(Conditioning(10, 128), 3, 128)) == expected


@pytest.mark.parametrize(("classes", "size"), [(2, 512), (10, 224), (100, 224), (1000, 224)])
def test_large_generators_stay_within_three_million_parameters(classes: int, size: int) -> None:
    generator = Generator(Conditioning(classes, size), 3, size)
    assert 1_000_000 < parameters(generator) < 3_000_000


@pytest.mark.parametrize(
    ("start", "target", "expected"),
    [
        ((10, 10), (32, 64), [(10, 16), (16, 32), (32, 64)]),
        ((4, 4), (8, 32), [(4, 8), (4, 16), (8, 32)]),
        ((5, 1), (128, 1), [(8, 1), (16, 1), (32, 1), (64, 1), (128, 1)]),
        ((1, 1), (10, 10), [(5, 5), (10, 10)]),
        ((1, 1), (1, 1), [(1, 1)]),
        ((4, 4), (65, 65), [(5, 5), (9, 9), (17, 17), (33, 33), (65, 65)]),
    ],
)
def test_doublings_by_hand(start: Any, target: Any, expected: list[tuple[int, int]]) -> None:
    assert doublings(start, target) == expected


def test_planned_widths_by_hand() -> None:
    sides = [(4, 4), (16, 16), (10, 10), (8, 512), (512, 512), (128, 1)]
    assert [planned_width(side, 256) for side in sides] == [256, 128, 200, 32, 8, 184]
    assert planned_width((128, 1), 64) == 64


@PROPERTY
@given(
    sides=st.one_of(
        st.tuples(st.integers(8, 300), st.integers(8, 300)), st.tuples(st.integers(8, 2000))
    ),
    classes=st.sampled_from([2, 3, 10, 100, 1000]),
)
def test_every_plan_reaches_its_sides(sides: tuple[int, ...], classes: int) -> None:
    conditioning = Conditioning(classes, sides)
    _, *matrix_sides = conditioning.matrix_shape
    plan = plan_layers(sides, 3, (matrix_sides[0], matrix_sides[1]))
    assert plan.stage1[-1].sides == tuple(matrix_sides)
    assert plan.to_image.sides == (*sides, 1)[:2]
    layers = [*plan.stage1, *plan.stage2, plan.to_image]
    heights, widths = zip(*(layer.sides for layer in layers), strict=True)
    assert list(heights) == sorted(heights)
    assert list(widths) == sorted(widths)
    if len(sides) == 1 or sides[0] != sides[1]:
        assert max(layer.channels for layer in layers) <= 256


@pytest.mark.parametrize(
    ("shape", "classes"),
    [
        ((1, 8, 8), 10), ((3, 27, 27), 3), ((3, 65, 65), 10), ((3, 32, 64), 10), ((4, 200, 9), 3),
        ((1, 128), 5), ((6, 9), 100), ((13,), 3), ((1,), 2),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["label", "vector_matrix"])
def test_outputs_have_the_shape_and_range(shape: tuple[int, ...], classes: int, mode: str) -> None:
    torch.manual_seed(0)
    conditioning = Conditioning(classes, shape[1:], mode=mode)
    generator = Generator(conditioning, shape[0], shape[1:])
    x_B: Tensor = generator(generator.sample_latent(3), conditioning.sample(3))
    assert x_B.shape == (3, *shape)
    assert x_B.min() >= 0
    assert x_B.max() <= 1
    x_B.sum().backward()
    assert all(weight.grad is not None for weight in generator.parameters())


def test_a_signal_is_made_by_convolutions_along_its_length() -> None:
    generator = Generator(Conditioning(5, (128,)), 1, (128,))
    kernels = [
        (type(module), module.kernel_size)
        for module in generator.modules()
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
    ]
    assert kernels == [(nn.ConvTranspose2d, (5, 1)), *[(nn.Conv2d, (3, 1))] * 6]
    # embedding; vector to 5 cells; 65, then 64 channels; to the signal; BatchNorm
    expected = 768 + 160 * 64 * 5 + 3 * (65 * 64 + 4 * 64 * 64) + 64 * 3 + 1 + 2 * 6 * 64
    assert parameters(generator) == expected


def test_a_table_is_made_by_fully_connected_layers() -> None:
    generator = Generator(Conditioning(3, ()), 13, ())
    # embedding 3 x 128 + 128; 160 x 64; (64 + 3) x 64, since the map has 3 channels; 64 x 13 + 13
    expected = 512 + 160 * 64 + 67 * 64 + 64 * 13 + 13 + 2 * (64 + 64)
    assert parameters(generator) == expected


def test_one_hot_features_sum_to_one() -> None:
    torch.manual_seed(0)
    conditioning = Conditioning(3, ())
    generator = Generator(conditioning, 6, (), groups=[[1, 4], [0, 2, 5]])
    x_BF = generator(generator.sample_latent(4), conditioning.sample(4))
    torch.testing.assert_close(x_BF[:, [1, 4]].sum(dim=1), torch.ones(4))
    torch.testing.assert_close(x_BF[:, [0, 2, 5]].sum(dim=1), torch.ones(4))
    assert ((x_BF > 0) & (x_BF < 1)).all()
