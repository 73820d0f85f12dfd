"""`application=approach`: images that reach a given distribution, logits, neuron or feature instead of a class (A3-10).

    netinv application=approach application.target=soft 'application.vector=[.5,0,0,.5,0,0,0,0,0,0]'
    netinv application=approach application.target=features application.file=runs/latest/samples/inverted.safetensors

Always by gradient descent on the pixels, in float32, whatever `method` says; why no generator, and the mathematics, are in
netinv_lightning/inversion/methods/targets.py. The error is measured on the finished images, without augmentation, beside that of uniform
noise and, of features, that of an unrelated target.

Shape suffixes: n images, t targets, K images a target, N classes, D numbers of a target, C channels, H height, W width.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save_file
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.build import load_classifier, load_verifiers
from netinv_lightning.classifiers.cache import train_once
from netinv_lightning.classifiers.features import extract_logits
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.pixels import to_unit_range
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.evaluation.baselines import noise
from netinv_lightning.evaluation.image_sets import Images, check_images, read_tensors
from netinv_lightning.evaluation.measurement import Measurement
from netinv_lightning.figures import image_grid
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.base import FitContext
from netinv_lightning.inversion.methods.approach import PRIORS, TargetInversion
from netinv_lightning.inversion.methods.targets import (
    BATCH,
    Distributions,
    Neurons,
    Targets,
    Vectors,
    likeness,
    read_images,
    spread,
)
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.tracking.loggers import check_logger, log_image, open_loggers
from netinv_lightning.training.trainer import check_one_process, make_trainer

NOISE_IMAGES = 1000
KEYS = {
    "soft": ("vector",),
    "logits": ("vector",),
    "neuron": ("units", "value", "file"),
    "features": ("file",),
}
"""The keys that describe a target of each kind, the one that must be given first."""


@dataclass
class Given:
    """What the user gave, read and checked.

    Attributes:
        targets: What is to be reached.
        row_names: A name for each target.
        image_tCHW: Images from a file; of features, those that the targets come from.
    """

    targets: Targets
    row_names: list[str]
    image_tCHW: Tensor | None = None


class ApproachApplication:
    """Approaches the targets that `cfg.application` names, with images for the classifier that `cfg.classifier` names."""

    best_metric = names.TARGET_CLOSED

    def __init__(self, cfg: DictConfig) -> None:
        app = cfg.application
        check_logger(cfg)
        check_one_process(cfg)
        if cfg.n_generators > 1:
            raise InputError(
                f"n_generators={cfg.n_generators}: application=approach has no generator; for more images set application.images"
            )
        _check_kind(app)
        self.cfg, self.classifier = cfg, _classifier(cfg)
        if self.classifier.trained:  # else its weights may be zero
            self.classifier.check_gradient()
        self.verifiers = load_verifiers(app.verifiers)
        Measurement(
            self.classifier, self.verifiers, None, ["accuracy"], cfg.seed
        )  # refuses verifiers that do not fit
        self.inversion = self._inversion()
        self._given()  # raises for targets that do not fit
        if app.target == "neuron" and app.value is None:
            self.best_metric = names.TARGET_REACHED

    def run(self, run_dir: RunDir) -> dict[str, float]:
        app, classifier = self.cfg.application, self.classifier
        with open_loggers(self.cfg, run_dir) as loggers:
            metrics = train_once(self.cfg, classifier, run_dir.path)
            start = time.perf_counter()
            inversion = self.inversion
            inversion.fit(FitContext(run_dir, loggers, partial(make_trainer, self.cfg)))
            # Read again, because the weights may have been trained and the device may have changed.
            given = self._given()
            x_nCHW, row_n = inversion.approach(given.targets, app.images, self.cfg.seed)
            measured, error_n = self._measure(x_nCHW, row_n, given)
            metrics |= measured | {
                names.TRAINING_SECONDS: inversion.seconds,
                names.SECONDS: time.perf_counter() - start,
            }
            for logger in loggers:
                logger.log_metrics(metrics, step=inversion.steps)
            tensors = {
                "images": x_nCHW,
                "target": row_n,
                "error": error_n,
                "targets": given.targets.rows_tD,
            }
            if isinstance(given.targets, Neurons):
                tensors["units"] = given.targets.unit_t
            if app.target == "features" and given.image_tCHW is not None:
                tensors["originals"] = given.image_tCHW
            run_dir.samples.mkdir(exist_ok=True)
            save_file(
                {name: x.cpu().contiguous() for name, x in tensors.items()},
                run_dir.samples / "approached.safetensors",
            )
            grid = self._draw(x_nCHW, given, run_dir.figures / "approached.png")
            log_image(loggers, names.SAMPLES_GRID, grid, inversion.steps, self.cfg.name)
        print(self._line(metrics, given.targets))
        print(f"grid: {grid}")
        return metrics

    def _inversion(self) -> TargetInversion:
        cfg, app = self.cfg, self.cfg.application
        priors = {
            name: dict(options)
            for name, options in cfg.loss.items()
            if name in PRIORS or "_target_" in options
        }
        options = {
            key: app[key]
            for key in ("steps", "lr", "parametrisation", "jitter", "init_std", "log_every")
        }
        if (most := cfg.trainer.get("max_steps") or 0) > 0:
            options["steps"] = min(app.steps, most)
        try:
            augmentation = Augmentation(**cfg.augmentation)
        except ValueError as error:
            raise InputError(f"augmentation.{one_line(error)}") from error
        try:
            return TargetInversion(self.classifier, priors, augmentation=augmentation, **options)
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"application.{one_line(error)}") from error

    def _given(self) -> Given:
        app, classifier, device = (
            self.cfg.application,
            self.classifier,
            self.classifier.mean_C11.device,
        )
        if app.target in ("soft", "logits"):
            vector_tN = _vectors(app, classifier.spec.num_classes).to(device)
            kind = Distributions(vector_tN) if app.target == "soft" else Vectors(vector_tN)
            return Given(
                kind, [_largest(vector_N, classifier.spec.class_names) for vector_N in vector_tN]
            )
        width = classifier.feature_dims[app.layer]
        image_tCHW, feature_tD = (
            _read(Path(app.file), app, classifier) if app.file is not None else (None, None)
        )
        if app.target == "neuron":
            for unit in app.units:
                if not 0 <= unit < width:
                    raise InputError(
                        f"application.units={unit}: must be from 0 to {width - 1}, the units of layer {app.layer}"
                    )
            if image_tCHW is None and app.file is not None:
                raise InputError(
                    f"application.file={app.file}: holds no images; a neuron's activations are compared with those of images"
                )
            units = Neurons(torch.tensor(list(app.units), device=device), app.value, app.layer)
            return Given(units, [f"{app.layer} {unit}" for unit in app.units], image_tCHW)
        if feature_tD is None:
            assert image_tCHW is not None
            with torch.no_grad():
                feature_tD = classifier.logits_and_features(image_tCHW.to(device))[1][app.layer]
        if not feature_tD.norm(dim=1).all():
            raise InputError(
                f"application.file={app.file}: features that are all 0 have no relative distance; leave them out"
            )
        return Given(
            Vectors(feature_tD.to(device), app.layer),
            [f"row {row}" for row in range(len(feature_tD))],
            image_tCHW,
        )

    def _measure(
        self, x_nCHW: Tensor, row_n: Tensor, given: Given
    ) -> tuple[dict[str, float], Tensor]:
        """Metric name to number, each beside its control, and the error of each image."""
        targets, t = given.targets, len(given.targets)
        noise_nCHW = noise(
            max(NOISE_IMAGES // t, 100) * t, self.classifier, None, self.cfg.seed
        ).images_nCHW
        read, of_noise = (
            read_images(x, row, targets, self.classifier)
            for x, row in ((x_nCHW, row_n), (noise_nCHW, torch.arange(len(noise_nCHW)) % t))
        )
        metrics = {names.TARGET_SPREAD: spread(x_nCHW, t)}
        if isinstance(targets, Neurons):
            metrics |= {
                names.TARGET_REACHED: float(read.value_nD.mean()),
                names.TARGET_REACHED_BEST: float(read.value_nD.view(t, -1).amax(dim=1).mean()),
                **targets.distribution("noise", noise_nCHW, self.classifier),
            }
            if given.image_tCHW is not None:
                metrics |= targets.distribution("file", given.image_tCHW, self.classifier)
        if not isinstance(targets, Neurons) or targets.value is not None:
            error_tK = read.error_n.view(t, -1)
            metrics |= {
                names.TARGET_ERROR: float(error_tK.mean()),
                names.TARGET_ERROR_BEST: float(error_tK.amin(dim=1).mean()),
                names.TARGET_ERROR_NOISE: float(of_noise.error_n.mean()),
                names.TARGET_CLOSED: 1 - float(error_tK.mean() / of_noise.error_n.mean()),
                **{
                    names.target_error(row): float(error)
                    for row, error in enumerate(error_tK.mean(dim=1))
                },
            }
        if isinstance(targets, Distributions):
            total_variation_n = targets.total_variation(
                read.value_nD.to(targets.rows_tD), row_n.to(targets.rows_tD.device)
            )
            metrics[names.TARGET_TOTAL_VARIATION] = float(total_variation_n.mean())
        if isinstance(targets, Vectors):
            metrics[names.TARGET_ERROR_UNRELATED] = targets.unrelated()
        if isinstance(targets, Vectors) and given.image_tCHW is not None:
            metrics |= likeness(x_nCHW, row_n, given.image_tCHW)
        if self.verifiers:
            metrics[names.TARGET_AGREEMENT] = self._agreement(x_nCHW, read.logits_nN)
            metrics[names.TARGET_AGREEMENT_NOISE] = self._agreement(noise_nCHW, of_noise.logits_nN)
        return {
            name: value for name, value in metrics.items() if math.isfinite(value)
        }, read.error_n

    @torch.no_grad()
    def _agreement(self, x_nCHW: Tensor, logits_nN: Tensor) -> float:
        """Share of the images that the verifiers take for what the classifier takes them for."""
        device, predicted_n = self.classifier.mean_C11.device, logits_nN.argmax(dim=1)
        shares = []
        for verifier in self.verifiers.values():
            theirs_n = extract_logits(verifier.to(device), x_nCHW, BATCH).argmax(dim=1)
            shares.append(float((theirs_n == predicted_n).float().mean()))
        return sum(shares) / len(shares)

    def _draw(self, x_nCHW: Tensor, given: Given, path: Path) -> Path:
        """A row a target, and before it the image that the target came from."""
        x_tKCHW = x_nCHW.unflatten(0, (len(given.targets), -1))
        column_names = []
        if isinstance(given.targets, Vectors) and given.image_tCHW is not None:
            x_tKCHW, column_names = (
                torch.cat([given.image_tCHW[:, None], x_tKCHW], dim=1),
                ["original"],
            )
        return image_grid(x_tKCHW, given.row_names, path, self.cfg.name, column_names)

    def _line(self, metrics: Mapping[str, float], targets: Targets) -> str:
        """What was reached, in one line, beside its control."""
        app = self.cfg.application
        images = f"{app.target}: {len(targets)} target(s), {app.images} image(s) each"
        if isinstance(targets, Neurons):
            mean, p99 = (metrics[names.activation("noise", what)] for what in ("mean", "p99"))
            reached = f"activation {metrics[names.TARGET_REACHED]:.3g}, best {metrics[names.TARGET_REACHED_BEST]:.3g}"
            if targets.value is not None:
                reached = f"{targets.error_name} {metrics[names.TARGET_ERROR]:.2g} of value {targets.value:.3g}"
            if names.activation("file", "mean") in metrics:
                in_file = (metrics[names.activation("file", what)] for what in ("mean", "p99"))
                images += " ({:.3g} and {:.3g} over the file's images)".format(*in_file)
            return f"{images}: {reached}; uniform noise: mean {mean:.3g}, 99th percentile {p99:.3g}"
        line = f"{images}: {targets.error_name} {metrics[names.TARGET_ERROR]:.2g}, best {metrics[names.TARGET_ERROR_BEST]:.2g}"
        if names.TARGET_TOTAL_VARIATION in metrics:
            line += f", total variation {metrics[names.TARGET_TOTAL_VARIATION]:.2g}"
        line += f"; uniform noise {metrics[names.TARGET_ERROR_NOISE]:.2g}"
        if names.TARGET_ERROR_UNRELATED in metrics:
            line += f", an unrelated target {metrics[names.TARGET_ERROR_UNRELATED]:.2g}"
        if names.TARGET_RMSE in metrics:
            line += f"; pixels: RMSE {metrics[names.TARGET_RMSE]:.2f}, SSIM {metrics[names.TARGET_SSIM]:.2f}"
        if names.TARGET_RMSE_UNRELATED in metrics:
            line += f" (to another original {metrics[names.TARGET_RMSE_UNRELATED]:.2f}, {metrics[names.TARGET_SSIM_UNRELATED]:.2f})"
        return line


def _check_kind(app: DictConfig) -> None:
    """Refuses an unknown kind of target, and keys that are missing or belong to another kind."""
    needed, *_ = KEYS[app.target]
    if not app[needed]:
        raise InputError(
            f"application.{needed}: must be given with application.target={app.target}"
        )
    for key in sorted({key for keys in KEYS.values() for key in keys} - set(KEYS[app.target])):
        if app[key] is not None:
            kinds = ", ".join(kind for kind, keys in KEYS.items() if key in keys)
            raise InputError(
                f"application.{key}: is for application.target={kinds}, not {app.target}; leave it out"
            )


def _classifier(cfg: DictConfig) -> FrozenClassifier:
    """The classifier with `application.layer` among its feature layers."""
    layer = cfg.application.layer
    if (
        cfg.application.target not in ("neuron", "features")
        or layer in cfg.classifier.feature_layers
    ):
        return load_classifier(cfg)
    cfg = cfg.copy()
    cfg.classifier.feature_layers = [*cfg.classifier.feature_layers, layer]
    try:
        return load_classifier(cfg)
    except InputError as error:
        named = f"classifier.feature_layers={layer}:"
        raise InputError(str(error).replace(named, f"application.layer={layer}:")) from error


def _vectors(app: DictConfig, num_classes: int) -> Tensor:
    """`application.vector` as [t, N]: one list of numbers, or several."""
    plain: Any = OmegaConf.to_container(app.vector, resolve=True)
    rows = plain if isinstance(plain[0], list) else [plain]
    for number, row in enumerate(rows):
        key = "application.vector" if rows is not plain else f"application.vector[{number}]"
        numbers = isinstance(row, list) and all(
            isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x)
            for x in row
        )
        if not numbers:
            raise InputError(
                f"{key}={row}: must be a list of finite numbers, or a list of such lists"
            )
        if len(row) != num_classes:
            raise InputError(
                f"{key}={row}: has {len(row)} numbers; must have {num_classes}, one a class"
            )
        if app.target == "soft" and (min(row) < 0 or abs(sum(row) - 1) > 1e-3):
            raise InputError(
                f"{key}={row}: must be 0 or more each and sum to 1, not {sum(row):.6g}; for logits set application.target=logits"
            )
        if app.target == "logits" and not any(row):
            raise InputError(
                f"{key}={row}: from logits that are all 0 there is no relative distance; set application.target=soft"
            )
    return torch.tensor(rows, dtype=torch.float32)


def _read(
    path: Path, app: DictConfig, classifier: FrozenClassifier
) -> tuple[Tensor | None, Tensor | None]:
    """The first rows of `images` [t, C, H, W] in [0, 1], or else of `features` [t, D], from a safetensors file."""
    where, spec = f"application.file={path}", classifier.spec
    tensors = read_tensors(path, where)
    shapes = {
        "images": spec.image_shape,
        "features": (classifier.feature_dims[app.layer],),
    }
    name = next((name for name in shapes if name in tensors), None)
    if name is None:
        raise InputError(
            f"{where}: must hold the tensor images or features; it holds {', '.join(tensors) or 'none'}"
        )
    x = tensors[name]
    if x.shape[1:] != shapes[name] or not len(x):
        fits = (
            f"the features of layer {app.layer}"
            if name == "features"
            else "the classifier's images"
        )
        raise InputError(
            f"{where}: {name} are of shape {tuple(x.shape)}; must be (t, {', '.join(map(str, shapes[name]))}), {fits}"
        )
    if app.target == "features":
        x = x[: app.rows]
    x = to_unit_range(x).float()
    if name == "features":
        if not x.isfinite().all():
            raise InputError(f"{where}: features hold NaN or infinity; leave those rows out")
        return None, x
    try:
        check_images(Images(x, torch.zeros(len(x), dtype=torch.long)), spec)
    except InputError as error:
        raise InputError(f"{where}: {str(error).removeprefix('samples: ')}") from error
    return x, None


def _largest(vector_N: Tensor, class_names: tuple[str, ...]) -> str:
    """The two largest entries, with their classes."""
    top = vector_N.topk(2)
    return ", ".join(
        f"{class_names[index]} {value:.2f}"
        for value, index in zip(top.values.tolist(), top.indices.tolist(), strict=True)
    )
