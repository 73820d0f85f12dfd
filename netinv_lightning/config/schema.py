"""The typed schema of every key, and the one home of its default.

A group's YAML in `conf/` says only what differs from here. Keys mirror constructors one to one (a test holds the two
together), so a misspelt key or a word where a number belongs fails when the config is composed. Imports are light:
`--help`, completion and config errors answer before torch is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from netinv_lightning.config.application_schema import APPLICATION_KEYS
from netinv_lightning.config.launch_environment import tidy_environment
from netinv_lightning.errors import InputError, printable
from netinv_lightning.metric_names import METRIC_GROUPS

# Beside the package in a checkout, inside it when installed from a wheel.
_PACKAGE = Path(__file__).resolve().parent.parent
CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"


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
    """The network to train or to invert, and where its weights are. See `netinv_lightning.classifiers.build`.

    With `train` it is trained on `data` by `recipe` before it is inverted, once: it is kept in the folder `kept_in`, by
    the hash of all that determines it (`netinv_lightning.classifiers.cache`).

    `shape` is that of one input: [features] for tables, [C, L] for signals, [C, H, W] for images. For images `channels` and
    `image_size`, 28 or [H, W], may be set instead. `bounds` are the lowest and highest value of each channel of signals and
    tables, `groups` the features of tables that are one-hot codes (`netinv_lightning.data.specs.DataSpec`).

    `output` is the name or index of the logits in what the network returns, `output_kind` what it returns there: `logits`,
    `probabilities`, `log_probabilities`, `sigmoid` or `auto` (`netinv_lightning.classifiers.outputs`).
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
    feature_layers: list[str] = field(default_factory=lambda: ["penultimate"])
    output: Optional[str] = None
    output_kind: str = "auto"


@dataclass
class RecipeConfig:
    """How a classifier is trained, whatever asks for it (A7-5, A2-13, A2-14). Without `seed` it is the run's `seed`."""

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
    """Arguments of `netinv_lightning.inversion.augmentation.Augmentation`; the views that the classifier sees in training."""

    shift: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    flip: bool = False
    noise: float = 0.0


@dataclass
class GeneratorMethodConfig:
    """`method=generator`: a generator is trained, as `application` says, and then draws."""

    name: str = "generator"


@dataclass
class GradientMethodConfig:
    """`method=gradient`: arguments of `netinv_lightning.inversion.methods.gradient.PixelInversion`."""

    name: str = "gradient"
    steps: int = 50
    lr: float = 0.3
    parametrisation: str = "pixel"
    jitter: int = 0
    init_std: float = 1.0


@dataclass
class KktMethodConfig:
    """`method=kkt`: arguments of `netinv_lightning.inversion.methods.kkt.KktInversion`."""

    name: str = "kkt"
    candidates: int = 1000
    steps: int = 1000
    lr: float = 0.1
    multiplier_lr: float = 0.1
    sharpness: float = 10.0
    final_sharpness: float = 300.0
    init_std: float = 0.1


@dataclass
class GarbageConfig:
    """A classifier with a garbage class, one more detector of `application=detect_ood` (`netinv_lightning.ood.garbage`; A4-6).

    `epochs`, `lr` and `label_smoothing` are the recipe's if null. An epoch passes at most `images` training images (null: all) and all
    garbage: `initial` images of Gaussian noise, and what the epochs before added, `per_class` images a class from `source`: `inverted`,
    or to compare `noise` or `outliers` (training images of the sets `exposed`). It starts from the weights of the classifier
    (`start=trained`) or from new ones (`scratch`). `inversion` are overrides of an inversion; its generator trains `steps`, and where it
    goes on with the one before (`generator=warm`, not `fresh`) `warm_steps`; with `invert_garbage` garbage is inverted too. Labels are by
    the share `distil` the classifier's own answer. `balanced` by weights of their counts are `all` classes (the papers), or `garbage`
    alone, and the others keep the shares that the classifier learnt; garbage weighs `weight` times another class. BatchNorm has the
    statistics of the batches (`batch`) or keeps its own (`kept`). Each image added brings a random crop along, enlarged 1 to `zoom`
    times, unless it is 1.
    It is asked by `score`: the `odds` of garbage, or `odds_and_energy`, which adds the energy of the known classes.
    """

    source: str = "inverted"
    start: str = "trained"
    epochs: Optional[int] = None
    lr: Optional[float] = None
    label_smoothing: Optional[float] = None
    images: Optional[int] = None
    initial: int = 1000
    per_class: int = 100
    generator: str = "warm"
    invert_garbage: bool = False
    zoom: float = 1.0
    distil: float = 0.0
    balanced: str = "all"
    weight: float = 1.0
    batch_norm: str = "batch"
    steps: int = 200
    warm_steps: int = 60
    inversion: list[str] = field(default_factory=list)
    exposed: list[str] = field(default_factory=list)
    score: str = "odds"


@dataclass
class MeasureConfig:
    """What is measured of inverted images (`netinv_lightning.evaluation.report`), and beside which controls.

    Without `full` only what the run measures anyway is judged. `samples` are as many as `application.eval_samples` if null.
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
    """Study of the features of inverted images and, if data are available, of real images
    (`netinv_lightning.interpretability.study`).

    `samples` per origin is by default `application.eval_samples`, at most 5,000. `layer` is by
    default the last of `classifier.feature_layers`, `map_layer` the last layer with maps. t-SNE
    embeds `embedded` inverted samples, at each perplexity with each of `embedding_seeds`.
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


@dataclass
class LoggerConfig:
    """Where metrics go beside `metrics.csv`: `csv` (nowhere else), `wandb` or `tensorboard`."""

    name: str = "csv"
    project: str = "${oc.env:WANDB_PROJECT,netinv}"
    entity: Optional[str] = None
    mode: str = "${oc.env:WANDB_MODE,online}"
    group: Optional[str] = None
    tags: dict[str, bool] = field(default_factory=dict)


@dataclass
class Config:
    """The root. `trainer` is handed to `lightning.Trainer`; `loss` maps the name of a term to its weight and options.

    `n_generators` trains K generators at once, with the seeds seed..seed+K-1. `trusted` are dotted names of own code, and packages, that
    files from outside (model cards, run directories) may name (`netinv_lightning.config.allowed_targets`).
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
    trainer: dict[str, Any] = field(default_factory=dict)
    logger: LoggerConfig = field(default_factory=LoggerConfig)


METHOD_KEYS: dict[str, type] = {
    "generator": GeneratorMethodConfig,
    "gradient": GradientMethodConfig,
    "kkt": KktMethodConfig,
}
"""The keys of each method, by its name."""

GENERATOR_METHODS = ("generator",)
"""The methods that train generators; the others optimise images when they are drawn."""


def trains_generator(cfg: DictConfig) -> bool:
    """Whether the method of a config trains generators, which a checkpoint then holds."""
    return cfg.method.name in GENERATOR_METHODS


def run_directory(output: Any, name: Any) -> str:
    """Return the folder of an experiment's runs, `<output>/<name>`; Hydra asks for it before it makes the run directory.

    Raises:
        InputError: if `output` is empty, or `name` would lead out of it.
    """
    for key, value in (("output", str(output)), ("name", str(name))):
        if not value.strip():
            raise InputError(
                f"{key}='': must not be empty; give a folder's name, such as {key}=runs"
            )
        if printable(value) != value or "\n" in value or "\t" in value:
            raise InputError(
                f"{key}={value}: must not hold control characters; give a folder's name"
            )
    if (
        str(name).startswith(("/", "~"))
        or ".." in Path(str(name)).parts
        or Path(str(name)) == Path()
    ):
        raise InputError(
            f"name={name}: must be the name of a folder in output={output}; set output=FOLDER to write elsewhere"
        )
    return f"{output}/{name}"


def register() -> None:
    """Makes the schema known to Hydra's config search."""
    OmegaConf.register_new_resolver("run_directory", run_directory, replace=True)
    tidy_environment()
    store = ConfigStore.instance()
    # Hydra copies this singleton at every look-up of a group, over a hundred times for --help and a second in all;
    # what it loads from the store it copies once more, so the store itself needs no copy.
    ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]
    store.store(name="schema", node=Config, provider="netinv_lightning")
    for name, keys in APPLICATION_KEYS.items():
        store.store(
            group="schema/application",
            name=name,
            node=keys,
            provider="netinv_lightning",
            package="application",
        )
    for name, keys in METHOD_KEYS.items():
        store.store(
            group="schema/method",
            name=name,
            node=keys,
            provider="netinv_lightning",
            package="method",
        )
