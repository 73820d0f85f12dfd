"""Plan the generator's layers from the shape of its outputs.

For square images of up to 64 pixels, such as the papers', the layers are transposed convolutions:
first with stride 1, then with stride 2, which doubles the side (`growth`). For other images,
signals and tables, each layer is a resize and a convolution. The sides double from layer to layer
(`doublings`), and the number of channels falls as the sides grow (`planned_width`).

A map has two sides. The second one is 1 for signals; both are 1 for tables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from netinv_lightning.inversion.class_map import PAPERS_SIDE, SMALLEST_SIDE

Sides = tuple[int, int]
"""Height and width of a map."""

LARGEST_GROWTH = 4
"""Most pixels that a planned transposed convolution of stride 1 adds to the side (kernel 5)."""
PAPERS_WIDTHS = (16,), (24, 12)
"""Channels of stage 1 and stage 2 for images of up to 64 pixels."""
WIDTH_TIMES_SIDE, SMALLEST_WIDTH = 2048, 8
LARGEST_WIDTH, LARGEST_WIDTH_OF_VALUES = 256, 64
"""Largest number of channels of a planned layer, for images, and for signals and tables."""


@dataclass(frozen=True)
class Layer:
    """One layer of up-sampling.

    Attributes:
        channels: Channels of its output.
        sides: Sides of its output.
        kernel, stride, padding: Those of its convolution, along both sides.
        transposed: Whether it is a transposed convolution; otherwise it is a resize to `sides` and
            a convolution.
    """

    channels: int
    sides: Sides
    kernel: Sides
    stride: Sides = (1, 1)
    padding: Sides = (0, 0)
    transposed: bool = False


@dataclass(frozen=True)
class Plan:
    """The layers of a generator.

    Attributes:
        stage1: Layers from a vector to the sides of the conditioning matrix.
        stage2: Layers from there to the sides of the output, without the last one.
        to_image: The last layer.
    """

    stage1: Sequence[Layer]
    stage2: Sequence[Layer]
    to_image: Layer


def plan_layers(
    sides: Sequence[int],
    channels: int,
    matrix_sides: Sides,
    seed_widths: Sequence[int] | None = None,
    image_widths: Sequence[int] | None = None,
    upsampling: str = "auto",
    stage1: Sequence[Sequence[int]] | None = None,
    stage2: Sequence[Sequence[int]] | None = None,
) -> Plan:
    """Plan the layers of a generator; for the arguments see `Generator`.

    Args:
        sides: Sides of the output: (H, W), (L,) or ().
        channels: Channels of the output.
        matrix_sides: Sides of the conditioning matrix.
        seed_widths: Channels of the layers of stage 1; None to plan them.
        image_widths: The same for stage 2.
        upsampling: `auto`, `transposed` or `resize`.
        stage1: Layers of stage 1 as [channels, kernel, stride, padding]; None to plan them.
        stage2: The same for stage 2 and the last layer.

    Raises:
        ValueError: if the layers do not reach the sides, or are of a kind that does not fit the
            sides. The message starts with `<argument>=`.
    """
    height, width, *_ = (*sides, 1, 1)
    target = (height, width)
    given = {"stage1": stage1, "stage2": stage2}
    square = len(sides) == 2 and height == width
    if not square and any(given.values()):
        name = next(name for name, layers in given.items() if layers)
        raise ValueError(
            f"{name}={_listed(given[name])}: describes layers for square images; leave it out"
        )
    of_papers = square and height <= PAPERS_SIDE
    if upsampling == "transposed" and not (of_papers or all(given.values())):
        raise ValueError(
            "upsampling=transposed: is planned for square images of up to "
            f"{PAPERS_SIDE} pixels; choose auto or resize"
        )
    if of_papers or any(given.values()):
        side, transposed = matrix_sides[0], upsampling != "resize"
        first = stage1 or growth(1, side, seed_widths or PAPERS_WIDTHS[0])
        second = stage2 or [*growth(side, height, image_widths or PAPERS_WIDTHS[1]), (0, 3, 1, 1)]
        of_seed = _square_layers(first, 1, side, transposed, "stage1", "the conditioning matrix")
        *of_image, last = _square_layers(second, side, height, transposed, "stage2", "the images")
        return Plan(of_seed, of_image, replace(last, channels=channels))
    most = LARGEST_WIDTH if len(sides) == 2 else LARGEST_WIDTH_OF_VALUES
    if len(sides) == 2 and max(sides) <= PAPERS_SIDE:
        seed_widths = seed_widths or PAPERS_WIDTHS[0]
        image_widths = image_widths or PAPERS_WIDTHS[1]
    seeds = doublings((1, 1), matrix_sides)
    first_layer, *layers = _resizing(seeds, seed_widths, most)
    from_vector = Layer(first_layer.channels, seeds[0], kernel=seeds[0], transposed=True)
    last = _convolution(channels, target)
    return Plan(
        [from_vector, *layers], _resizing(doublings(matrix_sides, target), image_widths, most), last
    )


def doublings(start: Sides, target: Sides) -> list[Sides]:
    """Return the sides of successive maps, which about double from near `start` to `target`.

    They are found backwards, by halving `target` and rounding up, as long as the longer side is at
    least 4 and at least the longer side of `start`. No side falls below that of `start`.
    """
    found, least = [target], max(SMALLEST_SIDE, *start)
    while max(half := (-(-found[0][0] // 2), -(-found[0][1] // 2))) >= least:
        found.insert(
            0, (max(half[0], min(start[0], target[0])), max(half[1], min(start[1], target[1])))
        )
    return found[1:] if found[0] == start and len(found) > 1 else found


def planned_width(sides: Sides, most: int) -> int:
    """Return the channels of a layer: 2048 / sqrt(H W), from 8 to `most`, a multiple of 8.

    With this number the cost of a layer is about the same at every size.
    """
    width = WIDTH_TIMES_SIDE // math.isqrt(sides[0] * sides[1])
    return max(SMALLEST_WIDTH, min(width, most) // 8 * 8)


def growth(side: int, target: int, widths: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """Plan transposed convolutions from `side` to `target`, first of stride 1, then of stride 2.

    Args:
        side: Side to start from; 1 for a vector.
        target: Side to reach, `side` or more.
        widths: Output channels of the first layers; the last one is repeated.

    Returns:
        Layers as (channels, kernel, stride, padding), at least as many as `widths`, so that a
        longer list makes a deeper generator.
    """
    doublings = 0
    while target % 2 ** (doublings + 1) == 0 and target // 2 ** (doublings + 1) >= max(
        side, SMALLEST_SIDE
    ):
        doublings += 1
    start = target // 2**doublings
    plan: list[tuple[int, int, int]] = []
    if side == 1:
        plan.append((start, 1, 0))  # one layer that starts from a vector
    else:
        missing = start - side
        steps = max(1, -(-missing // LARGEST_GROWTH)) if missing else 0
        for step in range(steps):
            grow = missing // steps + (step < missing % steps)
            plan.append((grow + 1, 1, 0))
    plan += [(4, 2, 1)] * doublings
    plan += [(3, 1, 1)] * (len(widths) - len(plan))  # the other layers keep the side
    return [
        (width, *layer) for width, layer in zip(_repeated(widths, len(plan)), plan, strict=True)
    ]


def side_after(layers: Sequence[Sequence[int]], side: int) -> int:
    """Return the side of the output of transposed convolutions."""
    for _, kernel, stride, padding in layers:
        side = (side - 1) * stride - 2 * padding + kernel
    return side


def _square_layers(
    layers: Sequence[Sequence[int]],
    side: int,
    target: int,
    transposed: bool,
    name: str,
    what: str,
) -> list[Layer]:
    """Return the layers given as [channels, kernel, stride, padding] after checking their sides."""
    if (reached := side_after(layers, side)) != target:
        raise ValueError(
            f"{name}={_listed(layers)}: gives a side of {reached}; must give {target}, the side of "
            f"{what}"
        )
    planned = []
    for channels, kernel, stride, padding in layers:
        after = side_after([(channels, kernel, stride, padding)], side)
        if transposed or side == 1:  # a single pixel cannot be interpolated
            both, kernels, strides, paddings = (
                (value, value) for value in (after, kernel, stride, padding)
            )
            planned.append(Layer(channels, both, kernels, strides, paddings, transposed=True))
        else:
            planned.append(_convolution(channels, (after, after)))
        side = after
    return planned


def _resizing(sides: list[Sides], widths: Sequence[int] | None, most: int) -> list[Layer]:
    """Return layers that resize to `sides`; extra `widths` add layers that keep the last sides."""
    if widths is None:
        widths = [planned_width(of_layer, most) for of_layer in sides]
    sides = sides + [sides[-1]] * (len(widths) - len(sides))
    return [
        _convolution(*layer) for layer in zip(_repeated(widths, len(sides)), sides, strict=True)
    ]


def _convolution(channels: int, sides: Sides) -> Layer:
    """Return a convolution with kernel 3 along sides above 1, and kernel 1 along the others."""
    height, width = (3 if side > 1 else 1 for side in sides)
    return Layer(channels, sides, (height, width), padding=(height // 2, width // 2))


def _repeated(widths: Sequence[int], count: int) -> list[int]:
    return [widths[min(index, len(widths) - 1)] for index in range(count)]


def _listed(layers: Sequence[Sequence[int]] | None) -> list[list[int]]:
    return [list(layer) for layer in layers or ()]
