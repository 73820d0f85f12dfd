"""For notebooks and scripts: compose a config, invert any network, load a run.

Shape suffixes: B batch, N classes, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from netinv_lightning.classifiers.build import announce
from netinv_lightning.classifiers.frozen import PENULTIMATE, FrozenClassifier
from netinv_lightning.classifiers.outputs import AUTO
from netinv_lightning.config.allowed_targets import only_allowed
from netinv_lightning.config.application_schema import INVERSIONS
from netinv_lightning.config.compose import compose
from netinv_lightning.config.schema import trains_generator
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.inversion import base
from netinv_lightning.inversion.checkpoint import checkpoint_of
from netinv_lightning.runs.finished_check import read_summary
from netinv_lightning.runs.notices import notices_of_a_run
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.training.seeds import own_randomness
from netinv_lightning.training.trainer import settle_trainer

if TYPE_CHECKING:
    from netinv_lightning.ood.detectors import Detector


@dataclass(frozen=True)
class Inversion:
    """A trained inversion.

    Attributes:
        cfg: The config that it was trained with.
        module: Generator (or what stands for it), conditioning and classifier together.
        metrics: Metric name to number; empty where the run has not finished.
    """

    cfg: DictConfig
    module: base.Inversion
    metrics: dict[str, float]

    @property
    def classifier(self) -> FrozenClassifier:
        return self.module.classifier

    @property
    def generator(self) -> nn.Module:
        """The first generator; all of them are `module.generators`."""
        if not self.module.generators:
            raise InputError(
                f"method={self.cfg.method.name}: trains no generator; sample() optimises images"
            )
        return self.module.generators[0]

    def sample(
        self, labels: Sequence[int] | Tensor, seed: int | None = None, generator: int = 0
    ) -> Tensor:
        """Images [B, C, H, W] in [0, 1], one for each label, conditioned on hot vectors, from one of the generators."""
        condition = self.module.conditioning.of_labels(
            torch.as_tensor(labels, device=self.module.device)
        )
        if seed is None:
            return self.module.draw(condition, generator)
        with own_randomness(seed, self.module.device):
            return self.module.draw(condition, generator)


def invert(
    network: nn.Module,
    num_classes: int,
    channels: int,
    image_size: int,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    feature_layers: Sequence[str] = (PENULTIMATE,),
    overrides: Sequence[str] = (),
    run_dir: str | Path | None = None,
    output: str | None = None,
    output_kind: str = AUTO,
) -> Inversion:
    """Inverts any trained image classifier.

    Args:
        network: From normalised images [B, C, H, W] to logits [B, N], or to probabilities, one number for two classes, or a
            container of these; it is frozen, and its weights stay as they are.
        num_classes: N.
        channels: 1 or 3.
        image_size: Side of the square images, 28 to 64 pixels.
        mean: Per channel, as the network's training normalised pixels of [0, 1]; None if it did not.
        std: The same.
        feature_layers: Modules of the network by name, for the cosine and orthogonality terms.
        overrides: Of the config, such as `["application.steps=500", "conditioning=label"]`.
        run_dir: Where the run is kept; None to keep nothing.
        output: Name or index of the logits in what the network returns; None to find them.
        output_kind: `logits`, `probabilities`, `log_probabilities`, `sigmoid`, or `auto` to find out on random images.

    Raises:
        InputError: if the network or a value does not fit.
    """
    from netinv_lightning.applications.invert import (
        InvertApplication,
    )  # here, so that `compose` stays light

    if not isinstance(network, nn.Module):
        raise InputError(f"network: is a {type(network).__name__}; must be a torch.nn.Module")
    cfg = compose(overrides)
    settle_trainer(cfg)
    spec = _own_spec(num_classes, channels, image_size, mean, std)
    trained = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    training = {module: module.training for module in network.modules()}
    try:
        given = mean is not None and std is not None
        with notices_of_a_run():
            classifier = FrozenClassifier(network, spec, feature_layers, output, output_kind)
            application = InvertApplication(
                cfg, announce(classifier, "the arguments mean and std" if given else "", given)
            )
        with TemporaryDirectory() as temporary:
            directory = RunDir(Path(run_dir or temporary).absolute())
            directory.check_usable()
            with directory.open(cfg, application.classifier.record()):
                metrics = application.run(directory)
                directory.write_summary(metrics)
    finally:  # the caller's network is given back as it came
        for module, mode in training.items():
            module.training = mode
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(trained.get(name, True))  # a lazy layer's bias may be new
    return Inversion(cfg, application.module, metrics)


def _own_spec(
    num_classes: int,
    channels: int,
    image_size: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> DataSpec:
    """The facts of the images that a user's network takes.

    Raises:
        InputError: naming the argument that is out of range.
    """
    sides = {
        "num_classes": (num_classes, 2, 10**6),
        "channels": (channels, 1, 3),
        "image_size": (image_size, 28, 64),
    }
    for name, (value, least, most) in sides.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or not least <= value <= most
            or (name == "channels" and value == 2)
        ):
            allowed = "1 or 3" if name == "channels" else f"a whole number from {least} to {most}"
            raise InputError(f"{name}={value!r}: must be {allowed}")
    zeros, ones = (0.0,) * channels, (1.0,) * channels
    labels = tuple(str(label) for label in range(num_classes))
    try:
        mean, std = (
            tuple(map(float, default if given is None else given))
            for given, default in ((mean, zeros), (std, ones))
        )
    except (TypeError, ValueError) as error:
        raise InputError(
            f"mean={mean}, std={std}: must be {channels} numbers each, one per channel"
        ) from error
    return DataSpec("own", num_classes, channels, image_size, mean, std, labels)


def load_detector(run_dir: str | Path, name: str, trusted: Sequence[str] = ()) -> Detector:
    """Loads a detector of a run of `application=detect_ood`; its `score(images)` is higher for what is more out-of-distribution.

        detector = netinv_lightning.load_detector("runs/detect_ood/STAMP", "inverted")
        scores_n = detector.score(images_nCHW)

    Args:
        run_dir: The run directory.
        name: One of the run's `application.detectors`, or of its choices of the group `garbage`.
        trusted: As for `load_run`.

    Raises:
        InputError: if it is no such run, or has no detector of that name.
    """
    from netinv_lightning.evaluation.finished_run import inversion_config
    from netinv_lightning.ood.detectors.saved_detectors import load_saved_detector

    directory = Path(run_dir)
    with only_allowed(trusted):
        return load_saved_detector(inversion_config(directory), directory, name)


def load_run(run_dir: str | Path, trusted: Sequence[str] = ()) -> Inversion:
    """Loads a finished inversion from its run directory.

    Args:
        run_dir: The run directory.
        trusted: Dotted names of own code, and packages of it, that the run's config and its card may name, such as `["my_package"]`.
            Other code, and a network of torchvision or timm with pretrained weights, is refused
            (`netinv_lightning.config.allowed_targets`).

    Raises:
        InputError: if it is no run of `application=invert`, or its classifier is not there.
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
            f"{directory}: holds no trained generator (application={cfg.application.name}, no checkpoints/last.ckpt)"
        )
    summary = (
        read_summary(directory, str(directory)) if (directory / "summary.json").is_file() else {}
    )
    return Inversion(cfg, load_inversion(cfg, directory), summary)
