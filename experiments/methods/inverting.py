"""One inversion of the benchmark, in a forked process: images, cost and metrics.

Every method makes the same number of images of each class, in one batch and from one-hot
conditions. The cost contains everything between the loaded classifier and the finished images.

Shape suffixes: n images, C channels, H height, W width.
"""

from __future__ import annotations

import io
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from experiments.forked import fork_server
from experiments.methods.contestants import IMAGES
from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.verifiers import load_verifiers
from netinv_lightning.config.compose import compose
from netinv_lightning.config.method_schema import trains_generator
from netinv_lightning.data.pixels import to_uint8
from netinv_lightning.data.raster import as_pictures
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.evaluation.baselines import BASELINES
from netinv_lightning.evaluation.build import build_fit_context
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.measurement import Measurement
from netinv_lightning.evaluation.real_data import open_data
from netinv_lightning.inversion.base import Inversion, NonFiniteError
from netinv_lightning.inversion.build import build_inversion
from netinv_lightning.metrics.memorisation import memorisation
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.tracking.run_context import RunContext
from netinv_lightning.training.seeds import own_randomness

QUIET = (
    "trainer.precision=32-true",
    "application.grid_every=1000000",
    "application.log_every=50",
    "application.checkpoint_every=1000000",
)
"""Overrides without pictures and checkpoints during the training, which would be part of the
cost."""
REFUSED = "refused"
Outcome = dict[str, float | str]
"""Numbers by the name of their column; or `REFUSED` with the message."""


def in_a_process(
    overrides: Sequence[str], picture: Path | None = None, with_cas: bool = False
) -> Outcome:
    """Run `invert` in a process that starts with the libraries imported."""
    with ProcessPoolExecutor(1, mp_context=fork_server()) as pool:
        return pool.submit(invert, [*overrides, *QUIET], picture, with_cas).result()


def reference_in_a_process(name: str, overrides: Sequence[str], with_cas: bool) -> Outcome:
    """Run `measure_reference` in a process that starts with the libraries imported."""
    with ProcessPoolExecutor(1, mp_context=fork_server()) as pool:
        return pool.submit(measure_reference, name, [*overrides, *QUIET], with_cas).result()


def invert(overrides: Sequence[str], picture: Path | None, with_cas: bool) -> Outcome:
    """Invert a classifier, measure the images, and return cost and metrics.

    Args:
        overrides: Overrides of the config of `application=invert`; without verifiers only the cost
            is returned.
        picture: PNG file of the first image of each class, side by side; None for none.
        with_cas: Whether CAS is measured, which takes as long as all other metrics.
    """
    torch.set_num_threads(1)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        try:
            cfg = compose(overrides)
            inversion = build_inversion(cfg)
            images, cost = _fit_and_draw(cfg, inversion)
        except (InputError, NonFiniteError) as error:
            return {REFUSED: one_line(error)}
        if not cfg.application.verifiers:
            return cost
        if picture is not None:
            _write_strip(images, picture)
        return cost | measure(cfg, inversion.classifier.whole, images, with_cas)


def measure_reference(name: str, overrides: Sequence[str], with_cas: bool) -> Outcome:
    """Measure a set of images of `evaluation/baselines.py` in the same way."""
    torch.set_num_threads(1)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        cfg = compose(overrides)
        classifier = load_classifier(cfg)
        real, missing = open_data(cfg.data, classifier.spec)
        if real is None:
            raise RuntimeError(missing)
        images = BASELINES[name](IMAGES, classifier, real, cfg.seed)
        ceiling = {}
        if name == "real" and cfg.seed == 0:  # the same for every seed
            verifiers = load_verifiers(cfg.application.verifiers, cfg, classifier)
            measured = Measurement(classifier, verifiers, real, ["transfer"], cfg.seed)(images)
            ceiling = {"ceiling": measured[names.TRANSFER_CEILING]}
        return measure(cfg, classifier, images, with_cas) | ceiling


def _fit_and_draw(cfg: DictConfig, inversion: Inversion) -> tuple[Images, Outcome]:
    label_n = torch.arange(IMAGES) % inversion.classifier.spec.num_classes
    condition = inversion.conditioning.of_labels(label_n)
    before, started = _peak_mb(), time.process_time()
    with TemporaryDirectory() as folder, RunContext(cfg, RunDir(Path(folder))) as run:
        for part in (run.directory.checkpoints, run.figures):
            part.mkdir(exist_ok=True)
        inversion.fit(build_fit_context(cfg, run))
        with own_randomness(cfg.seed, inversion.device):
            x_nCHW = inversion.draw(condition).detach()
    seconds, cost = time.process_time() - started, inversion.cost()
    steps = cfg.application.steps if trains_generator(cfg) else cfg.method.get("steps")
    return Images(x_nCHW, label_n), {
        "steps": "" if steps is None else steps,
        "seconds": seconds,
        "forwards": cost.forwards,
        "backwards": cost.backwards,
        "extra_mb": _peak_mb() - before,
    }


def measure(
    cfg: DictConfig, classifier: FrozenClassifier, images: Images, with_cas: bool
) -> Outcome:
    """Return the metrics of a set of images."""
    verifiers = load_verifiers(cfg.application.verifiers, cfg, classifier)
    without_data = Measurement(
        classifier, verifiers, None, ["accuracy", "transfer", "diversity"], cfg.seed
    )(images)
    vendi = [without_data[names.of_network(names.VENDI_CLASS, name)] for name in verifiers]
    real, missing = open_data(cfg.data, classifier.spec)
    if real is None:
        raise RuntimeError(missing)
    near = memorisation(images.images_nCHW, real.train[0], real.test[0], cfg.seed)
    cas = Measurement(classifier, {}, real, ["cas"], cfg.seed)(images) if with_cas else {}
    return {
        "accuracy": without_data[names.INVERSION_ACCURACY],
        "confidence": without_data[names.INVERSION_CONFIDENCE],
        "transfer": without_data[names.TRANSFER_ACCURACY],
        "diversity": fmean(vendi),
        "duplicates": without_data[names.DUPLICATES],
        "distance": 1 - near[names.MEMORISATION_NEAREST_TRAINING],
        "distance_held_out": 1 - near[names.MEMORISATION_NEAREST_HELD_OUT],
        "cas": cas.get(names.CAS, ""),
    }


def _write_strip(images: Images, path: Path) -> None:
    """Write the first image of each class, in the order of the labels."""
    label_n = images.labels_n
    first = [int((label_n == label).nonzero()[0]) for label in label_n.unique()]
    strip_CHW = torch.cat([*as_pictures(images.images_nCHW[first].clamp(0, 1))], dim=2)
    levels_HWC = to_uint8(strip_CHW).permute(1, 2, 0).numpy()
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(levels_HWC.squeeze()).save(path, optimize=True)


def read_strip(path: Path, classes: int) -> Tensor:
    """Return the images of a strip, [n, C, H, W] in [0, 1]."""
    with Image.open(path) as picture:
        levels = torch.from_numpy(np.array(picture))
    levels_HWC = levels if levels.dim() == 3 else levels[:, :, None]
    return torch.stack(levels_HWC.permute(2, 0, 1).float().div(255).chunk(classes, dim=2))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
