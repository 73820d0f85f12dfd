"""Functions for notebooks and scripts: compose a config, invert a network, load a run.

Shape suffixes: B batch, N classes, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from omegaconf import DictConfig
from PIL import Image
from torch import Tensor, nn

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.black_box import Answer, module_of
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.outputs import AUTO
from netinv_lightning.classifiers.own_network import own_classifier, restored
from netinv_lightning.config.allowed_targets import only_allowed
from netinv_lightning.config.application_schema import INVERSIONS
from netinv_lightning.config.compose import compose
from netinv_lightning.config.layer_names import PENULTIMATE
from netinv_lightning.config.method_schema import trains_generator
from netinv_lightning.data.pixels import to_units
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.grid import draw_grid
from netinv_lightning.inversion import base
from netinv_lightning.inversion.checkpoint import checkpoint_of
from netinv_lightning.inversion.label_sets import condition_of
from netinv_lightning.runs.finished_check import read_summary
from netinv_lightning.runs.notices import notices_of_a_run
from netinv_lightning.runs.outside_files import read_json
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.training.seeds import own_randomness
from netinv_lightning.training.trainer import resolve_trainer

if TYPE_CHECKING:
    from netinv_lightning.ood.detectors import Detector


@dataclass(frozen=True, repr=False)
class Inversion:
    """A trained inversion.

    Attributes:
        cfg: The training config.
        module: Generators (or optimised pixels), conditioning and classifier.
        metrics: Number by metric name; empty if the run is not finished.
        run_dir: The run directory; None if it was temporary.
        verdict: Name of the verdict, such as `class-typical`; empty if the run is not finished.
    """

    cfg: DictConfig
    module: base.Inversion
    metrics: dict[str, float]
    run_dir: Path | None = None
    verdict: str = ""

    def __repr__(self) -> str:
        spec = self.classifier.spec
        shape = " x ".join(map(str, spec.shape))
        parts = [f"{self.classifier.name}, {spec.num_classes} classes, {shape}"]
        if (accuracy := self.metrics.get(names.INVERSION_ACCURACY)) is not None:
            parts.append(f"accuracy {accuracy:.3f}")
        parts += [self.verdict] if self.verdict else []
        parts += [str(self.run_dir)] if self.run_dir else []
        return f"<Inversion: {'; '.join(parts)}>"

    def show(self, columns: int = 10, seed: int = 0) -> Image.Image:
        """Return a picture of samples, one row per class; a notebook displays it.

        Args:
            columns: Samples per class.
            seed: Seed of the latents.
        """
        if columns < 1:
            raise InputError(f"columns={columns}: must be 1 or more")
        with TemporaryDirectory() as folder:
            path = Path(folder) / "grid.png"
            draw_grid(self.module, columns, seed, path, self.verdict)
            with Image.open(path) as picture:
                return picture.copy()

    @property
    def classifier(self) -> FrozenClassifier:
        return self.module.classifier.whole

    @property
    def generator(self) -> nn.Module:
        """The first generator; `module.generators` has all of them.

        Raises:
            InputError: if the method trains no generator.
        """
        if not self.module.generators:
            raise InputError(
                f"method={self.cfg.method.name}: trains no generator. "
                "Use sample(), which optimises images"
            )
        return self.module.generators[0]

    def sample(
        self,
        labels: Sequence[int] | Sequence[Sequence[int]] | Tensor,
        seed: int | None = None,
        generator: int = 0,
    ) -> Tensor:
        """Return images [B, C, H, W] in [0, 1], one per label, conditioned on one-hot vectors.

        Signals [B, C, L] and tables [B, features] are in the units of their data.

        Args:
            labels: B labels, or B lists of labels for a multi-label classifier.
            seed: Seed of the latents; None for the global random state.
            generator: Index of the generator.
        """
        condition = condition_of(self.module.conditioning, labels, self.module.device)
        spec = self.classifier.spec
        if seed is None:
            return to_units(self.module.draw(condition, generator), spec)
        with own_randomness(seed, self.module.device):
            return to_units(self.module.draw(condition, generator), spec)


def invert(
    network: nn.Module | Answer,
    num_classes: int | None = None,
    channels: int | None = None,
    image_size: int | Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    feature_layers: Sequence[str] = (PENULTIMATE,),
    overrides: Sequence[str] = (),
    run_dir: str | Path | None = None,
    output: str | None = None,
    output_kind: str = AUTO,
    shape: Sequence[int] | None = None,
    bounds: Sequence[Sequence[float]] = (),
    groups: Sequence[Sequence[int]] = (),
) -> Inversion:
    """Invert a trained classifier of images, signals or tables.

        invert(network, num_classes=10, channels=3, image_size=32)      square images
        invert(network, num_classes=10, shape=(3, 32, 64))              images (C, H, W)
        invert(network, num_classes=5, shape=(1, 128))                  signals (C, L)
        invert(network, num_classes=3, shape=(13,))                     tables (features,)

    Args:
        network: The classifier. It takes normalised inputs ([B, C, H, W] for images) and returns
            logits [B, N], probabilities, one number for two classes, or a container of these. Its
            weights are not changed. It may also be a black box: a function from a NumPy array to an
            array of logits or probabilities (`netinv_lightning.classifiers.black_box`).
        num_classes: N. None to infer it, like `channels` and `image_size`, from the metadata of
            timm or Hugging Face, the first layer, and forward passes with random images. The
            inferred values are printed.
        channels: Channels of images, such as 1 or 3.
        image_size: Side of square images, 8 to 512 pixels, or (height, width).
        mean: Mean per channel that training images in [0, 1] were normalised with; None for 0.
        std: Standard deviation per channel that they were normalised with; None for 1.
        feature_layers: Names of the network's modules for the cosine and orthogonality terms.
        overrides: Config overrides, such as `["application.steps=500", "conditioning=label"]`.
        run_dir: Directory of the run; None for a temporary one.
        output: Name or index of the logits in the network's output; None to find them.
        output_kind: `logits`, `probabilities`, `log_probabilities`, `sigmoid`, `multi_label`, or
            `auto` to determine it on random inputs.
        shape: Shape of one input, instead of `channels` and `image_size`.
        bounds: Lowest and highest value of each channel of signals and tables; empty for the mean
            minus and plus five standard deviations.
        groups: Lists of features of a table, each the one-hot code of one categorical variable.

    Raises:
        InputError: if the network or a value is invalid.
    """
    # The import is here so that `compose` is fast.
    from netinv_lightning.applications.invert import InvertApplication

    network = module_of(network)
    cfg = compose(overrides)
    if cfg.classifier.train:
        raise InputError(
            "classifier.train=true: the given network is used as it is; leave the key out"
        )
    resolve_trainer(cfg)
    with restored(network):
        with notices_of_a_run():
            classifier = own_classifier(
                network,
                {
                    "num_classes": num_classes,
                    "shape": shape,
                    "channels": channels,
                    "image_size": image_size,
                    "mean": mean,
                    "std": std,
                },
                bounds=bounds,
                groups=groups,
                output=output,
                output_kind=output_kind,
                feature_layers=feature_layers,
                directions=cfg.classifier.query_directions,
                sigma=cfg.classifier.query_sigma,
            )
            application = InvertApplication(cfg, classifier)
        with TemporaryDirectory() as temporary:
            directory = RunDir(Path(run_dir or temporary).absolute())
            directory.check_usable()
            with directory.open(cfg, application.classifier.record()):
                metrics = application.run(directory)
                directory.write_summary(metrics)
            verdict = _verdict(directory.path)
    kept = None if run_dir is None else Path(run_dir)
    return Inversion(cfg, application.module, metrics, kept, verdict)


def _verdict(directory: Path) -> str:
    """Return the name of the verdict that a run wrote; empty if there is none."""
    path = directory / "verdict.json"
    return str(read_json(path).get("verdict", "")) if path.is_file() else ""


def load_detector(run_dir: str | Path, name: str, trusted: Sequence[str] = ()) -> Detector:
    """Load a detector of a run of `application=detect_ood`.

    A higher `score(images)` means that an image is more likely out-of-distribution.

        detector = netinv_lightning.load_detector("runs/detect_ood/STAMP", "inverted")
        scores_n = detector.score(images_nCHW)
        is_outlier_n = scores_n > detector.threshold(accepted=0.95)

    Args:
        run_dir: The run directory.
        name: A name in the run's `application.detectors` or in its group `garbage`.
        trusted: As in `load_run`.

    Raises:
        InputError: if the directory is not such a run, or has no detector of this name.
    """
    from netinv_lightning.evaluation.finished_run import inversion_config
    from netinv_lightning.ood.detectors.build import load_saved_detector

    directory = Path(run_dir)
    with only_allowed(trusted):
        return load_saved_detector(inversion_config(directory), directory, name)


def load_run(run_dir: str | Path, trusted: Sequence[str] = ()) -> Inversion:
    """Load a finished inversion from its run directory.

    Args:
        run_dir: The run directory.
        trusted: Dotted names of your own functions, classes or packages that the run's config and
            model card may name, such as `["my_package"]`. Other code, and networks of torchvision
            or timm with pretrained weights, are refused
            (`netinv_lightning.config.allowed_targets`).

    Raises:
        InputError: if the directory is not a run of `application=invert`, or its classifier is
            missing.
    """
    with only_allowed(trusted):
        return _load_run(Path(run_dir))


def _load_run(directory: Path) -> Inversion:
    from netinv_lightning.evaluation.finished_run import inversion_config, load_inversion

    cfg = inversion_config(directory)
    if cfg.application.name not in INVERSIONS or (
        trains_generator(cfg) and not checkpoint_of(directory).is_file()
    ):
        raise InputError(
            f"{directory}: contains no trained generator (application={cfg.application.name}, "
            "no checkpoints/last.ckpt). Give a run of application=invert"
        )
    summary = (
        read_summary(directory, str(directory)) if (directory / "summary.json").is_file() else {}
    )
    verdict = _verdict(directory)
    return Inversion(cfg, load_inversion(cfg, directory), summary, directory, verdict)
