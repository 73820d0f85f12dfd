"""Transfer of the images to the verifiers, and what it can reach: the accuracy on real images.

Shape suffixes: n images, m chosen images, K classes of a mixture, C channels, H height, W width, N
classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.metric_groups.group import VERIFIERS, MetricGroup
from netinv_lightning.evaluation.real_data import (
    NO_REAL_IMAGES,
    NO_TEST_IMAGES,
    REAL_IMAGES,
    of_split,
)
from netinv_lightning.evaluation.transfer_metrics import transfer_metrics, with_mean
from netinv_lightning.training.seeds import random_order

MIXTURES = 2000
"""Largest number of mixtures of real images."""
MIXED = 10
"""Largest number of classes in a mixture."""


class Transfer(MetricGroup):
    """Accuracy of each verifier on the images, and its ceiling: the accuracy on real images.

    Real images are not ambiguous, so that this is the ceiling with one-hot vectors. For images that
    are conditioned on soft vectors, mixtures of real test images show what the ambiguity costs:
    each is the sum of one image per class, weighted with the conditioning distribution. They are no
    upper bound, because a generator can show an ambiguous class better than a mixture.
    """

    reads = needs = (VERIFIERS,)

    def compute(self, images: Images, outputs: Mapping[str, FeatureSet]) -> dict[str, float]:
        agreement = {
            name: self.context.agreement(images, outputs[name].logits_nN)
            for name in self.context.verifiers
        }
        metrics = transfer_metrics(agreement, self.context.classifier.spec.class_names)
        metrics |= with_mean(names.TRANSFER_CEILING, self._ceiling)
        if self._test_images is None or not _is_soft(images):
            return metrics
        return metrics | with_mean(
            names.TRANSFER_MIXTURES, self._accuracies(self._mixtures(images))
        )

    def skipped_metrics(self) -> dict[str, str]:
        if self.context.has_test_images:
            return {}
        why = NO_REAL_IMAGES if self.context.real is None else NO_TEST_IMAGES
        return {names.TRANSFER_CEILING: why}

    @cached_property
    def _test_images(self) -> Images | None:
        if not self.context.has_test_images:
            return None
        assert self.context.real is not None
        test = of_split(self.context.real.test, REAL_IMAGES, self.context.seed)
        return test.to(self.context.device)

    @cached_property
    def _ceiling(self) -> dict[str, float]:
        return {} if self._test_images is None else self._accuracies(self._test_images)

    def _accuracies(self, images: Images) -> dict[str, float]:
        return {
            name: self._accuracy(images, self.context.extract(verifier, images))
            for name, verifier in self.context.verifiers.items()
        }

    def _accuracy(self, images: Images, outputs: FeatureSet) -> float:
        return float(self.context.agreement(images, outputs.logits_nN)["accuracy"])

    def _mixtures(self, images: Images) -> Images:
        assert self._test_images is not None
        assert images.targets_nN is not None
        real_n = torch.isin(images.labels_n, self._test_images.labels_n).nonzero()[:, 0]
        chosen_m = real_n[self.context.choose(len(real_n), MIXTURES)]
        target_mN, label_m = images.targets_nN[chosen_m], images.labels_n[chosen_m]
        return Images(mixtures(self._test_images, target_mN, self.context.seed), label_m, target_mN)


def mixtures(real: Images, target_mN: Tensor, seed: int) -> Tensor:
    """Return sums of real images of several classes, weighted with distributions, [m, C, H, W].

    Only the 10 classes with the largest weights are mixed, and of these only classes that have real
    images, at least one of them; their weights are scaled to the sum 1.

    Args:
        real: Real images, in [0, 1].
        target_mN: The distributions.
        seed: Seed of the choice of the images.
    """
    sides = (1,) * (real.images_nCHW.dim() - 1)
    weight_mK, class_mK = target_mN.float().topk(min(MIXED, target_mN.shape[1]), dim=1)
    mixed_mCHW = real.images_nCHW.new_zeros(len(target_mN), *real.images_nCHW.shape[1:])
    total_m = weight_mK.new_zeros(len(target_mN))
    for label in class_mK.unique().tolist():
        of_class = (real.labels_n == label).nonzero()[:, 0]
        row_r, place_r = (class_mK == label).nonzero(as_tuple=True)
        if not len(of_class):
            continue
        order = random_order(len(of_class), seed + label).to(of_class.device)
        drawn_r = of_class[order[torch.arange(len(row_r), device=order.device) % len(order)]]
        weight_r = weight_mK[row_r, place_r]
        mixed_mCHW[row_r] += weight_r.view(-1, *sides) * real.images_nCHW[drawn_r]
        total_m[row_r] += weight_r
    return (mixed_mCHW / total_m.view(-1, *sides)).clamp(0, 1)


def _is_soft(images: Images) -> bool:
    targets_nN = images.targets_nN
    return targets_nN is not None and bool((targets_nN.amax(dim=1) < 1).any())
