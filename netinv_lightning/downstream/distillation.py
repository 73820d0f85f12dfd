"""Data-free distillation: a student learns the softened logits of a teacher on generated images.

The loss is the KL divergence of softened logits (Hinton et al. 2015, arXiv 1503.02531) and
optionally the distance of penultimate features (Romero et al. 2015, arXiv 1412.6550). See
`replay_buffer` for the sources of images.

Shape suffixes: B batch, n images, C channels, H height, W width, N classes, D features.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.downstream.classifier_predictions import agreement, predict
from netinv_lightning.downstream.feature_hint import FeatureHint
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.training.distributed import Stream
from netinv_lightning.training.float32 import in_float32
from netinv_lightning.training.gradient_steps import OnStep, train_steps
from netinv_lightning.training.memory_format import in_channels_last
from netinv_lightning.training.schedules import one_cycle
from netinv_lightning.training.seeds import own_randomness
from netinv_lightning.training.snapshots import Snapshots, Stateful

DrawBatch = Callable[[int], Tensor]
"""Function of the batch number that returns images [B, C, H, W] in [0, 1]."""
BeforeStep = Callable[[int, Classifier], None]
"""Called with the number of a step and the student, before the images of the step are drawn."""
NewImages = Callable[[Classifier], Tensor]
"""Function of the trained student that returns new images [n, C, H, W] in [0, 1] of the kind that
it was trained on."""

WEIGHT_DECAY = 0.05
WARM_UP_SHARE = 0.25
"""Share of the steps in which the learning rate rises."""
NEW_BATCHES = 10
"""Number of batches for `agreement_fresh` if there are no new images."""


@dataclass(frozen=True)
class DistillationResult:
    """A student and its quality.

    Attributes:
        student: The trained network with the normalisation of the teacher, in evaluation mode.
        agreement_fresh: Share of new generated images, or of further batches, for which student and
            teacher predict the same class, in [0, 1].
        agreement: The same share of the real images; None without real images.
        accuracy: Accuracy of the student on the real images; None without real images.
    """

    student: Classifier
    agreement_fresh: float
    agreement: float | None
    accuracy: float | None


def distil(
    teacher: Classifier,
    draw: DrawBatch,
    student: nn.Module,
    real: tuple[Tensor, Tensor] | None = None,
    *,
    steps: int = 1000,
    lr: float = 6e-3,
    temperature: float = 4.0,
    features: float = 0.0,
    augmentation: Augmentation | None = None,
    mix: bool = False,
    before_step: BeforeStep | None = None,
    new_images: NewImages | None = None,
    seed: int = 0,
    on_step: OnStep | None = None,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    snapshots: Snapshots | None = None,
    micro_batch: int | None = None,
) -> DistillationResult:
    """Train `student` to predict the logits of `teacher` on generated images, and evaluate it.

    The optimiser is AdamW with a one-cycle learning rate. The same arguments give a bit-identical
    student; the global random state is restored. Real images are used only after the training.

    Args:
        teacher: The frozen classifier.
        draw: Draws the images of each step; without `new_images`, ten more batches for the
            evaluation.
        student: Untrained network from normalised images to N logits, trained in place.
        real: Real images [n, C, H, W], uint8 or in [0, 1], and labels [n], for the evaluation.
        steps: Number of training steps, with a new batch each.
        lr: Largest learning rate.
        temperature: Divisor of the logits of both networks.
        features: Weight of the squared distance between the unit penultimate features of teacher
            and student, the latter after a trained linear map; both networks need an nn.Linear. 0
            for none.
        augmentation: Random views of the images, the same for student and teacher; None for none.
        mix: Use mixtures of two images, see `mix_images`.
        before_step: Called before each step, for example to generate images.
        new_images: Returns the images for `agreement_fresh`, after the training.
        seed: Seed of views and dropout.
        on_step: Called after each step with its number and its loss.
        autocast: Makes the context in which the networks run.
        snapshots: Saves the training, so that it can be resumed; it must include what `before_step`
            changes.
        micro_batch: Images that the teacher processes at once; None for all. The student always
            processes the whole batch, since its BatchNorm normalises by the batch.

    Returns:
        The student and its quality.
    """
    device = teacher.mean_C11.device
    like = FrozenClassifier(student, teacher.spec, ())
    student.requires_grad_(True)
    classifier = in_channels_last(Classifier(student, teacher.spec, like).to(device)).train()
    stream = Stream(seed, device)
    with own_randomness(seed, device):
        hint = FeatureHint(teacher, classifier).to(device) if features else None
    trained = [*classifier.parameters(), *(hint.parameters() if hint else ())]
    optimizer = torch.optim.AdamW(trained, lr, weight_decay=WEIGHT_DECAY)
    schedule = one_cycle(optimizer, lr, steps, WARM_UP_SHARE)
    saved: dict[str, Stateful] = {"student": classifier, "stream": stream}

    def compute_loss(step: int) -> Tensor:
        if before_step is not None:
            before_step(step, classifier)
        x_BCHW = draw(step)
        x_BCHW = x_BCHW if augmentation is None else augmentation(x_BCHW, stream)
        x_BCHW = mix_images(x_BCHW, stream, boxes=step % 2 == 1) if mix else x_BCHW
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        with autocast(), hint.record() if hint else nullcontext():
            with torch.no_grad():
                parts = x_BCHW.split(micro_batch or len(x_BCHW))
                teacher_BN = torch.cat([teacher(part_bCHW) for part_bCHW in parts])
            loss = softened_kl(classifier(x_BCHW), teacher_BN, temperature).mean()
            return loss if hint is None else loss + features * hint.distance()

    with own_randomness(seed, device), torch.enable_grad():
        train_steps(
            compute_loss,
            optimizer,
            schedule,
            steps,
            parts=saved if hint is None else {**saved, "hint": hint},
            snapshots=snapshots,
            on_step=on_step,
        )
    classifier.eval()
    new_nCHW = (
        torch.cat([draw(steps + number) for number in range(NEW_BATCHES)])
        if new_images is None
        else new_images(classifier)
    )
    agreement_fresh = agreement(predict(classifier, new_nCHW), predict(teacher, new_nCHW))
    if real is None:
        return DistillationResult(classifier, agreement_fresh, None, None)
    images_nCHW, label_n = real
    predicted_n = predict(classifier, images_nCHW)
    return DistillationResult(
        classifier,
        agreement_fresh,
        agreement=agreement(predicted_n, predict(teacher, images_nCHW)),
        accuracy=agreement(predicted_n, label_n),
    )


def mix_images(x_BCHW: Tensor, stream: Stream, boxes: bool) -> Tensor:
    """Mix each image with another random image of the batch.

    Either two images are blended, with a weight of at least 1/2 for the original one (Zhang et al.
    2018, arXiv 1710.09412), or a box is replaced by the pixels of the other image (Yun et al. 2019,
    arXiv 1905.04899). Labels are not mixed, because the teacher predicts the mixed image.

    Args:
        x_BCHW: Images.
        stream: Source of randomness.
        boxes: Replace boxes, with a side up to 3/4 of the image and any centre; otherwise blend.
    """
    B, _, H, W = x_BCHW.shape
    other_BCHW = x_BCHW[stream.uniform(B).argsort()]
    if not boxes:
        return torch.lerp(x_BCHW, other_BCHW, stream.uniform(B, 1, 1, 1) / 2)
    half_B, down_B, across_B = stream.uniform(B, 3).unbind(dim=1)
    within_BH, within_BW = (
        (torch.arange(side, device=x_BCHW.device) - side * centre_B[:, None]).abs()
        < 3 / 8 * side * half_B[:, None]
        for side, centre_B in ((H, down_B), (W, across_B))
    )
    return torch.where((within_BH[:, :, None] & within_BW[:, None])[:, None], other_BCHW, x_BCHW)


@in_float32
def softened_kl(student_BN: Tensor, teacher_BN: Tensor, temperature: float) -> Tensor:
    """Return the KL divergence of the softened student from the softened teacher, [B].

    It is multiplied by the squared temperature, so that the size of gradients does not depend on
    it.
    """
    student_BN, teacher_BN = (
        F.log_softmax(logits_BN / temperature, dim=1) for logits_BN in (student_BN, teacher_BN)
    )
    kl_BN = F.kl_div(student_BN, teacher_BN, log_target=True, reduction="none")
    return temperature**2 * kl_BN.sum(dim=1)
