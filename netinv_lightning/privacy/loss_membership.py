"""Membership inference from the losses of one classifier, without training other networks.

The score of an image is the log odds of its class, log(p / (1 - p)) (Carlini et al. 2022, arXiv
2112.03570, section IV). It orders images as the cross-entropy does (Yeom et al. 2018, arXiv
1709.01604), without its rounding to 0.

Dodd et al. 2025 (arXiv 2510.19773, "The Tail Tells All") estimate how vulnerable a classifier is to
LiRA, which trains many networks, from losses alone: a training image that would have a high loss
if it were held out has a low one. The indicator is the true negative rate of the attack at a low
false negative rate, that is the share of the held-out images whose loss is above that of nearly
every training image. The paper maps it to a rate of LiRA by a regression over its networks. Here
the indicator itself is reported.

Shape suffixes: m images of one kind, N classes.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.features import extract_logits
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.log_odds import log_odds
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.metrics.membership import auc_of
from netinv_lightning.metrics.operating_points import (
    OperatingPoint,
    operating_point,
    share_at_least,
)
from netinv_lightning.privacy.real_images import RealImages
from netinv_lightning.runs.tables import Cell, Table

LEVELS = (0.001, 0.01)
"""False positive rates, and false negative rates, at which the rates are reported."""


@dataclass(frozen=True)
class LossMembership:
    """Members separated from held-out images by the classifier's log odds of their class.

    Attributes:
        member_m: Score of each member.
        held_out_m: Score of each held-out image.
        auc: Probability that a member has the higher score.
        identified: Members above the held-out images, at each of `LEVELS`.
        missing_tail: Held-out images below the members, at each of `LEVELS`: the indicator of Dodd
            et al.
    """

    member_m: Tensor
    held_out_m: Tensor
    auc: float
    identified: tuple[OperatingPoint, ...]
    missing_tail: tuple[OperatingPoint, ...]

    def metrics(self) -> dict[str, float]:
        metrics = {names.membership("auc"): self.auc}
        for kind, points in (("tpr", self.identified), ("tnr", self.missing_tail)):
            for point in points:
                low, high = point.interval
                for what, value in (
                    (f"{kind}_at_{point.level:g}", point.true_positive_rate),
                    (f"{kind}_at_{point.level:g}_low", low),
                    (f"{kind}_at_{point.level:g}_high", high),
                ):
                    metrics[names.membership(what)] = value
        return metrics

    def false_positive_rate_m(self) -> Tensor:
        """Return the share of held-out images that score at least as high as each member, [m].

        It is the rate of false alarms of an attacker who calls this image a member.
        """
        return share_at_least(self.member_m, self.held_out_m)

    def table(self) -> Table:
        """One row per rate."""
        rows: list[list[Cell]] = []
        for what, level_of, points in (
            ("training images identified (TPR)", "FPR", self.identified),
            ("held-out images above the losses of training (TNR)", "FNR", self.missing_tail),
        ):
            rows += [
                [
                    f"{what} at {point.level:.1%} {level_of}",
                    point.true_positive_rate,
                    *point.interval,
                    point.highest_false_positive_rate,
                ]
                for point in points
            ]
        columns = ["rate", "value", "low", "high", "errors at most"]
        return Table("Membership inference by the loss", columns, rows, self._notes())

    def line(self) -> str:
        low, high = (point.true_positive_rate for point in self.identified)
        return (
            f"membership by the loss: AUC {self.auc:.3f}; {low:.1%} of the training images are "
            f"identified at {LEVELS[0]:.1%} false alarms, {high:.1%} at {LEVELS[1]:.1%}"
        )

    def _notes(self) -> list[str]:
        members, held_out = len(self.member_m), len(self.held_out_m)
        return [
            f"{members} training images, {held_out} held-out images; AUC {self.auc:.3f}",
            "low, high: exact 95 % interval (Clopper and Pearson 1934), for the threshold as it is",
            "errors at most: upper end of the exact 95 % interval of the rate of false alarms "
            "(FPR or FNR); with few images it is far above the rate asked for",
            "TPR: the attacker has the image and the classifier, and no other network; attacks "
            "that train shadow networks identify more images",
            "TNR: indicator of the vulnerability to such attacks (Dodd et al. 2025, arXiv "
            "2510.19773); 0 is none; it is not calibrated for this kind of classifier",
        ]


def membership_by_loss(classifier: FrozenClassifier, real: RealImages) -> LossMembership:
    """Separate members from held-out images by the classifier's log odds of their class."""
    return compare_scores(
        scores_of(classifier, real.members), scores_of(classifier, real.many_held_out)
    )


def compare_scores(member_m: Tensor, held_out_m: Tensor) -> LossMembership:
    """Return the rates of two sets of scores, which are higher for images that were learned."""
    return LossMembership(
        member_m=member_m,
        held_out_m=held_out_m,
        auc=auc_of(member_m, held_out_m),
        identified=tuple(operating_point(member_m, held_out_m, level) for level in LEVELS),
        missing_tail=tuple(operating_point(-held_out_m, -member_m, level) for level in LEVELS),
    )


def scores_of(classifier: FrozenClassifier, images: Images) -> Tensor:
    """Return the log odds of each image's class, [m]."""
    logits_mN = extract_logits(classifier, images.images_nCHW).double()
    return log_odds(logits_mN, images.labels_n)
