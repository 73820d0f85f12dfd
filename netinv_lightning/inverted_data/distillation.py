"""Data-free distillation: a student learns a teacher's softened answers on images that were made, never on real ones.

The answers are the logits divided by a temperature, compared by KL (Hinton et al. 2015); where the images come from is not
known here. See `netinv_lightning.inverted_data.source`.

Shape suffixes: B batch, n images, C channels, H height, W width, N classes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netinv_lightning.classifiers.classifier import Classifier
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.ranks import Stream

Draw = Callable[[int], Tensor]
"""From the number of a batch to images [B, C, H, W] in [0, 1]."""
Answers = Callable[[Tensor], Tensor]
"""From images [B, C, H, W] in [0, 1] to logits [B, N]."""
Harden = Callable[[int, Classifier], None]
"""Is given the number of a step and the student, before the step's images are drawn."""
Tell = Callable[[int, float], None]
"""Is told the number of a step and its loss."""

WEIGHT_DECAY = 0.05
RISE = 0.25  # share of the steps in which the learning rate rises
JUDGED = 250  # images at a time
FRESH_BATCHES = 10


@dataclass(frozen=True)
class Distilled:
    """A student, and how well it does.

    Attributes:
        student: The trained network behind the teacher's normalisation, in evaluation mode.
        agreement_fresh: Share of fresh images, drawn as those of training but never trained on, for which student and teacher
            predict the same class, in [0, 1].
        agreement: The same of the real images; None where there are none.
        accuracy: Share of the real images that the student predicts rightly; None where there are none.
    """

    student: Classifier
    agreement_fresh: float
    agreement: float | None
    accuracy: float | None


def distil(
    teacher: Classifier,
    draw: Draw,
    student: nn.Module,
    real: tuple[Tensor, Tensor] | None = None,
    *,
    steps: int = 1000,
    lr: float = 6e-3,
    temperature: float = 4.0,
    views: Augmentation | None = None,
    harden: Harden | None = None,
    seed: int = 0,
    tell: Tell | None = None,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Distilled:
    """Trains `student` to answer as `teacher` does, on what `draw` gives, and then judges it.

    AdamW with a one-cycle learning rate. The same arguments give the same student, bit by bit, and the global randomness is left as
    it was. Real images are looked at when the training is over.

    Args:
        teacher: The frozen classifier.
        draw: Gives the images of each step; it is asked for `steps` batches and ten more, which judge.
        student: An untrained network from normalised images to N logits, trained in place.
        real: Real images [n, C, H, W], uint8 or in [0, 1], and labels [n] that judge the student.
        steps: Of the training, a fresh batch each.
        lr: Highest learning rate.
        temperature: Both networks' logits are divided by it.
        views: Random views of the images, of which student and teacher see the same one; None for the images themselves.
        harden: Called before each step; an adversarial source improves itself there.
        seed: Of views and dropout.
        tell: Is told each step and its loss.
        autocast: Makes the context in which the networks run.

    Returns:
        The student and its numbers.
    """
    device = teacher.mean_C11.device
    classifier = Classifier(student, teacher.spec).to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    stream = Stream(seed, device)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps, pct_start=RISE, cycle_momentum=False)
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
        torch.manual_seed(seed)
        for step in range(steps):
            if harden is not None:
                harden(step, classifier)
            x_BCHW = draw(step)
            x_BCHW = (x_BCHW if views is None else views(x_BCHW, stream)).contiguous(memory_format=torch.channels_last)
            with autocast():
                with torch.no_grad():
                    answer_BN = teacher(x_BCHW)
                loss = divergence(classifier(x_BCHW), answer_BN, temperature).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if tell is not None:
                tell(step + 1, float(loss.detach()))
    classifier.eval()
    fresh_nCHW = torch.cat([draw(steps + number) for number in range(FRESH_BATCHES)])
    agreement_fresh = share_equal(predicted(classifier, fresh_nCHW), predicted(teacher, fresh_nCHW))
    if real is None:
        return Distilled(classifier, agreement_fresh, None, None)
    images_nCHW, label_n = real
    found_n = predicted(classifier, images_nCHW)
    return Distilled(classifier, agreement_fresh, share_equal(found_n, predicted(teacher, images_nCHW)), share_equal(found_n, label_n))


def divergence(logits_BN: Tensor, answer_BN: Tensor, temperature: float) -> Tensor:
    """KL of the softened answers, teacher against student, [B]; times the temperature's square, which keeps gradients at one size."""
    student_BN, teacher_BN = (F.log_softmax(values.float() / temperature, dim=1) for values in (logits_BN, answer_BN))
    return temperature**2 * F.kl_div(student_BN, teacher_BN, log_target=True, reduction="none").sum(dim=1)


@torch.no_grad()
def predicted(classifier: Classifier, images_nCHW: Tensor) -> Tensor:
    """The class that each image, uint8 or in [0, 1], is taken for, [n], on the CPU."""
    return answers(classifier, images_nCHW).argmax(dim=1)


@torch.no_grad()
def answers(classifier: Classifier, images_nCHW: Tensor) -> Tensor:
    """Logits of all images, uint8 or in [0, 1], a part at a time, [n, N], on the CPU."""
    device = classifier.mean_C11.device
    return torch.cat([classifier(unit_range(part).to(device)).float().cpu() for part in images_nCHW.split(JUDGED)])


def unit_range(images_nCHW: Tensor) -> Tensor:
    """Images in [0, 1], of uint8 or of such already."""
    return images_nCHW.float() / 255 if images_nCHW.dtype == torch.uint8 else images_nCHW


def share_equal(first_n: Tensor, second_n: Tensor) -> float:
    return float((first_n == second_n).double().mean())
