"""The keys of the applications that use inverted images: distill, counterfeit and finetune.

The keys that all applications share are described in `application_schema.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional


@dataclass
class DistillConfig:
    """Keys of `application=distill`: a student learns the outputs of the classifier.

    Before the first step, and again every `every` steps, a generator resets its first stage and
    makes a round of images. All images are kept. A batch mixes images of all rounds, in the random
    views of `augmentation`.

    Attributes:
        student: `_target_` and arguments of the student.
        temperature: Temperature of the softened outputs.
        features: Weight of the loss on penultimate features, relative to that on the outputs.
        adversarial: Weight of the disagreement of student and classifier in the objective of a
            round.
        every: Steps between two rounds of images.
        micro_batch: Number of images that the classifier, and in a round the student, process at
            once; null for the whole batch.
    """

    name: str = "distill"
    run: Optional[str] = None
    student: dict[str, Any] = field(
        default_factory=lambda: {"_target_": "netinv_lightning.classifiers.networks.CNN"}
    )
    steps: int = 1500
    batch_size: int = 64
    lr: float = 4e-3
    temperature: float = 4.0
    features: float = 1.0
    adversarial: float = 1.0
    every: int = 60
    micro_batch: Optional[int] = None
    checkpoint_every: int = 250


@dataclass
class CounterfeitConfig:
    """Keys of `application=counterfeit`: images that the classifier accepts with high confidence.

    Attributes:
        confidence: Minimum confidence in the requested class.
        samples: Number of images that are drawn.
    """

    name: str = "counterfeit"
    run: Optional[str] = None
    confidence: float = 0.9
    verifiers: Optional[list[Any]] = None
    samples: int = 2000


@dataclass
class FinetuneConfig:
    """Keys of `application=finetune`: train a classifier further on real and inverted images.

    The group `data` sets the real images, the batch size, shift and flip.

    Attributes:
        kind: The inverted images keep their labels and pixels (`labels`), or are perturbed
            (`adversarial`); robust accuracy is then measured too.
        share: Share of inverted images in each batch.
        images: Number of images that are drawn from the run.
        radius: Radius of the Linf ball of the perturbations, in units of the pixel range.
        attack_steps: Steps of the search for a perturbation.
        attacked: Number of test images for robust accuracy.
    """

    name: str = "finetune"
    run: Optional[str] = None
    kind: str = "labels"
    share: float = 0.25
    images: int = 5000
    steps: int = 200
    lr: float = 0.01
    radius: float = 0.03
    attack_steps: int = 10
    attacked: int = 500
    checkpoint_every: int = 250
