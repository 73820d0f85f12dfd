"""Fine-tuning of a classifier on real and inverted images, and its evaluation.

Shape suffixes: B batch, n images, m inverted images, C channels, H height, W width, N classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from netinv_lightning.classifiers.architecture import build_network
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.data.augmentation import shift_and_flip
from netinv_lightning.data.pixels import to_unit_range
from netinv_lightning.downstream.classifier_predictions import predict_logits
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.metrics.calibration import calibration
from netinv_lightning.training.distributed import Stream
from netinv_lightning.training.gradient_steps import OnStep, decay_groups, train_steps
from netinv_lightning.training.memory_format import in_channels_last
from netinv_lightning.training.schedules import one_cycle
from netinv_lightning.training.seeds import own_randomness
from netinv_lightning.training.snapshots import Snapshots

MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
WARM_UP_SHARE = 0.1
"""Share of the steps in which the learning rate rises."""
ATTACK_BATCH = 100

LabelledImages = tuple[Tensor, Tensor]
"""Images [n, C, H, W], uint8 or in [0, 1], and labels [n]."""


@dataclass(frozen=True)
class ClassifierQuality:
    """Quality of a classifier on labelled images.

    Attributes:
        accuracy: In [0, 1].
        robust_accuracy: Share of images classified correctly both without and under attack.
        ece: Expected calibration error, in [0, 1].
        brier: In [0, 2].
        nll: Mean negative log-likelihood of the label, in nats.
    """

    accuracy: float
    robust_accuracy: float
    ece: float
    brier: float
    nll: float


def trainable_copy(frozen: FrozenClassifier, network: dict[str, Any]) -> Classifier:
    """Return a classifier with the same weights, which can be trained, in evaluation mode.

    Args:
        frozen: The classifier.
        network: The description of its network.
    """
    copied = build_network(network, frozen.spec)
    copied.load_state_dict(frozen.network.state_dict())
    return Classifier(copied, frozen.spec, like=frozen).eval()


def fine_tune(
    classifier: Classifier,
    real: LabelledImages,
    extra: LabelledImages | None = None,
    share: float = 0.25,
    *,
    steps: int = 300,
    batch_size: int = 128,
    lr: float = 0.01,
    shift: int = 0,
    flip: bool = False,
    attack: Perturbation | None = None,
    seed: int = 0,
    on_step: OnStep | None = None,
    snapshots: Snapshots | None = None,
) -> Classifier:
    """Continue the training of `classifier` in place.

    The optimiser is SGD with Nesterov momentum and a one-cycle learning rate; the loss is
    cross-entropy. The same arguments give bit-identical weights; the global random state is
    restored.

    Args:
        classifier: Classifier with trained weights.
        real: Real training images.
        extra: Inverted images and the classes that they were made for; None for real images only.
        share: Share of each batch that is drawn from `extra`; the batch size does not change.
        steps: Number of training steps.
        batch_size: B.
        lr: Largest learning rate.
        shift: Augmentation of every image: largest shift in pixels.
        flip: Mirror half of the images.
        attack: Perturbs the images of `extra` against the current classifier; None for no
            perturbation.
        seed: Seed of batches, augmentation, dropout and attack.
        on_step: Called after each step with its number and its loss.
        snapshots: Saves the training, so that it can be resumed.
    """
    device = classifier.mean_C11.device
    in_channels_last(classifier)
    classifier.train().requires_grad_(True)
    groups = decay_groups(classifier, WEIGHT_DECAY)
    optimizer = torch.optim.SGD(groups, lr, MOMENTUM, nesterov=True)
    schedule = one_cycle(optimizer, lr, steps, WARM_UP_SHARE)
    extra_size = 0 if extra is None else round(share * batch_size)
    batches, stream = Stream(seed), Stream(seed, device)

    def compute_loss(step: int) -> Tensor:
        x_BCHW, label_B = _batch(real, batch_size - extra_size, batches.source, device)
        if extra is not None and extra_size:
            extra_BCHW, extra_B = _batch(extra, extra_size, batches.source, device)
            if attack is not None:
                extra_BCHW = _attacked(classifier, extra_BCHW, extra_B, attack, stream)
            x_BCHW, label_B = torch.cat([x_BCHW, extra_BCHW]), torch.cat([label_B, extra_B])
        x_BCHW = shift_and_flip(x_BCHW, shift, flip).contiguous(memory_format=torch.channels_last)
        return F.cross_entropy(classifier(x_BCHW), label_B)

    with own_randomness(seed, device), torch.enable_grad():
        train_steps(
            compute_loss,
            optimizer,
            schedule,
            steps,
            parts={"classifier": classifier, "batches": batches, "stream": stream},
            snapshots=snapshots,
            on_step=on_step,
        )
    return classifier.eval().requires_grad_(False)


def evaluate_classifier(
    classifier: Classifier,
    images: LabelledImages,
    attack: Perturbation,
    attacked: int,
    seed: int = 0,
) -> ClassifierQuality:
    """Measure accuracy and calibration on all images, robust accuracy on the first `attacked`.

    Args:
        classifier: Classifier in evaluation mode.
        images: Images that the classifier was not trained on.
        attack: An adversarial perturbation.
        attacked: Number of images that are attacked.
        seed: Seed of the start of the attack.
    """
    images_nCHW, label_n = images
    logits_nN = predict_logits(classifier, images_nCHW)
    calibrated = calibration(logits_nN.softmax(dim=1), label_n)
    right_n = logits_nN.argmax(dim=1) == label_n
    robust_n = (
        correct_under_attack(classifier, (images_nCHW[:attacked], label_n[:attacked]), attack, seed)
        & right_n[:attacked]
    )
    return ClassifierQuality(
        accuracy=float(right_n.double().mean()),
        robust_accuracy=float(robust_n.double().mean()),
        ece=calibrated.ece,
        brier=calibrated.brier,
        nll=float(F.cross_entropy(logits_nN.double(), label_n)),
    )


def correct_under_attack(
    classifier: Classifier, images: LabelledImages, attack: Perturbation, seed: int
) -> Tensor:
    """Return which images are classified correctly under attack, [n], on the CPU."""
    device = classifier.mean_C11.device
    stream = Stream(seed, device)
    parts = []
    for x_BCHW, label_B in zip(
        images[0].split(ATTACK_BATCH), images[1].split(ATTACK_BATCH), strict=True
    ):
        attacked_BCHW = attack(
            to_unit_range(x_BCHW).to(device), label_B.to(device), classifier, stream
        )
        with torch.no_grad():
            parts.append(classifier(attacked_BCHW).argmax(dim=1).cpu() == label_B)
    return torch.cat(parts)


def _batch(
    images: LabelledImages, size: int, source: torch.Generator, device: torch.device
) -> LabelledImages:
    chosen_B = torch.randint(len(images[1]), (size,), generator=source)
    return to_unit_range(images[0][chosen_B]).to(device), images[1][chosen_B].to(device)


def _attacked(
    classifier: Classifier, x_BCHW: Tensor, label_B: Tensor, attack: Perturbation, stream: Stream
) -> Tensor:
    """Return the images perturbed against the classifier in evaluation mode."""
    classifier.eval().requires_grad_(False)
    attacked_BCHW = attack(x_BCHW, label_B, classifier, stream)
    classifier.train().requires_grad_(True)
    return attacked_BCHW
