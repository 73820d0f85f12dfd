"""Draw Figures 1 and 4 of the paper, inversion and reconstruction: `make schematics`.

Suhail, Tang and Sethi 2024 (arXiv:2411.17777), sections 3 and 5.3.

The classifier is the MNIST CNN of the zoo. For each figure, a generator is trained with the
objective that the figure shows. The vector, matrix, images and outputs in the figure are those of
this trained generator.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib.style
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from torch import Tensor

import netinv_lightning as netinv
from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.figures.style import PALETTE, PAPER
from netinv_lightning.inversion.conditioning import Condition
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.training.distributed import Stream
from netinv_lightning.training.seeds import own_randomness

HERE = Path(__file__).parent
LABEL, SEED = 7, 0
CPU = torch.device("cpu")
TRAINED, FROZEN, TERM, PERTURBED = PALETTE[0], "#666666", PALETTE[3], "#888888"
HEIGHT = 1.0  # of a box, in canvas units


class Sketch:
    """Canvas for boxes, pictures and arrows; one unit is the height of a box."""

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width * 0.8, height * 0.8))
        self.axes = self.figure.add_axes(
            (0, 0, 1, 1), xlim=(0, width), ylim=(0, height), aspect="equal"
        )
        self.axes.set_axis_off()

    def box(
        self,
        x: float,
        y: float,
        text: str,
        colour: str,
        width: float = 1.6,
        dashed: bool = False,
        filled: bool = False,
    ) -> None:
        """Draw a box centred at (x, y)."""
        corner = (x - width / 2, y - HEIGHT / 2)
        style = {
            "edgecolor": colour,
            "facecolor": colour if filled else "white",
            "linestyle": "--" if dashed else "-",
            "linewidth": 1.2,
        }
        self.axes.add_patch(
            FancyBboxPatch(
                corner, width, HEIGHT, boxstyle="round,pad=0,rounding_size=0.12", **style
            )
        )
        self.axes.text(
            x, y, text, ha="center", va="center", color="white" if filled else colour, fontsize=8
        )

    def words(self, x: float, y: float, text: str, colour: str = "black", size: float = 7) -> None:
        self.axes.text(x, y, text, ha="center", va="center", color=colour, fontsize=size)

    def inset(self, x: float, y: float, width: float, height: float = HEIGHT) -> Axes:
        axes = self.axes.inset_axes(
            (x - width / 2, y - height / 2, width, height), transform=self.axes.transData
        )
        axes.set(xticks=[], yticks=[])
        return axes

    def picture(self, x: float, y: float, image_HW: Tensor, dashed: bool = False) -> None:
        axes = self.inset(x, y, HEIGHT)
        axes.imshow(image_HW, cmap="gray", vmin=0, vmax=1)
        axes.spines[:].set(
            linestyle="--" if dashed else "-",
            edgecolor=PERTURBED if dashed else "black",
            visible=True,
        )

    def bars(self, x: float, y: float, values_N: Tensor, colour: str, dashed: bool = False) -> None:
        axes = self.inset(x, y, 1.3, 0.8)
        style = (
            {"facecolor": "white", "edgecolor": colour, "linestyle": "--"}
            if dashed
            else {"color": colour}
        )
        axes.bar(range(len(values_N)), values_N, **style)
        axes.set(ylim=(0, 1.05), xlim=(-0.8, len(values_N) - 0.2))
        axes.spines[["top", "right", "left"]].set_visible(False)

    def arrow(
        self, points: Sequence[tuple[float, float]], colour: str = "black", dashed: bool = False
    ) -> None:
        """Draw a line through the points, with an arrow head at the last one."""
        line = "--" if dashed else "-"
        for (x, y), (to_x, to_y) in pairwise(points[:-1]):
            self.axes.plot(
                [x, to_x],
                [y, to_y],
                color=colour,
                linestyle=line,
                linewidth=1,
                solid_capstyle="round",
            )
        head = FancyArrowPatch(
            points[-2],
            points[-1],
            arrowstyle="-|>",
            mutation_scale=8,
            color=colour,
            linestyle=line,
            linewidth=1,
            shrinkA=0,
            shrinkB=0,
        )
        self.axes.add_patch(head)

    def write(self, path: Path) -> None:
        self.figure.savefig(path, dpi=150)


def inverted_digit(loss: str, vectors: str) -> tuple[netinv.Inversion, Condition, Tensor]:
    """Train a generator on the MNIST classifier of the zoo; return the inversion, a condition with
    label 7 and its image [H, W]."""
    spec = load_zoo("mnist_cnn").spec
    result = netinv.invert(
        load_zoo("mnist_cnn").network, num_classes=spec.num_classes, channels=spec.channels,
        image_size=spec.image_size,
        mean=spec.mean, std=spec.std,
        overrides=[f"loss={loss}", f"conditioning.vectors={vectors}", "application.steps=300",
        "application.eval_samples=500"],
    )  # fmt: skip
    conditions = result.module.conditioning.sample(100, CPU, Stream(SEED))
    index = int((conditions.label_B == LABEL).nonzero()[0])
    parts = (conditions.label_B, conditions.target_BN, conditions.vector_BN, conditions.matrix_BMSS)
    chosen = (None if part is None else part[index : index + 1] for part in parts)
    condition = Condition(*chosen)  # type: ignore[arg-type]
    with own_randomness(SEED, CPU):
        return result, condition, result.module.draw(condition)[0, 0]


def draw_generator(
    sketch: Sketch, condition: Condition, image_HW: Tensor, y: float, title: str
) -> None:
    """Draw the left half of both figures: vector and latent, two stages with the matrix between
    them, the image."""
    sketch.bars(0.9, y + 0.75, condition.target_BN[0], TRAINED)
    sketch.words(0.9, y + 1.35, title)
    sketch.box(0.9, y - 0.75, "z ~ N(0, 1)", "black", 1.3)
    sketch.arrow([(1.6, y + 0.75), (1.9, y + 0.75), (1.9, y), (2.2, y)])
    sketch.arrow([(1.6, y - 0.75), (1.9, y - 0.75), (1.9, y), (2.2, y)])
    sketch.box(3.0, y, "generator,\nup to N x N", TRAINED, filled=True)
    assert condition.matrix_BMSS is not None
    sketch.picture(4.6, y + 1.4, 1 - condition.matrix_BMSS[0, 0] * 0.8)
    sketch.words(4.6, y + 2.1, "hot matrix of the same label")
    sketch.arrow([(3.8, y), (4.8, y)])
    sketch.arrow([(4.6, y + 0.85), (4.6, y + 0.02)])
    sketch.box(5.6, y, "generator,\nup to the image", TRAINED, filled=True)
    sketch.arrow([(6.4, y), (6.9, y)])
    sketch.picture(7.4, y, image_HW)
    sketch.words(7.4, y + 0.65, "image in [0, 1]")
    sketch.words(3.0, y - 0.75, "trained", TRAINED)
    sketch.words(5.6, y - 0.75, "trained", TRAINED)


def figure_1(path: Path) -> None:
    """Draw how one conditioned generator inverts a frozen classifier."""
    result, condition, image_HW = inverted_digit("inversion", "soft")
    output_N = result.classifier(image_HW[None, None]).softmax(dim=1)[0]
    sketch, y = Sketch(14.6, 4.9), 2.3
    draw_generator(
        sketch, condition, image_HW, y, "conditioning vector P;\nthe label is its argmax"
    )
    sketch.arrow([(7.9, y), (8.4, y)])
    sketch.box(9.2, y, "classifier,\nfrozen", FROZEN, filled=True)
    sketch.arrow([(10.0, y), (10.3, y), (10.3, y + 0.75), (10.6, y + 0.75)])
    sketch.arrow([(10.0, y), (10.3, y), (10.3, y - 0.75), (10.6, y - 0.75)])
    sketch.bars(11.3, y + 0.75, output_N, FROZEN)
    sketch.words(11.3, y + 1.35, "output Q")
    sketch.box(11.3, y - 0.75, "features f", FROZEN, 1.3)
    sketch.arrow([(12.0, y + 0.75), (12.5, y + 0.75)])
    sketch.box(13.4, y + 0.75, "KL(P, Q)\nCE(label, Q)", TERM, 1.7)
    sketch.arrow([(12.0, y - 0.75), (12.5, y - 0.75)])
    sketch.box(13.4, y - 0.75, "cosine(f)\northogonality(f)", TERM, 1.7)
    sketch.arrow([(13.4, y - 1.3), (13.4, 0.45), (4.3, 0.45), (4.3, y - 0.6)], TERM)
    sketch.words(9.2, 0.65, "the weighted sum of the losses trains the generator only", TERM)
    sketch.write(path)


def figure_4(path: Path) -> None:
    """Draw what reconstruction adds: one-hot vectors, perturbed images, the gradient norm and
    priors on pixels."""
    result, condition, image_HW = inverted_digit("reconstruction", "hot")
    perturbation = Perturbation("linf", 0.1)
    perturbed_HW = perturbation(
        image_HW[None, None], condition.label_B, result.classifier, Stream(SEED)
    )[0, 0]
    outputs_2N = result.classifier(torch.stack([image_HW, perturbed_HW])[:, None]).softmax(dim=1)
    sketch, y = Sketch(14.9, 7.0), 4.4
    draw_generator(sketch, condition, image_HW, y, "one-hot vector P")
    low = y - 2.4
    sketch.arrow([(7.4, y - 0.55), (7.4, low + 0.55)], PERTURBED, dashed=True)
    sketch.words(6.5, (y + low) / 2, "within an\nLinf ball", PERTURBED)
    sketch.picture(7.4, low, perturbed_HW, dashed=True)
    for row, dashed, colour in ((y, False, "black"), (low, True, PERTURBED)):
        sketch.arrow([(7.9, row), (8.4, row)], colour, dashed)
    sketch.box(9.2, y, "classifier,\nfrozen", FROZEN, filled=True)
    sketch.box(9.2, low, "the same\nclassifier", FROZEN, dashed=True)
    for row, output_N, dashed, title in (
        (y + 1.5, outputs_2N[0], False, "output Q"),
        (low, outputs_2N[1], True, "output Q' (perturbed)"),
    ):
        sketch.bars(11.3, row, output_N, FROZEN, dashed)
        sketch.words(11.3, row + 0.6, title)
    sketch.arrow([(10.0, y), (10.3, y), (10.3, y + 1.5), (10.6, y + 1.5)])
    sketch.arrow([(10.0, low), (10.6, low)], PERTURBED, dashed=True)
    sketch.box(11.3, y + 0.3, "features f", FROZEN, 1.3)
    sketch.arrow([(10.0, y), (10.3, y), (10.3, y + 0.3), (10.6, y + 0.3)])
    sketch.box(11.3, y - 0.95, "gradient of CE\nw.r.t. weights", FROZEN, 1.5)
    sketch.arrow([(10.0, y), (10.3, y), (10.3, y - 0.95), (10.5, y - 0.95)])
    x = 13.6
    for row, text, dashed in (
        (y + 1.5, "KL(P, Q)\nCE(label, Q)", False),
        (y + 0.3, "cosine(f)\northogonality(f)", False),
        (y - 0.95, "gradient norm", False),
        (low, "KL(P, Q')\nCE(label, Q')", True),
    ):
        colour = PERTURBED if dashed else "black"
        sketch.arrow([(12.1, row), (12.7, row)], colour, dashed)
        sketch.box(x, row, text, TERM, 1.8, dashed)
    sketch.box(5.0, low, "variation\npixel range", TERM, 1.8)
    sketch.arrow(
        [(6.9, y - 0.3), (6.65, y - 0.3), (6.65, y - 0.9), (5.0, y - 0.9), (5.0, low + 0.5)]
    )
    sketch.arrow([(x, low - 0.5), (x, 0.6), (3.0, 0.6), (3.0, y - 0.95)], TERM)
    sketch.arrow([(5.0, low - 0.5), (5.0, 0.62)], TERM)
    sketch.words(
        9.2,
        0.82,
        "the weighted sum of all nine losses trains the generator; no training data are used",
        TERM,
    )
    sketch.write(path)


def main() -> None:
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    with matplotlib.style.context(["default", PAPER]):
        figure_1(HERE / "inversion.png")
        figure_4(HERE / "reconstruction.png")


if __name__ == "__main__":
    main()
