"""The typed keys of each application, and the one home of their defaults; `config/schema.py` holds the rest of the schema.

Imports are light, as there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional


@dataclass
class InvertConfig:
    """Keys of `application=invert`: the optimisation of the generator and its evaluation.

    `classes` are the labels of the classes to invert; null for all.
    """

    name: str = "invert"
    classes: Optional[list[int]] = None
    steps: int = 1000
    batch_size: int = 48
    lr: float = 6e-3
    weight_decay: float = 0.0
    betas: list[float] = field(default_factory=lambda: [0.5, 0.99])
    warmup: int = 0
    final_lr: float = 0.1
    sampling_dropout: bool = True
    sampling_batch_norm: str = "running"
    channels_last: bool = True
    compile: bool = False
    verifiers: list[str] = field(default_factory=list)
    eval_samples: int = 10000
    eval_batch_size: int = 500
    keep_samples: int = 1000
    grid_columns: int = 10
    grid_every: int = 250
    log_every: int = 10
    checkpoint_every: int = 250


@dataclass
class ReconstructConfig(InvertConfig):
    """Keys of `application=reconstruct`: those of an inversion, and what its images are compared with afterwards.

    `reconstructions` of them are compared with at most `members` training images and as many held-out ones; with `student` a new network
    also learns from them alone, and is judged on real test images. `trained_on` says what a classifier without a card was trained on:
    `all` training images of `data`, or those that its `split` leaves (`data.val_fraction`, `data.subset_size`, `data.split_seed`).
    """

    name: str = "reconstruct"
    trained_on: Optional[str] = None
    reconstructions: int = 1000
    members: int = 2000
    student: bool = True


@dataclass
class AuditConfig:
    """Keys of `application=audit`: which attacks (`netinv_lightning.applications.audit.ATTACKS`), and how long each works.

    Without `attacks` it is reconstruction and natural, and kkt too where the network has no BatchNorm, for which its theory does not hold.
    `effort` is `quick` (minutes on two cores) or `full`; `overrides` are added to every attack, each in quotes. The rest as for
    `application=reconstruct`; `verifiers` tell whether the images show the classes.
    """

    name: str = "audit"
    trained_on: Optional[str] = None
    attacks: Optional[list[str]] = None
    effort: str = "quick"
    overrides: list[str] = field(default_factory=list)
    reconstructions: int = 1000
    members: int = 2000
    verifiers: list[str] = field(default_factory=list)


@dataclass
class MeasureApplicationConfig:
    """Keys of `application=measure`: the finished run, or the file of images, that is measured as `measure` says.

    Without `samples` it is the run directory `run`; without `verifiers`, the run's own are asked.
    """

    name: str = "measure"
    run: Optional[str] = None
    samples: Optional[str] = None
    verifiers: Optional[list[str]] = None


@dataclass
class InterpretApplicationConfig:
    """Keys of `application=interpret`: the finished run whose images are studied as `interpret` says."""

    name: str = "interpret"
    run: Optional[str] = None


@dataclass
class ApproachConfig:
    """Keys of `application=approach`: inversion towards other targets than classes, by descent on the pixels (A3-10).

    `target` is `soft` or `logits` (`vector`: numbers, one a class, or several such lists), `neuron` (`units` of `layer`, to give
    `value`, or as much as they can if null) or `features` (of `layer`: `file`, a safetensors file with `images` or `features`, the
    first `rows` of them). Each target gets `images` images, from `steps` steps each; parametrisation, jitter and init_std as for
    `method=gradient`, which need not be chosen. A unit that sees few pixels is reached more surely with `parametrisation=pixel`.
    """

    name: str = "approach"
    target: str = "soft"
    vector: Optional[list[Any]] = None
    layer: str = "penultimate"
    units: Optional[list[int]] = None
    value: Optional[float] = None
    file: Optional[str] = None
    rows: int = 5
    images: int = 5
    verifiers: list[str] = field(default_factory=list)
    steps: int = 400
    lr: float = 0.3
    parametrisation: str = "fourier"
    jitter: int = 0
    init_std: float = 1.0
    log_every: int = 10


DETECTORS = (
    "msp", "max_logit", "energy", "gen", "uncertainty", "lc", "odin", "oodl",
    "mahalanobis", "knn", "vim", "gmm", "cluster", "autoencoder",
)  # fmt: skip
"""Names of the detectors, in the order of the results. A test compares them with `netinv_lightning.ood.detectors.DETECTORS`."""


@dataclass
class DetectOodConfig:
    """Keys of `application=detect_ood`: detectors of a frozen classifier, and the sets that it was not made for.

    `samples` are taken of each set at most; `outliers` are sets that `netinv_lightning.data.outliers` knows. `strengths` (root mean
    square changes of a pixel) ask for the perturbation study, of `shifted` test images. Classifiers with a garbage class: `garbage`.
    """

    name: str = "detect_ood"
    detectors: list[str] = field(default_factory=lambda: list(DETECTORS))
    outliers: list[str] = field(default_factory=lambda: ["gaussian_noise", "uniform_noise"])
    samples: int = 5000
    strengths: list[float] = field(default_factory=list)
    shifted: int = 500


@dataclass
class DistillConfig:
    """Keys of `application=distill`: the finished run `run`, whose images a `student` learns the classifier's answers on.

    Before the first step, and then every `every` steps, a generator begins anew and makes a round of images, in whose objective the
    disagreement of student and classifier has the weight `adversarial`. All are kept; `steps` batches of `batch_size` are drawn of them,
    in the views that `augmentation` describes and mixed with one another. `features` weights the penultimate features beside the answers.
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
    checkpoint_every: int = 250


@dataclass
class CounterfeitConfig:
    """Keys of `application=counterfeit`: of `samples` images of the finished run `run`, those that its classifier takes for their
    class with `confidence` or more. Without `verifiers` the run's own are asked.
    """

    name: str = "counterfeit"
    run: Optional[str] = None
    confidence: float = 0.9
    verifiers: Optional[list[str]] = None
    samples: int = 2000


@dataclass
class FinetuneConfig:
    """Keys of `application=finetune`: the classifier of the finished run `run` trains on with `share` of its images in each batch.

    `images` are drawn of the run. They keep their labels and are as they are (`kind=labels`), or perturbed by `attack_steps` steps in
    the Linf ball of `radius` (`adversarial`), against which robust accuracy is measured too, on `attacked` test images. Real images,
    batch size, shift and flip: `data`.
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


@dataclass
class BenchmarkConfig:
    """Keys of `application=benchmark`: every combination is an inversion of its own, with `overrides` on top.

    On the command line each of them is quoted: `'application.overrides=["application.steps=200"]'`.
    """

    name: str = "benchmark"
    experiments: list[str] = field(default_factory=lambda: ["mnist_invert"])
    methods: list[str] = field(default_factory=lambda: ["generator", "gradient"])
    conditionings: list[str] = field(default_factory=lambda: ["vector_matrix"])
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    overrides: list[str] = field(default_factory=list)


@dataclass
class TrainClassifierConfig:
    """Keys of `application=train_classifier`; how it trains is told by `recipe`, what `save_as` names is replaced with `overwrite`."""

    name: str = "train_classifier"
    save_as: Optional[str] = None
    overwrite: bool = False
    checkpoint_every: int = 250


APPLICATION_KEYS: dict[str, type] = {
    "invert": InvertConfig,
    "reconstruct": ReconstructConfig,
    "audit": AuditConfig,
    "train_classifier": TrainClassifierConfig,
    "measure": MeasureApplicationConfig,
    "approach": ApproachConfig,
    "interpret": InterpretApplicationConfig,
    "detect_ood": DetectOodConfig,
    "distill": DistillConfig,
    "counterfeit": CounterfeitConfig,
    "finetune": FinetuneConfig,
    "benchmark": BenchmarkConfig,
}
"""The keys of each application, by its name."""

INVERSIONS = ("invert", "reconstruct")
"""Applications that are an inversion, with all its keys, and leave what one leaves."""
