"""The schema of the config: the type and the default of every key.

A YAML file in `conf/` contains only what differs from these defaults. The keys of a section are the
arguments of a constructor; a test compares them. A misspelled key, or a word instead of a number,
raises an error when the config is composed. This module does not import torch. The other parts of
the schema are in `*_schema.py`. `netinv help` shows the docstrings, which describe every key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from omegaconf import MISSING

from netinv_lightning.config.garbage_schema import GarbageConfig
from netinv_lightning.config.layer_names import PENULTIMATE
from netinv_lightning.config.monitor_schema import MonitorConfig
from netinv_lightning.metric_names import METRIC_GROUPS


@dataclass
class DataConfig:
    """Arguments of `netinv_lightning.data.datamodule.ImageDataModule`."""

    name: str = MISSING
    root: str = "${oc.env:NETINV_DATA,data}"
    path: Optional[str] = None
    test_path: Optional[str] = None
    classes: Optional[list[int]] = None
    batch_size: int = 256
    val_fraction: float = 0.1
    subset_size: Optional[int] = None
    split_seed: int = 0
    shift: int = 0
    flip: bool = False
    image_size: Any = None
    modality: Optional[str] = None


@dataclass
class ClassifierConfig:
    """The network to train or to invert, and its weights (`netinv_lightning.classifiers.build`).

    Attributes:
        zoo: Name of a classifier of the zoo.
        path: File of weights.
        train: Whether the classifier is trained on `data` by `recipe` before it is inverted. It is
            trained once and then read from `kept_in`.
        kept_in: Folder of trained classifiers, named by the hash of everything that determines them
            (`netinv_lightning.classifiers.cache`).
        network: `_target_` and arguments of the network.
        num_classes, channels: Numbers of classes and channels, if they differ from the data's.
        image_size: Side of square images in pixels, or [height, width], if it differs from that of
            the data.
        shape: Shape of one input, [features] for tables, [C, L] for signals or [C, H, W] for
            images, instead of `channels` and `image_size`.
        bounds: Lowest and highest value of each channel of signals and tables.
        groups: Lists of features of tables, each the one-hot code of one categorical variable
            (`netinv_lightning.data.specs.DataSpec`).
        mean, std: Mean and standard deviation of each channel, for the normalisation.
        feature_layers: Names of the layers whose outputs are used as features.
        output: Name or index of the logits in the output of the network.
        output_kind: Kind of this output: `logits`, `probabilities`, `log_probabilities`, `sigmoid`,
            `multi_label` or `auto` (`netinv_lightning.classifiers.outputs`).
        callable, command: A black box (`netinv_lightning.classifiers.black_box`): a Python
            function, as `package.module:function`, or a program and its arguments.
        query_directions: Number of random directions for the estimated gradient of a black box; 0
            for none.
        query_sigma: Standard deviation of the finite differences of this estimate, in units of the
            pixel range.
    """

    zoo: Optional[str] = None
    path: Optional[str] = None
    train: bool = False
    kept_in: str = "${oc.env:NETINV_CLASSIFIERS,classifiers}"
    network: Optional[dict[str, Any]] = None
    num_classes: Optional[int] = None
    shape: Optional[list[int]] = None
    channels: Optional[int] = None
    image_size: Any = None
    mean: Optional[list[float]] = None
    std: Optional[list[float]] = None
    bounds: Optional[list[Any]] = None
    groups: Optional[list[list[int]]] = None
    feature_layers: list[str] = field(default_factory=lambda: [PENULTIMATE])
    output: Optional[str] = None
    output_kind: str = "auto"
    callable: Optional[str] = None
    command: Optional[list[str]] = None
    query_directions: int = 50
    query_sigma: float = 0.1


@dataclass
class RecipeConfig:
    """Training of a classifier.

    Other keys are arguments of `netinv_lightning.classifiers.classifier_module.ClassifierModule`.

    Attributes:
        epochs: Passes over the training images.
        channels_last: Memory format, which changes only the speed.
        seed: Seed of the training; null for the seed of the run.
    """

    epochs: int = 10
    optimizer: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    l1: float = 0.0
    label_smoothing: float = 0.1
    warmup: float = 0.25
    channels_last: bool = True
    seed: Optional[int] = None


@dataclass
class ConditioningConfig:
    """Arguments of `netinv_lightning.inversion.conditioning.Conditioning`."""

    mode: str = "vector_matrix"
    vectors: str = "soft"
    temperature: Optional[float] = None
    matrix: str = "hot_cross"


@dataclass
class GeneratorConfig:
    """Arguments of `netinv_lightning.inversion.generator.Generator`."""

    latent_dim: int = 32
    hidden: int = 128
    seed_widths: Optional[list[int]] = None
    image_widths: Optional[list[int]] = None
    upsampling: str = "auto"
    dropout: float = 0.1
    dropout_in_seed: bool = True
    slope: float = 0.0
    weight_std: Optional[float] = None
    opponent_colours: bool = False
    stage1: Optional[list[list[int]]] = None
    stage2: Optional[list[list[int]]] = None


@dataclass
class PerturbationConfig:
    """Arguments of `netinv_lightning.inversion.perturbation.Perturbation`."""

    norm: str = "linf"
    radius: float = 0.1
    direction: str = "random"
    steps: int = 5
    clamp: bool = True


@dataclass
class AugmentationConfig:
    """Arguments of `netinv_lightning.inversion.augmentation.Augmentation`.

    In training, the classifier receives these random views of the generated images.
    """

    shift: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    flip: bool = False
    noise: float = 0.0
    resize: Optional[list[int]] = None


@dataclass
class MeasureConfig:
    """Metrics of inverted images (`netinv_lightning.evaluation.report`).

    Attributes:
        full: Whether `metrics` are computed for the images and for the controls. If false, only the
            default metrics of the run are computed.
        samples: Number of images; null for `application.eval_samples`.
        metrics: Groups of metrics.
        controls: Sets of images for comparison.
    """

    full: bool = False
    samples: Optional[int] = None
    metrics: list[str] = field(default_factory=lambda: list(METRIC_GROUPS))
    controls: list[str] = field(
        default_factory=lambda: ["noise", "class_means", "real", "gradient"]
    )


ANALYSES = {
    "projection": "netinv_lightning.interpretability.projection_analysis:analyse_projection",
    "clusters": "netinv_lightning.interpretability.cluster_analysis:analyse_clusters",
    "autoencoders": "netinv_lightning.interpretability.autoencoder_analysis:analyse_autoencoders",
    "rules": "netinv_lightning.interpretability.rule_analysis:analyse_rules",
}
"""The analyses of features by their name in `interpret.analyses`."""


@dataclass
class InterpretConfig:
    """Analyses of features (`netinv_lightning.interpretability.study`).

    The features are those of inverted images and, if data are available, of real images.

    Attributes:
        full: Whether the analyses are run.
        samples: Number of images of each origin; null for `application.eval_samples`, at most
            5,000.
        layer: Layer of the features; null for the last of `classifier.feature_layers`.
        map_layer: Layer of the feature maps; null for the last layer that has maps.
        analyses: Names of the analyses.
        embedded: Number of inverted samples that t-SNE embeds.
        perplexities: Perplexities of t-SNE.
        embedding_seeds: Seeds of t-SNE; each is used with each perplexity.
        sparse_units: Units of the sparse autoencoder.
        sparse_active: Active units per sample of the sparse autoencoder.
        map_active: Hidden maps of the convolutional sparse autoencoder that may be active in one
            pooling region; null for all.
    """

    full: bool = False
    samples: Optional[int] = None
    layer: Optional[str] = None
    map_layer: Optional[str] = None
    analyses: list[str] = field(default_factory=lambda: list(ANALYSES))
    embedded: int = 1000
    perplexities: list[float] = field(default_factory=lambda: [10.0, 30.0, 100.0])
    embedding_seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    sparse_units: int = 512
    sparse_active: int = 16
    map_active: Optional[int] = None


@dataclass
class LoggerConfig:
    """Logger of the metrics.

    Attributes:
        name: `csv` (only `metrics.csv`), or `wandb` or `tensorboard` in addition to it.
        project: Project of W&B.
        entity: Team or user that owns the project; null for the default of W&B.
        mode: Mode of W&B: `online`, `offline` or `disabled`.
        group: Group of the run in W&B; null for none. The jobs of a sweep have one.
        tags: Tags of the run in W&B, as `logger.tags.NAME=true`.
    """

    name: str = "csv"
    project: str = "${oc.env:WANDB_PROJECT,netinv}"
    entity: Optional[str] = None
    mode: str = "${oc.env:WANDB_MODE,online}"
    group: Optional[str] = None
    tags: dict[str, bool] = field(default_factory=dict)


@dataclass
class Config:
    """The root of the config.

    Attributes:
        name: Name of the experiment, and of its folder in `output`.
        seed: Seed of the run.
        n_generators: Number of generators that are trained together, with the seeds `seed`,
            `seed + 1` and so on.
        output: Folder of runs.
        sweep_output: Folder of sweeps.
        resume: Run directory of the run to continue.
        trusted: Dotted names of your own code, or of packages, that files from other people (model
            cards, run directories) may name (`netinv_lightning.config.allowed_targets`).
        application: The application to run; its keys are in `application_schema.py`.
        method: The method of inversion; its keys are in `method_schema.py`.
        loss: Weight and options of each term of the objective, by the name of the term.
        garbage: Classifiers with a garbage class, by their names.
        trainer: Arguments of `lightning.Trainer`.
    """

    name: str = "invert"
    seed: int = 0
    n_generators: int = 1
    output: str = "runs"
    sweep_output: str = "sweeps"
    resume: Optional[str] = None
    trusted: list[str] = field(default_factory=list)
    application: Any = MISSING
    method: Any = field(default_factory=lambda: {"name": "generator"})
    data: DataConfig = field(default_factory=DataConfig)
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    conditioning: ConditioningConfig = field(default_factory=ConditioningConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    loss: dict[str, Any] = field(default_factory=dict)
    perturbation: PerturbationConfig = field(default_factory=PerturbationConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    interpret: InterpretConfig = field(default_factory=InterpretConfig)
    garbage: dict[str, GarbageConfig] = field(default_factory=dict)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    trainer: dict[str, Any] = field(default_factory=dict)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
