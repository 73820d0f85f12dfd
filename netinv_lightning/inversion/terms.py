"""The terms of the objective by name: functions of a training step.

A term is any callable (Step, **options) -> scalar. Its name and the rules of its options are in
`netinv_lightning/config/loss_terms.py`; the equations are in `losses.py`.

Shape suffixes: B batch, N classes, D features, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.log_odds import log_odds
from netinv_lightning.config.loss_terms import LOSS_TERMS
from netinv_lightning.inversion import losses
from netinv_lightning.inversion.augmentation import random_crops
from netinv_lightning.inversion.conditioning import Condition
from netinv_lightning.inversion.label_sets import sets_agree
from netinv_lightning.inversion.micro_batches import in_parts, trace_in_parts
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.inversion.preset_terms import (  # noqa: F401
    batch_norm,
    batch_norm_l2,
    logit,
    pixel_norm,
    pixel_statistics,
    total_variation,
    uncertainty,
)
from netinv_lightning.inversion.several_networks import networks  # noqa: F401
from netinv_lightning.inversion.stationarity import margin_gradients, misalignment
from netinv_lightning.training.distributed import Stream
from netinv_lightning.training.gradient_steps import decayed_weights


@dataclass
class Step:
    """The images of one training step and the classifier's outputs for them.

    Attributes:
        x_BCHW: The generated images, in [0, 1].
        condition: Their conditions.
        logits_BN: The classifier's logits for them.
        features: For each feature layer, the features [B, D].
        classifier: The frozen classifier.
        generator: The generator.
        perturbation: Perturbs the images for the perturbed terms.
        stream: Random numbers of the perturbation; None for torch's global random state.
        normed: For each BatchNorm layer of the classifier, its input [B, C, ...], or, with
            `micro_batch`, two rows [2, C] that have its mean and its variance; and the tokens
            [B, T, D] before each other normalisation layer, if a term needs them.
        micro_batch: Images that the classifier processes at once; None for all.
        earlier: For each feature layer, the features [K, D] of images of earlier batches, for the
            term `contrast`.
        view_BCHW: The augmented views that the classifier got; None for the images themselves.
    """

    x_BCHW: Tensor
    condition: Condition
    logits_BN: Tensor
    features: Mapping[str, Tensor]
    classifier: FrozenClassifier
    generator: nn.Module = field(default_factory=nn.Identity)
    perturbation: Perturbation = field(default_factory=Perturbation)
    stream: Stream | None = None
    normed: Mapping[str, Tensor] = field(default_factory=dict)
    micro_batch: int | None = None
    earlier: Mapping[str, Tensor] = field(default_factory=dict)
    view_BCHW: Tensor | None = None

    @classmethod
    def of_views(
        cls,
        x_BCHW: Tensor,
        view_BCHW: Tensor,
        condition: Condition,
        classifier: FrozenClassifier,
        micro_batch: int | None,
        **others: Any,
    ) -> Step:
        """Return the step of images whose views the classifier gets, in parts.

        Args:
            x_BCHW: The images.
            view_BCHW: Their augmented views.
            condition: Their conditions.
            classifier: The frozen classifier.
            micro_batch: Images that the classifier processes at once; None for all.
            others: Further attributes of the step.
        """
        logits_BN, features, normed = trace_in_parts(classifier, view_BCHW, micro_batch)
        return cls(
            x_BCHW, condition, logits_BN, features, classifier,
            normed=normed, micro_batch=micro_batch, view_BCHW=view_BCHW, **others,
        )  # fmt: skip

    def classify(self, x_BCHW: Tensor, network: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Return the logits [B, N] of the classifier, or of another network, for images."""
        network = network or self.classifier
        return in_parts(lambda x_bCHW: (network(x_bCHW),), self.micro_batch, x_BCHW)[0]

    @cached_property
    def perturbed_logits_BN(self) -> Tensor:
        """The classifier's logits for the perturbed images, computed at first use."""
        # The first term that uses them may have weight 0 and no gradient; other terms need one.
        with torch.set_grad_enabled(self.x_BCHW.requires_grad):
            return self.classify(
                self.perturbation(self.x_BCHW, self.condition.label_B, self.classify, self.stream)
            )

    def normalised(self) -> Tensor:
        """Return the images as the network gets them, with mean 0 and standard deviation 1."""
        return (self.x_BCHW - self.classifier.mean_C11) / self.classifier.std_C11

    def accuracy(self) -> Tensor:
        """Return the share of images that the classifier assigns to the requested class or set."""
        if self.classifier.multi_label:
            return sets_agree(self.logits_BN, self.condition.target_BN).float().mean()
        return (self.logits_BN.argmax(dim=1) == self.condition.label_B).float().mean()

    def over_layers(self, term: Callable[[Tensor], Tensor], layers: Sequence[str] | None) -> Tensor:
        """Return the sum of a term over feature layers, by default over all of them.

        `config.loss_check.check_layers` has refused layers that are not among the features.
        """
        total: Tensor = torch.stack(
            [term(self.features[layer]) for layer in layers or self.features]
        ).sum()
        return total


def kl(step: Step, double_softmax: bool = False) -> Tensor:
    if step.classifier.multi_label:
        return losses.binary_cross_entropy(step.logits_BN, step.condition.target_BN)
    return losses.kl_divergence(step.condition.target_BN, step.logits_BN, double_softmax)


def ce(step: Step, label_smoothing: float = 0.0) -> Tensor:
    if step.classifier.multi_label:
        return losses.binary_cross_entropy(
            step.logits_BN, step.condition.target_BN, label_smoothing
        )
    return losses.cross_entropy(step.logits_BN, step.condition.label_B, label_smoothing)


def kl_perturbed(step: Step, double_softmax: bool = False) -> Tensor:
    """The term `kl` for perturbed images; `perturbation` describes how they are perturbed."""
    return losses.kl_divergence(step.condition.target_BN, step.perturbed_logits_BN, double_softmax)


def ce_perturbed(step: Step, label_smoothing: float = 0.0) -> Tensor:
    """The term `ce` for perturbed images; `perturbation` describes how they are perturbed."""
    return losses.cross_entropy(step.perturbed_logits_BN, step.condition.label_B, label_smoothing)


def cosine(step: Step, absolute: bool = False, layers: Sequence[str] | None = None) -> Tensor:
    return step.over_layers(lambda f_BD: losses.cosine_similarity(f_BD, absolute), layers)


def orthogonality(
    step: Step, normalize: bool = True, layers: Sequence[str] | None = None
) -> Tensor:
    return step.over_layers(lambda f_BD: losses.orthogonality(f_BD, normalize), layers)


def variation(step: Step) -> Tensor:
    return losses.variation(step.x_BCHW)


def pixel(step: Step) -> Tensor:
    return losses.pixel_range(step.x_BCHW)


def gradient(step: Step, per_image: bool = True) -> Tensor:
    return losses.gradient_norm(
        step.classifier,
        step.x_BCHW,
        step.condition.label_B,
        per_image=per_image,
        micro_batch=step.micro_batch,
    )


def stationarity(step: Step, sharpness: float = 30.0) -> Tensor:
    """Misalignment of the classifier's weights and the batch's gradients, 0 to 2.

    Unlike in `method=kkt`, all images have the same multiplier. A generator can draw an image more
    often instead, which has the same effect as a larger multiplier (Haim et al. 2022).

    Args:
        step: The training step.
        sharpness: Sharpness of the gates' smooth derivative (`SmoothGates`), in units of one over
            a pre-activation.
    """
    multiplier_B = torch.ones(len(step.x_BCHW), device=step.x_BCHW.device)
    gradients, _ = margin_gradients(
        step.classifier,
        step.x_BCHW,
        step.condition.label_B,
        multiplier_B,
        sharpness=sharpness,
        micro_batch=step.micro_batch,
    )
    return misalignment(decayed_weights(step.classifier), gradients)


def duality(step: Step, level: float = 5.0) -> Tensor:
    """Mean squared distance of the images' margins to that of the support vectors, over its square.

        L = 1/B sum_i (m_i / level - 1)^2

    At a max-margin solution, images with a multiplier above 0, as all have in `stationarity`, have
    exactly the smallest margin. This is the role of the U-shaped duality loss of Yu and Wang (2023,
    arXiv 2312.02470), whose formula was not available; the square is ours.

    Args:
        level: Margin of the support vectors, a difference of logits.
    """
    m_B = log_odds(step.logits_BN, step.condition.label_B)
    return (m_B / level - 1).square().mean()


def spectrum(step: Step, slope: float = 1.2) -> Tensor:
    return losses.power_law_distance(step.x_BCHW, slope)


def patch_similarity(step: Step, bandwidth: float = 0.05, tokens: int = 16) -> Tensor:
    """Divergence of the tokens' similarities from a uniform distribution; mean over the layers."""
    terms = [
        losses.similarity_divergence(t_BTD, bandwidth, tokens)
        for name, t_BTD in step.normed.items()
        if name not in step.classifier.batch_norms
    ]
    return torch.stack(terms).mean() if terms else step.x_BCHW.new_zeros(())


def class_spread(step: Step, distance: float = 0.25, pool: int = 4) -> Tensor:
    return losses.class_spread(step.x_BCHW, step.condition.label_B, distance, pool)


def feature_spread(step: Step, cosine: float = 0.5, layers: Sequence[str] | None = None) -> Tensor:
    label_B = step.condition.label_B
    return step.over_layers(lambda f_BD: losses.feature_spread(f_BD, label_B, cosine), layers)


def own_prediction(step: Step) -> Tensor:
    return losses.own_prediction(step.logits_BN)


def activation(step: Step, layers: Sequence[str] | None = None) -> Tensor:
    return step.over_layers(losses.activation, layers)


def balance(step: Step) -> Tensor:
    return losses.balance(step.logits_BN)


def contrast(
    step: Step,
    temperature: float = 0.1,
    least_crop: float = 0.25,
    layers: Sequence[str] | None = None,
) -> Tensor:
    """Contrastive loss of CMI: the features of a random crop identify its image.

    The equation is that of `data_free_losses.instance_contrast`. Fang et al. 2021 compare
    channel means of BatchNorm layers after a small network that is trained with the generator;
    here the features are compared directly, so the term has no weights.

    Args:
        step: The training step.
        temperature: Temperature of the cosine similarities.
        least_crop: Smallest area of a crop, as a share of the image.
        layers: Feature layers over which the term is summed.
    """
    crop_BCHW = random_crops(step.x_BCHW, least_crop, step.stream)
    _, of_crops, _ = trace_in_parts(step.classifier, crop_BCHW, step.micro_batch)
    values = []
    for layer in layers or step.features:
        whole_BD = step.features[layer]
        earlier_KD = step.earlier.get(layer, whole_BD.new_empty(0, whole_BD.shape[1]))
        values.append(
            losses.instance_contrast(of_crops[layer], whole_BD, earlier_KD, temperature=temperature)
        )
    return torch.stack(values).sum()


def l1(step: Step) -> Tensor:
    """Sum of the generator's absolute weights, as in the public notebooks (not in the papers)."""
    return torch.stack([weight.abs().sum() for weight in step.generator.parameters()]).sum()


ONE_LABEL = (
    "kl_perturbed",
    "ce_perturbed",
    "gradient",
    "stationarity",
    "duality",
    "own_prediction",
    "balance",
    "networks",
)
"""Terms that need a single label per image, so that they do not support multi-label networks."""
LAYER_TERMS = ("batch_norm", "batch_norm_l2", "stationarity")
"""Terms that read the inputs of BatchNorm layers, or gradients of the classifier's weights."""
TERMS: dict[str, Callable[..., Tensor]] = {name: globals()[name] for name in LOSS_TERMS}
"""The functions of this module that are terms of the objective."""
