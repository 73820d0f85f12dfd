"""Data-free distillation: a student learns a teacher's softened answers on images that were made, never on real ones.

The answers are the logits divided by a temperature, compared by KL (Hinton et al. 2015), and beside them what the last layer reads, the
penultimate features (Romero et al. 2015). Where the images come from is not known here: see `netinv_lightning.downstream.replay`.

Shape suffixes: B batch, n images, C channels, H height, W width, N classes, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import Classifier, FrozenClassifier
from netinv_lightning.classifiers.penultimate import last_linear
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.module import own_randomness
from netinv_lightning.training.distributed import Stream
from netinv_lightning.training.float32 import in_float32
from netinv_lightning.training.schedules import one_cycle
from netinv_lightning.training.snapshots import Snapshots, Stateful

Draw = Callable[[int], Tensor]
"""From the number of a batch to images [B, C, H, W] in [0, 1]."""
Answers = Callable[[Tensor], Tensor]
"""From images [B, C, H, W] in [0, 1] to logits [B, N]."""
Harden = Callable[[int, Classifier], None]
"""Is given the number of a step and the student, before the step's images are drawn."""
Fresh = Callable[[Classifier], Tensor]
"""From the trained student to images [n, C, H, W] in [0, 1] of the kind that it learnt on, but none of those."""
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
        agreement_fresh: Share of images made as those of training, or where none are made of these, drawn again, for which student and
            teacher predict the same class, in [0, 1].
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
    features: float = 0.0,
    views: Augmentation | None = None,
    mix: bool = False,
    harden: Harden | None = None,
    fresh: Fresh | None = None,
    seed: int = 0,
    tell: Tell | None = None,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    snapshots: Snapshots | None = None,
) -> Distilled:
    """Trains `student` to answer as `teacher` does, on what `draw` gives, and then judges it.

    AdamW with a one-cycle learning rate. The same arguments give the same student, bit by bit, and the global randomness is left as
    it was. Real images are looked at when the training is over.

    Args:
        teacher: The frozen classifier.
        draw: Gives the images of each step; without `fresh` it is asked for ten batches more, which judge.
        student: An untrained network from normalised images to N logits, trained in place.
        real: Real images [n, C, H, W], uint8 or in [0, 1], and labels [n] that judge the student.
        steps: Of the training, a fresh batch each.
        lr: Highest learning rate.
        temperature: Both networks' logits are divided by it.
        features: Weight of the squared distance between the unit penultimate features of teacher and student, the student's through
            a linear map that is trained along; both networks need an nn.Linear. 0 for none.
        views: Random views of the images, of which student and teacher see the same one; None for the images themselves.
        mix: Show mixtures of two images, see `mixture`.
        harden: Called before each step; an adversarial source improves itself there.
        fresh: Gives the images that `agreement_fresh` is measured on, when the training is over.
        seed: Of views and dropout.
        tell: Is told each step and its loss.
        autocast: Makes the context in which the networks run.
        snapshots: Keep the training, so that it can be resumed; what `harden` changes has to be among their further parts.

    Returns:
        The student and its numbers.
    """
    device = teacher.mean_C11.device
    like = FrozenClassifier(student, teacher.spec, ())
    student.requires_grad_(True)
    classifier = (
        Classifier(student, teacher.spec, like)
        .to(device)
        .to(memory_format=torch.channels_last)
        .train()
    )  # type: ignore[call-overload]
    stream = Stream(seed, device)
    with own_randomness(seed, device):
        hint = Hint(teacher, classifier).to(device) if features else None
    trained = [*classifier.parameters(), *(hint.parameters() if hint else ())]
    optimizer = torch.optim.AdamW(trained, lr, weight_decay=WEIGHT_DECAY)
    schedule = one_cycle(optimizer, lr, steps, RISE)
    parts: dict[str, Stateful] = {
        "student": classifier,
        "optimizer": optimizer,
        "schedule": schedule,
        "stream": stream,
    }
    parts |= {} if hint is None else {"hint": hint}
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        torch.enable_grad(),
        ExitStack() as stack,
    ):
        torch.manual_seed(seed)
        first, done = stack.enter_context((snapshots or Snapshots()).kept(steps, **parts))
        for step in range(first, steps):
            if harden is not None:
                harden(step, classifier)
            x_BCHW = draw(step)
            x_BCHW = x_BCHW if views is None else views(x_BCHW, stream)
            x_BCHW = (mixture(x_BCHW, stream, boxes=step % 2 == 1) if mix else x_BCHW).contiguous(
                memory_format=torch.channels_last
            )
            with autocast(), hint.reading() if hint else nullcontext():
                with torch.no_grad():
                    answer_BN = teacher(x_BCHW)
                loss = divergence(classifier(x_BCHW), answer_BN, temperature).mean()
                if hint is not None:
                    loss = loss + features * hint.distance()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if tell is not None:
                tell(step + 1, float(loss.detach()))
            done(step + 1)
    classifier.eval()
    fresh_nCHW = (
        torch.cat([draw(steps + number) for number in range(FRESH_BATCHES)])
        if fresh is None
        else fresh(classifier)
    )
    agreement_fresh = share_equal(predicted(classifier, fresh_nCHW), predicted(teacher, fresh_nCHW))
    if real is None:
        return Distilled(classifier, agreement_fresh, None, None)
    images_nCHW, label_n = real
    found_n = predicted(classifier, images_nCHW)
    return Distilled(
        classifier,
        agreement_fresh,
        share_equal(found_n, predicted(teacher, images_nCHW)),
        share_equal(found_n, label_n),
    )


class Hint(nn.Module):
    """How far the student's penultimate features, mapped linearly, are from the teacher's.

    The map begins as the identity, as far as it is square, and is thrown away after the training.

    Args:
        teacher: Whose features they are to be.
        student: Whose are mapped.

    Raises:
        ValueError: if a network has no fully connected layer.
    """

    def __init__(self, teacher: Classifier, student: Classifier) -> None:
        super().__init__()
        last = [
            layer
            for network in (teacher, student)
            if (layer := last_linear(network.network)) is not None
        ]
        if len(last) < 2:
            raise ValueError("a network has no fully connected layer")
        self._last = last  # in a list: no weights of this module
        self.read_BD: list[Tensor] = [torch.empty(0), torch.empty(0)]
        self.map = nn.Linear(self._last[1].in_features, self._last[0].in_features, bias=False)
        nn.init.eye_(self.map.weight)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Notes the features of what both networks are shown inside."""

        def note(which: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                self.read_BD[which] = inputs[0]

            return hook

        handles = [
            layer.register_forward_pre_hook(note(which)) for which, layer in enumerate(self._last)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def distance(self) -> Tensor:
        """Mean over the batch of the squared distance of unit features, 0 to 4."""
        teacher_BD, student_BD = self.read_BD
        return self._distance(teacher_BD.flatten(1), student_BD.flatten(1))

    @in_float32
    def _distance(self, teacher_BD: Tensor, student_BD: Tensor) -> Tensor:
        return (
            (F.normalize(self.map(student_BD), dim=1) - F.normalize(teacher_BD, dim=1))
            .square()
            .sum(dim=1)
            .mean()
        )


def mixture(x_BCHW: Tensor, stream: Stream, boxes: bool) -> Tensor:
    """Each image with a random other one: blended, of which it keeps half or more, or with a box of the other's pixels in it.

    So many images become many more (Zhang et al. 2018; Yun et al. 2019); no label is mixed, since the teacher answers to what it sees.

    Args:
        x_BCHW: Images.
        stream: Source of randomness.
        boxes: Whether with boxes, of a side up to 3/4 of the image and a centre anywhere, or blended.
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
def divergence(logits_BN: Tensor, answer_BN: Tensor, temperature: float) -> Tensor:
    """KL of the softened answers, teacher against student, [B]; times the temperature's square, which keeps gradients at one size."""
    student_BN, teacher_BN = (
        F.log_softmax(values / temperature, dim=1) for values in (logits_BN, answer_BN)
    )
    return temperature**2 * F.kl_div(student_BN, teacher_BN, log_target=True, reduction="none").sum(
        dim=1
    )


@torch.no_grad()
def predicted(classifier: Classifier, images_nCHW: Tensor) -> Tensor:
    """The class that each image, uint8 or in [0, 1], is taken for, [n], on the CPU."""
    return answers(classifier, images_nCHW).argmax(dim=1)


@torch.no_grad()
def answers(classifier: Classifier, images_nCHW: Tensor) -> Tensor:
    """Logits of all images, uint8 or in [0, 1], a part at a time, [n, N], on the CPU."""
    device = classifier.mean_C11.device
    return torch.cat(
        [
            classifier(unit_range(part).to(device)).float().cpu()
            for part in images_nCHW.split(JUDGED)
        ]
    )


def unit_range(images_nCHW: Tensor) -> Tensor:
    """Images in [0, 1], of uint8 or of such already."""
    return images_nCHW.float() / 255 if images_nCHW.dtype == torch.uint8 else images_nCHW


def share_equal(first_n: Tensor, second_n: Tensor) -> float:
    return float((first_n == second_n).double().mean())
