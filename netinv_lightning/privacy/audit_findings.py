"""The findings of `application=audit`: all attacks and baselines together, and the conclusion.

Shape suffixes: m images of one kind, N classes.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.features import extract_features
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.evaluation.image_sets import Images, read_samples
from netinv_lightning.metrics.membership import GOOD, Difference, difference
from netinv_lightning.privacy.audit_verdict import (
    LEAKS_IMAGES,
    AttackResult,
    conclude,
    splits_differ,
)
from netinv_lightning.privacy.capacity import capacity_of
from netinv_lightning.privacy.comparison import verifier_accuracy
from netinv_lightning.privacy.comparison_tables import FULL_COLUMNS, RECONSTRUCTIONS, interval
from netinv_lightning.privacy.control_sets import CONTROLS
from netinv_lightning.privacy.detection_power import detectable_share, detection_power
from netinv_lightning.privacy.exposure import exposure
from netinv_lightning.privacy.loss_membership import membership_by_loss
from netinv_lightning.privacy.real_images import RealImages
from netinv_lightning.privacy.shadow_attack import ShadowAttacks
from netinv_lightning.runs.outside_files import read_json
from netinv_lightning.runs.run_directory import INVERTED
from netinv_lightning.runs.tables import Cell, Table

BY_LOSS = "classifier's loss *"
OWN_SPLITS = (
    "members and non-members are separate splits, which may differ even without a leak; the AUC of "
    "other real images shows by how much; p is approximate"
)
SPLITS_DIFFER = (
    "the interval of other real images does not contain 0.5: the two splits differ by more than "
    "chance, which can hide a leak; to decide, hold out images of the same split when you train "
    "(data.val_fraction=0.3)"
)


class AuditFindings:
    """Reads the results of the finished attacks and draws the conclusion of the audit.

    Args:
        finished: The run directory of each attack that is done, by its name.
        classifier: The classifier that is audited.
        verifiers: Other networks.
        real: Members and non-members.
        training_images: Number of training images of the classifier.
        seed: Seed of the bootstrap, the permutations and the planted leaks.

    Attributes:
        transfer: Whether other networks classify the images.
        rows: The numbers of each attack.
        controls: The numbers of each baseline.
        attacked: The arguments of `conclude` for each attack.
        by_loss: Members and non-members separated by the loss of the classifier.
        membership: Rates of membership inference by the loss.
        capacity: Parameters of the classifier for each value of its training images.
        powers: Planted leaks of several sizes, and how often they were detected.
        exposure: Risk of each member.
        conclusion: The verdict.
        shadows: Membership inference with shadow networks; None if none were trained.
    """

    shadows: ShadowAttacks | None = None

    def __init__(
        self,
        finished: Mapping[str, Path],
        classifier: FrozenClassifier,
        verifiers: Sequence[FrozenClassifier],
        real: RealImages,
        *,
        training_images: int,
        seed: int,
    ) -> None:
        self.finished, self.real, self.transfer = finished, real, bool(verifiers)
        self.classifier = classifier
        tables = {name: _read_table(directory) for name, directory in finished.items()}
        self.rows = {name: table[RECONSTRUCTIONS] for name, table in tables.items()}
        first = next(iter(tables.values()))
        self.controls = {name: row for name, row in first.items() if name in CONTROLS}
        self.attacked = {
            name: AttackResult(
                row["auc"], row["auc_low"], row["p_value"], _transfer(finished[name])
            )
            for name, row in self.rows.items()
        }
        planted = self.controls["planted leak"]
        self.conclusion = conclude(
            self.attacked,
            control_auc_high=self.controls["other real images"]["auc_high"],
            planted=(planted["auc"], planted["p_value"]),
            num_classes=classifier.spec.num_classes,
            ceiling=verifier_accuracy(verifiers, real.others),
            unlike_splits=self.splits_differ,
        )
        self.by_loss = separate_by_loss(classifier, real, seed)
        self.membership = membership_by_loss(classifier, real)
        self.capacity = capacity_of(classifier, training_images)
        control = self.controls["other real images"]
        self.powers = detection_power(
            real,
            count=int(control["n"]),
            attacks=len(self.rows),
            control_auc_high=control["auc_high"],
            seed=seed,
        )
        reconstructions = {
            name: read_samples(directory / INVERTED, "samples", classifier.spec)
            for name, directory in finished.items()
        }
        self.exposure = exposure(reconstructions, real, self.membership)

    @property
    def splits_differ(self) -> bool:
        """Whether members and held-out images are splits that differ even without a leak."""
        control = self.controls["other real images"]
        return splits_differ(self.real.exchangeable, control["auc_low"], control["auc_high"])

    @property
    def leaks(self) -> bool:
        """Whether the verdict is that training images leak."""
        return self.conclusion.name == LEAKS_IMAGES

    def metrics(self) -> dict[str, float]:
        """The numbers of the strongest attack, the AUC of each attack, and the AUC of the loss."""
        strongest = self.rows[self.conclusion.strongest]
        metrics = {
            names.reconstruction(what): value for what, value in strongest.items() if what != "n"
        }
        metrics |= {
            names.reconstruction("auc_attack", name): attack.auc
            for name, attack in self.attacked.items()
        }
        metrics[names.reconstruction("auc_of_loss")] = self.by_loss.auc
        metrics[names.AUDIT_LEAK] = float(self.leaks)
        metrics[names.audit("parameters_per_value")] = self.capacity.ratio
        if (share := detectable_share(self.powers)) is not None:
            metrics[names.audit("detectable_share")] = share
        if self.shadows is not None:
            metrics |= self.shadows.metrics()
        return metrics | self.membership.metrics()

    def intervals(self) -> dict[str, tuple[float, tuple[float, float]]]:
        """AUC and 95 % interval of each row, for the figure."""
        intervals = {
            name: (row["auc"], (row["auc_low"], row["auc_high"]))
            for name, row in {**self.rows, **self.controls}.items()
        }
        label = "classifier's loss,\nimages known"
        return intervals | {label: (self.by_loss.auc, self.by_loss.auc_interval)}

    def table(self, title: str, errors: Mapping[str, str]) -> Table:
        """One row per attack and baseline.

        Args:
            title: Title of the table.
            errors: The error of each attack that failed.
        """
        everything = {**self.rows, **self.controls}
        rows = [self._row(name, row) for name, row in everything.items()]
        by_loss = self.by_loss
        empty: list[Cell] = [None, None, None]
        between: list[Cell] = [interval(by_loss.auc_interval), None, ""]
        rows.append([BY_LOSS, by_loss.auc, *between, by_loss.p_value, *empty])
        columns = ["images", "AUC", "95 %", "gap", "gap 95 %", "p", "good", "held", "transfer"]
        if not self.transfer:
            columns, rows = columns[:-1], [row[:-1] for row in rows]
        full: list[list[Cell]] = [[name, *row.values()] for name, row in everything.items()]
        full_table = Table("", ("images", "n", *FULL_COLUMNS), full)
        return Table(title, columns, rows, self._notes(errors), full=full_table)

    def _row(self, name: str, row: Mapping[str, float]) -> list[Cell]:
        return [
            name,
            row["auc"],
            interval((row["auc_low"], row["auc_high"])),
            row["gap"],
            interval((row["gap_low"], row["gap_high"])),
            row["p_value"],
            row["good"],
            row["good_held_out"],
            self.attacked[name].transfer if name in self.attacked else None,
        ]

    def _notes(self, errors: Mapping[str, str]) -> list[str]:
        real = self.real
        return [
            f"{len(real.members.labels_n)} training images (members) and "
            f"{len(real.held_out.labels_n)} held-out images (non-members: {real.source})",
            "AUC: chance that a member correlates more with its nearest reconstruction than a "
            "non-member; gap: difference of the mean correlations; p by permutation",
            *([] if real.exchangeable else [OWN_SPLITS]),
            *([SPLITS_DIFFER] if self.splits_differ else []),
            "good: share of pairs, matched one to one, with a structural similarity above "
            f"{GOOD}; held: the same for held-out images; only the difference is evidence",
            "training images leak if the corrected p of an attack is at most 0.05 and its whole "
            "interval is above 0.5 and above that of other real images",
            "* for comparison, not a reconstruction: how well the loss of the classifier separates "
            "members from non-members if the images are known",
            self.capacity.line(),
            *(f"failed: {name}: {error}" for name, error in errors.items()),
        ]


def separate_by_loss(classifier: FrozenClassifier, real: RealImages, seed: int) -> Difference:
    """Separate members from non-members by their loss (Yeom et al. 2018, arXiv 1709.01604)."""
    members, held_out = real.members, real.held_out
    return difference(
        -_losses(classifier, members),
        members.labels_n,
        -_losses(classifier, held_out),
        held_out.labels_n,
        seed,
    )


def _losses(classifier: FrozenClassifier, images: Images) -> Tensor:
    """Return the cross-entropy of each image, [m]."""
    logits_mN = extract_features(classifier, images.images_nCHW).logits_nN.double()
    return F.cross_entropy(logits_mN, images.labels_n, reduction="none")


def _read_table(directory: Path) -> dict[str, dict[str, float]]:
    """Return the numbers of each set of images in the table of an attack."""
    with (directory / "reconstruction.csv").open(newline="") as file:
        return {
            row.pop("images"): {what: float(value) for what, value in row.items()}
            for row in csv.DictReader(file)
        }


def _transfer(directory: Path) -> float | None:
    summary = read_json(directory / "summary.json", directory)
    transfer: float | None = summary.get(names.TRANSFER_ACCURACY)
    return transfer
