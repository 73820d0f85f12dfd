"""The keys of each application, with types and defaults. The rest is in `config/schema.py`.

Shared keys:
    name: Name of the application; `application=NAME` selects it.
    run: Directory of a finished run.
    verifiers: Verifiers of the images (`classifiers/verifier_names.py`); null for those of the run.
    steps: Training steps.
    batch_size: Images per batch.
    lr: Learning rate.
    grid_every: Steps between two grids of images.
    log_every: Steps between two rows of metrics.
    checkpoint_every: Steps between two checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from netinv_lightning.config.detection_schema import DetectOodConfig
from netinv_lightning.config.downstream_schema import (
    CounterfeitConfig,
    DistillConfig,
    FinetuneConfig,
)


@dataclass
class InvertConfig:
    """Keys of `application=invert`: the training of the generator and its evaluation.

    The first keys are arguments of `netinv_lightning.inversion.module.InversionModule`.

    Attributes:
        channels_last: Memory format, which changes only the speed.
        compile: Whether to use `torch.compile`, which changes only the speed.
        micro_batch: Images that the classifier processes at once; null for the whole batch.
        recompute: Whether activations of the classifier are dropped and computed again.
        classes: Labels of the classes to invert; null for all.
        rank_by: Metric by which sweeps compare runs, and which Optuna optimises; null for
            transfer/accuracy with verifiers, and inversion/accuracy without.
        eval_samples: Number of images of the evaluation.
        eval_batch_size: Images per batch of the evaluation.
        keep_samples: Number of images that are written to `samples/`.
        grid_columns: Images per class in the grid.
    """

    name: str = "invert"
    steps: int = 1000
    batch_size: int = 48
    lr: float = 6e-3
    weight_decay: float = 0.0
    betas: list[float] = field(default_factory=lambda: [0.5, 0.99])
    warmup: int = 0
    final_lr: float = 0.1
    sampling_dropout: bool = True
    sampling_batch_norm: str = "running"
    sampling_views: bool = False
    round_steps: Optional[int] = None
    channels_last: bool = True
    compile: bool = False
    micro_batch: Optional[int] = None
    recompute: bool = False
    classes: Optional[list[int]] = None
    verifiers: list[Any] = field(default_factory=list)
    rank_by: Optional[str] = None
    eval_samples: int = 10000
    eval_batch_size: int = 500
    keep_samples: int = 1000
    grid_columns: int = 10
    grid_every: int = 250
    log_every: int = 10
    checkpoint_every: int = 250


@dataclass
class ReconstructConfig(InvertConfig):
    """Keys of `application=reconstruct`: those of an inversion, and those of the comparison.

    Attributes:
        trained_on: Training images of a classifier without a model card: `all` of `data`, or those
            of its `split` (`data.val_fraction`, `data.subset_size`, `data.split_seed`).
        reconstructions: Number of inverted images that are compared.
        members: Maximum number of training images, and of held-out images.
        student: Whether a new network is trained on the inverted images alone and evaluated on real
            test images.
    """

    name: str = "reconstruct"
    trained_on: Optional[str] = None
    reconstructions: int = 1000
    members: int = 2000
    student: bool = True


@dataclass
class AuditConfig:
    """Keys of `application=audit`. See `ReconstructConfig` for the other keys.

    Attributes:
        attacks: Names of the attacks (`netinv_lightning.privacy.build.ATTACKS`, and informed). Null
            for reconstruction, natural and, without BatchNorm in the network, kkt.
        effort: Length of the attacks: `quick` (minutes on two cores) or `full`.
        overrides: Overrides of the config of every attack except informed; quote each one on the
            command line.
        known: Maximum number of training images that the informed adversary knows.
        targets: Number of missing images, each in a model of its own, that it reconstructs.
        models: Number of its shadow models; null for 1,000 (`quick`) or 10,000 (`full`).
        shadow: Number of shadow networks for membership inference by LiRA and RMIA, even; null for
            none. They are trained with the recipe of the model card, all at once: for small
            networks.
        fail_if: `leak` for exit status 3 if the verdict is that training images leak; null for
            status 0 with every verdict.
    """

    name: str = "audit"
    shadow: Optional[int] = None
    fail_if: Optional[str] = None
    trained_on: Optional[str] = None
    attacks: Optional[list[str]] = None
    effort: str = "quick"
    overrides: list[str] = field(default_factory=list)
    reconstructions: int = 1000
    members: int = 2000
    verifiers: list[Any] = field(default_factory=list)
    known: int = 500
    targets: int = 100
    models: Optional[int] = None


@dataclass
class MeasureApplicationConfig:
    """Keys of `application=measure`: a run, or a file of images (`samples`).

    The group `measure` sets the metrics.

    Attributes:
        samples: File of images, instead of `run`.
    """

    name: str = "measure"
    run: Optional[str] = None
    samples: Optional[str] = None
    verifiers: Optional[list[Any]] = None


@dataclass
class InterpretApplicationConfig:
    """Keys of `application=interpret`. The group `interpret` sets the analyses."""

    name: str = "interpret"
    run: Optional[str] = None


@dataclass
class ApproachConfig:
    """Keys of `application=approach`: optimise pixels towards targets other than a class.

    Attributes:
        target: Kind of target: `soft` (a distribution), `logits`, `neuron` or `features`.
        vector: For `soft` and `logits`: one number per class, or several such lists.
        layer: Layer of `neuron` and `features`.
        units: For `neuron`: units of the layer.
        value: For `neuron`: the activation to reach; null for the largest possible.
        file: A safetensors file. For `features`: `images` or `features`. For `neuron`: `images`
            for comparison.
        rows: Number of rows of the file that are used.
        images: Number of images per target.
        steps: Steps per image.
        parametrisation, jitter, init_std: As for `method=gradient`, which need not be selected.
            Use `parametrisation=pixel` for a unit with a small receptive field.
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
    verifiers: list[Any] = field(default_factory=list)
    steps: int = 400
    lr: float = 0.3
    parametrisation: str = "fourier"
    jitter: int = 0
    init_std: float = 1.0
    log_every: int = 10


@dataclass
class BenchmarkConfig:
    """Keys of `application=benchmark`: one inversion for each combination of the lists.

    Attributes:
        experiments: Names of recipes of `application=invert`.
        methods: Names of methods.
        conditionings: Choices of the group `conditioning`.
        seeds: Seeds of each combination.
        overrides: Overrides of the config of every inversion. On the command line each one is in
            quotes: `'application.overrides=["application.steps=200"]'`.
    """

    name: str = "benchmark"
    experiments: list[str] = field(default_factory=lambda: ["mnist_invert"])
    methods: list[str] = field(default_factory=lambda: ["generator", "gradient"])
    conditionings: list[str] = field(default_factory=lambda: ["vector_matrix"])
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    overrides: list[str] = field(default_factory=list)


@dataclass
class TrainClassifierConfig:
    """Keys of `application=train_classifier`.

    Attributes:
        save_as: File of the weights; null for one in the run directory.
        overwrite: Whether an existing file `save_as` may be replaced.
        verifier_of: Name in the zoo, or path, of a classifier that the network becomes a verifier
            of.
    """

    name: str = "train_classifier"
    save_as: Optional[str] = None
    overwrite: bool = False
    verifier_of: Optional[str] = None
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
"""The schema class of each application, by the name of the application."""

INVERSIONS = ("invert", "reconstruct")
"""Applications that are inversions: they have the keys of `invert` and write the same files."""
