"""What an informed adversary finds: criterion of the paper, verdict, table and figure.

A target counts as reconstructed if its reconstruction is nearer to it, by mean squared error, than
every image that the adversary has (Balle, Cherubin and Hayes 2022, arXiv 2201.04845). The control
replaces each target by an image of the same class that no model was trained on; its reconstruction
from the same released model should be no nearer than the images of the adversary.

Shape suffixes: T targets, A images of the adversary, X pixels, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure as Canvas
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.figures.images import draw_images
from netinv_lightning.figures.style import write_whole
from netinv_lightning.figures.titles import literal_text
from netinv_lightning.privacy.audit_verdict import AuditVerdict
from netinv_lightning.privacy.comparison import Comparison
from netinv_lightning.privacy.comparison_tables import RECONSTRUCTIONS, interval
from netinv_lightning.privacy.informed import InformedData, Reconstructions
from netinv_lightning.privacy.real_images import RealImages
from netinv_lightning.privacy.reconstruction_result import compare_with_controls, conclude_alone
from netinv_lightning.runs.tables import Cell, Table
from netinv_lightning.tracking.result import Figure, Result

INFORMED = "informed"
"""Name of the attack."""
ROWS = ("missing\nimage", "reconstruction", "nearest image of\nthe adversary")
MOST_COLUMNS = 10


@dataclass(frozen=True)
class Distances:
    """Mean squared errors of T images, against the reconstructions and the adversary's images.

    Attributes:
        reconstruction_T: Between an image and its reconstruction.
        nearest_T: Between an image and the nearest image that the adversary has.
        nearest_index_T: Which one that is.
    """

    reconstruction_T: Tensor
    nearest_T: Tensor
    nearest_index_T: Tensor

    @property
    def success(self) -> float:
        """The share of the images that are nearer to their reconstruction."""
        return float((self.reconstruction_T < self.nearest_T).double().mean())


def distances(x_TCHW: Tensor, reconstructed_TCHW: Tensor, adversary_ACHW: Tensor) -> Distances:
    """Compare images with their reconstructions and with the images of the adversary."""
    x_TX = x_TCHW.flatten(1)
    nearest_T, index_T = torch.cdist(x_TX, adversary_ACHW.flatten(1)).min(dim=1)
    return Distances(
        (x_TX - reconstructed_TCHW.flatten(1)).square().mean(dim=1),
        nearest_T.square() / x_TX.shape[1],
        index_T,
    )


class InformedFindings:
    """The measured attack.

    Args:
        found: The reconstructions.
        data: The images of the attack.
        num_classes: N.
        seed: Seed of bootstrap and permutations.

    Attributes:
        member: Distances of the targets.
        control: Distances of the images of no model.
        comparison: Targets against images of no model, as for other attacks.
        conclusion: The verdict of the attack alone.
    """

    def __init__(
        self, found: Reconstructions, data: InformedData, num_classes: int, seed: int
    ) -> None:
        self.found, self.data = found, data
        x_TCHW = found.images.images_nCHW
        self.adversary_ACHW = torch.cat([data.known.images_nCHW, data.shadows.images_nCHW])
        self.member, self.control = (
            distances(images.images_nCHW, x_TCHW, self.adversary_ACHW)
            for images in (data.targets, data.held_out)
        )
        real = RealImages(
            members=data.targets,
            member_index_m=torch.arange(len(data.targets.labels_n)),
            held_out=data.held_out,
            many_held_out=data.held_out,
            others=data.shadows,
            source="images of no model",
            exchangeable=True,
        )
        rows = compare_with_controls(found.images, real, seed)
        self.comparison: Comparison = rows[RECONSTRUCTIONS]
        self.conclusion: AuditVerdict = conclude_alone(
            INFORMED, rows, transfer=None, num_classes=num_classes, ceiling=1.0
        )

    @property
    def line(self) -> str:
        T = len(self.member.nearest_T)
        hits, false = (round(of.success * T) for of in (self.member, self.control))
        return (
            f"informed adversary, who knows all images but one: {hits} of {T} missing images are "
            f"reconstructed better than by the nearest known image; of images of no model: {false}"
        )

    def metrics(self) -> dict[str, float]:
        values = {
            "success": self.member.success,
            "success_control": self.control.success,
            "error": float(self.member.reconstruction_T.mean()),
            "error_nearest": float(self.member.nearest_T.mean()),
            "error_control": float(self.control.reconstruction_T.mean()),
            "accuracy": self.found.accuracy,
            "models": self.found.models,
            "image_passes": self.found.image_passes,
        }
        metrics = {names.reconstruction(INFORMED, what): value for what, value in values.items()}
        auc = names.reconstruction("auc_attack", INFORMED)
        return metrics | {auc: self.comparison.ncc.auc}

    def table(self) -> Table:
        ncc, data = self.comparison.ncc, self.data
        rows: list[list[Cell]] = [
            [
                name,
                len(of.nearest_T),
                of.success,
                float(of.reconstruction_T.mean()),
                float(of.nearest_T.mean()),
            ]
            for name, of in (("missing image", self.member), ("image of no model", self.control))
        ]
        columns = ("image", "number", "reconstructed", "error", "error of nearest")
        notes = [
            f"released models: {len(data.known.labels_n)} known training images and one more; "
            f"mean accuracy {self.found.accuracy:.3f} on the images of no model",
            f"reconstructed {self.found.by}; {self.found.models} models were trained",
            "reconstructed: share with a smaller mean squared error than the nearest of the "
            f"{len(self.adversary_ACHW)} images that the adversary has",
            f"AUC of missing images against images of no model: {ncc.auc:.3f} "
            f"({interval(ncc.auc_interval)}), p {ncc.p_value:.3f}",
            "the attack judges the training recipe: every model is trained here, from the same "
            "initial weights",
        ]
        return Table("Informed adversary", columns, rows, notes)

    def figure(self, class_names: Sequence[str], path: Path) -> Path:
        return informed_figure(
            self.data.targets,
            self.found.images.images_nCHW,
            self.adversary_ACHW[self.member.nearest_index_T],
            self.member,
            class_names=class_names,
            path=path,
        )

    def result(self, class_names: Sequence[str], figures: Path) -> Result:
        """Return metrics, table, figure and the line of the attack."""
        return Result(
            self.metrics(),
            tables={INFORMED: self.table()},
            figures=[Figure(self.figure(class_names, figures / f"{INFORMED}.png"), self.line)],
            lines=[self.line],
        )


@literal_text()
def informed_figure(
    targets: Images,
    reconstructed_TCHW: Tensor,
    nearest_TCHW: Tensor,
    found: Distances,
    *,
    class_names: Sequence[str],
    path: Path,
) -> Path:
    """Draw a missing image of each class, its reconstruction, and the adversary's nearest image."""
    first = [int((targets.labels_n == label).nonzero()[0]) for label in targets.labels_n.unique()]
    shown = first[:MOST_COLUMNS]
    rows = (targets.images_nCHW, reconstructed_TCHW, nearest_TCHW)
    labels = [
        f"{class_names[int(targets.labels_n[t])]}\n{found.reconstruction_T[t]:.3f} | "
        f"{found.nearest_T[t]:.3f}"
        for t in shown
    ]
    figure = Canvas(figsize=(1.6 + 0.75 * max(4, len(shown)), 3.3), layout="constrained")
    axes = figure.subplots()
    draw_images(axes, torch.stack([x_TCHW[shown] for x_TCHW in rows]), ROWS, labels)
    axes.xaxis.tick_top()
    axes.tick_params("both", labelsize=7, length=0)
    figure.suptitle(
        "Informed adversary: the first target of each class\nabove each column: class, and mean "
        "squared error of the reconstruction | of the nearest image",
        fontsize=8,
    )
    return write_whole(figure, path, dpi=150)
