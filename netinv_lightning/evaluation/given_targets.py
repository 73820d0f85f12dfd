"""Read and check the targets of `application=approach`.

Shape suffixes: n images, t targets, N classes, D values per target, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.config.application_schema import ApproachConfig
from netinv_lightning.data.pixels import to_unit_range
from netinv_lightning.data.tensor_files import read_tensors
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.image_sets import Images, check_images
from netinv_lightning.inversion.methods.targets import Distributions, Neurons, Targets, Vectors


@dataclass
class GivenTargets:
    """The targets of a run.

    Attributes:
        targets: The targets.
        row_names: A name for each target.
        image_tCHW: The images of `file`. For `features`, the images that the targets come from.
    """

    targets: Targets
    row_names: list[str]
    image_tCHW: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that are stored with the images of a run."""
        tensors = {"targets": self.targets.rows_tD}
        if isinstance(self.targets, Neurons):
            tensors["units"] = self.targets.unit_t
        if (originals := self.originals_tCHW) is not None:
            tensors["originals"] = originals
        return tensors

    @property
    def originals_tCHW(self) -> Tensor | None:
        """The images whose features are the targets."""
        return self.image_tCHW if isinstance(self.targets, Vectors) else None


def given_targets(options: ApproachConfig, classifier: FrozenClassifier) -> GivenTargets:
    """Return the targets, on the device of the classifier.

    Raises:
        InputError: if a target does not fit the classifier.
    """
    device = classifier.mean_C11.device
    if options.target in ("soft", "logits"):
        vector_tN = _vectors(options, classifier.spec.num_classes).to(device)
        soft = options.target == "soft"
        targets = Distributions(vector_tN) if soft else Vectors(vector_tN)
        return GivenTargets(
            targets, [_largest(v_N, classifier.spec.class_names) for v_N in vector_tN]
        )
    image_tCHW: Tensor | None = None
    feature_tD: Tensor | None = None
    if options.file is not None:
        image_tCHW, feature_tD = _read_file(Path(options.file), options, classifier)
    if options.target == "neuron":
        return _neurons(options, classifier, image_tCHW)
    if feature_tD is None:
        assert image_tCHW is not None
        with torch.no_grad():
            features = classifier.logits_and_features(image_tCHW.to(device))[1]
        feature_tD = features[options.layer]
    if not feature_tD.norm(dim=1).all():
        raise InputError(
            f"application.file={options.file}: has rows of features that are all 0, so a relative "
            "distance is not defined. Leave those rows out"
        )
    rows = [f"row {row}" for row in range(len(feature_tD))]
    return GivenTargets(Vectors(feature_tD.to(device), options.layer), rows, image_tCHW)


def _neurons(
    options: ApproachConfig, classifier: FrozenClassifier, image_tCHW: Tensor | None
) -> GivenTargets:
    layer, units = options.layer, list(options.units or ())
    width = classifier.feature_dims[layer]
    for unit in units:
        if not 0 <= unit < width:
            raise InputError(
                f"application.units={unit}: must be from 0 to {width - 1}, the units of layer "
                f"{layer}"
            )
    if image_tCHW is None and options.file is not None:
        raise InputError(
            f"application.file={options.file}: contains no images. Give a file with images, or "
            "remove application.file"
        )
    unit_t = torch.tensor(units, device=classifier.mean_C11.device)
    names = [f"{layer} {unit}" for unit in units]
    return GivenTargets(Neurons(unit_t, options.value, layer), names, image_tCHW)


def _vectors(options: ApproachConfig, num_classes: int) -> Tensor:
    """Return `application.vector` as [t, N]: one list of numbers, or several."""
    plain: Any = OmegaConf.to_container(options.vector, resolve=True)
    rows = plain if isinstance(plain[0], list) else [plain]
    for number, row in enumerate(rows):
        key = "application.vector" if rows is not plain else f"application.vector[{number}]"
        _check_vector(f"{key}={row}", row, options.target, num_classes)
    return torch.tensor(rows, dtype=torch.float32)


def _check_vector(where: str, row: Any, target: str, num_classes: int) -> None:
    if not (isinstance(row, list) and all(_is_finite_number(x) for x in row)):
        raise InputError(f"{where}: must be a list of finite numbers, or a list of such lists")
    if len(row) != num_classes:
        raise InputError(f"{where}: has {len(row)} numbers; must have {num_classes}, one per class")
    if target == "soft" and (min(row) < 0 or abs(sum(row) - 1) > 1e-3):
        raise InputError(
            f"{where}: must contain numbers of 0 or more that sum to 1, not {sum(row):.6g}. "
            "For logits set application.target=logits"
        )
    if target == "logits" and not any(row):
        raise InputError(
            f"{where}: all numbers are 0, so a relative distance is not defined. Set "
            "application.target=soft"
        )


def _is_finite_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)


def _read_file(
    path: Path, options: ApproachConfig, classifier: FrozenClassifier
) -> tuple[Tensor | None, Tensor | None]:
    """Read `images` [t, C, H, W] in [0, 1], or else `features` [t, D], from a safetensors file."""
    where, spec = f"application.file={path}", classifier.spec
    tensors = read_tensors(path, where)
    shapes: dict[str, tuple[int, ...]] = {
        "images": spec.shape,
        "features": (classifier.feature_dims[options.layer],),
    }
    name = next((name for name in shapes if name in tensors), None)
    if name is None:
        raise InputError(
            f"{where}: must contain the tensor images or features; it contains "
            f"{', '.join(tensors) or 'none'}"
        )
    x = tensors[name]
    if x.shape[1:] != shapes[name] or not len(x):
        fits = f"the features of layer {options.layer}"
        fits = fits if name == "features" else "the images of the classifier"
        raise InputError(
            f"{where}: {name} are of shape {tuple(x.shape)}; must be "
            f"(t, {', '.join(map(str, shapes[name]))}), {fits}"
        )
    if options.target == "features":
        x = x[: options.rows]
    x = to_unit_range(x).float()
    if name == "features":
        if not x.isfinite().all():
            raise InputError(f"{where}: features contain NaN or infinity. Leave those rows out")
        return None, x
    try:
        check_images(Images(x, torch.zeros(len(x), dtype=torch.long)), spec)
    except InputError as error:
        raise InputError(f"{where}: {str(error).removeprefix('samples: ')}") from error
    return x, None


def _largest(vector_N: Tensor, class_names: Sequence[str]) -> str:
    """Return the two largest entries with their classes."""
    top = vector_N.topk(2)
    return ", ".join(
        f"{class_names[index]} {value:.2f}"
        for value, index in zip(top.values.tolist(), top.indices.tolist(), strict=True)
    )
