"""Membership inference against one classifier with shadow networks, which are trained for it.

Shape suffixes: S shadow networks, P images of the pool, m images, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.data.datasets import Split
from netinv_lightning.data.pixels import to_unit_range
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.metrics.membership import auc_of
from netinv_lightning.metrics.operating_points import OperatingPoint, operating_point
from netinv_lightning.metrics.shadow_attacks import lira_offline, lira_online, rmia
from netinv_lightning.privacy.loss_membership import LEVELS, scores_of
from netinv_lightning.privacy.real_images import RealImages
from netinv_lightning.privacy.shadow_networks import (
    ShadowNetworks,
    paired_halves,
)
from netinv_lightning.privacy.stacked_training import StackRecipe
from netinv_lightning.runs.tables import Cell, Table
from netinv_lightning.training.progress import log_progress


@dataclass(frozen=True)
class ShadowPlan:
    """What is needed to train shadow networks.

    Attributes:
        make: Returns the untrained networks, with different weights.
        recipe: The training of the attacked classifier.
    """

    make: Callable[[], Sequence[Classifier]]
    recipe: StackRecipe


@dataclass(frozen=True)
class ShadowAttack:
    """Result of one attack.

    Attributes:
        auc: Probability that a member has a higher score than a held-out image.
        identified: True positive rates at `LEVELS`.
    """

    auc: float
    identified: tuple[OperatingPoint, ...]


@dataclass(frozen=True)
class ShadowAttacks:
    """Results of all attacks with shadow networks.

    Attributes:
        networks: S.
        images: Number of training images of each network.
        members: Number of members that were tested.
        held_out: Number of held-out images that were tested.
        attacks: The results by name; `loss` uses no shadow network.
    """

    networks: int
    images: int
    members: int
    held_out: int
    attacks: dict[str, ShadowAttack]

    def metrics(self) -> dict[str, float]:
        metrics = {}
        for name, attack in self.attacks.items():
            metrics[names.membership(f"{name}/auc")] = attack.auc
            for point in attack.identified:
                what = f"{name}/tpr_at_{point.level:g}"
                metrics[names.membership(what)] = point.true_positive_rate
        return metrics

    def table(self) -> Table:
        rows: list[list[Cell]] = []
        for name, attack in self.attacks.items():
            row: list[Cell] = [name, attack.auc]
            for point in attack.identified:
                row += [point.true_positive_rate, *point.interval]
            rows.append(row)
        columns = ["attack", "AUC"]
        for level in LEVELS:
            columns += [f"TPR at {level:.1%} FPR", "low", "high"]
        notes = [
            f"{self.networks} shadow networks of the same architecture and recipe, each trained on "
            f"{self.images} images, half of the training images and of as many held-out images as "
            "there are",
            f"tested: {self.members} training images, {self.held_out} held-out images; low, high: "
            "exact 95 % interval",
            "loss: without shadow networks. LiRA: Carlini et al. 2022, arXiv 2112.03570; RMIA: "
            "Zarifzadeh et al. 2024, arXiv 2312.03262. Offline attacks use only the networks that "
            "were trained without the tested image",
        ]
        return Table("Membership inference with shadow networks", columns, rows, notes)


def shadow_attacks(
    plan: ShadowPlan,
    classifier: FrozenClassifier,
    real: RealImages,
    *,
    training: Split,
    training_index_n: Tensor,
    seed: int,
) -> ShadowAttacks:
    """Train shadow networks on random halves of a pool, and attack the classifier with them.

    The pool has all training images and the held-out images, but not more of these than training
    images, so that a tested image is in half of the networks.

    Args:
        plan: The networks and their training.
        classifier: The attacked classifier.
        real: Members and held-out images.
        training: All training images of the classifier.
        training_index_n: Their positions among the training images of the data set, in ascending
            order.
        seed: Seed of the splits and of the training.
    """
    many = real.many_held_out
    held_out = many if len(many.labels_n) <= len(training[1]) else real.held_out
    x_PCHW = torch.cat([to_unit_range(training[0]), held_out.images_nCHW])
    label_P = torch.cat([training[1], held_out.labels_n])
    member_m = torch.searchsorted(training_index_n, real.member_index_m)
    held_out_m = len(training[1]) + torch.arange(len(held_out.labels_n))
    even = len(label_P) // 2 * 2  # each image is then in one half of every split
    x_PCHW, label_P, held_out_m = x_PCHW[:even], label_P[:even], held_out_m[held_out_m < even]
    shadows = plan.make()
    networks = ShadowNetworks(shadows)
    included_SP = paired_halves(len(shadows), len(label_P), seed)
    label = f"training {len(shadows)} shadow networks"
    steps = networks.steps(plan.recipe, int(included_SP[0].sum()))
    networks.train(
        x_PCHW,
        label_P,
        included_SP,
        plan.recipe,
        seed=seed,
        on_step=log_progress(label, steps, (), names.CLASSIFIER_LOSS),
    )
    tested_m = torch.cat([member_m, held_out_m])
    tested = Images(x_PCHW[tested_m], label_P[tested_m])
    shadow_Sm = networks.log_odds(tested.images_nCHW, tested.labels_n)
    score_m = scores_of(classifier, tested)
    return ShadowAttacks(
        networks=len(shadows),
        images=int(included_SP[0].sum()),
        members=len(member_m),
        held_out=len(held_out_m),
        attacks=attack_scores(score_m, shadow_Sm, included_SP[:, tested_m], members=len(member_m)),
    )


def attack_scores(
    score_m: Tensor, shadow_Sm: Tensor, included_Sm: Tensor, *, members: int
) -> dict[str, ShadowAttack]:
    """Return the result of each attack.

    Args:
        score_m: Log odds by the attacked classifier: first those of the members.
        shadow_Sm: Log odds by each shadow network.
        included_Sm: Whether it was trained with the image.
        members: Number of members.
    """
    scores = {
        "loss": score_m,
        "lira_online": lira_online(score_m, shadow_Sm, included_Sm),
        "lira_offline": lira_offline(score_m, shadow_Sm, included_Sm),
        "rmia_online": rmia(score_m, shadow_Sm, included_Sm),
        "rmia_offline": rmia(score_m, shadow_Sm, included_Sm, online=False),
    }
    return {
        name: ShadowAttack(
            auc_of(of_m[:members], of_m[members:]),
            tuple(operating_point(of_m[:members], of_m[members:], level) for level in LEVELS),
        )
        for name, of_m in scores.items()
    }
