"""Sets of images that are measured, and the real ones that they are measured against.

Shape suffixes: n images, m chosen images, C channels, H height, W width, N classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.datasets import Split
from netinv_lightning.data.pixels import to_unit_range
from netinv_lightning.data.specs import SPECS, DataSpec, same_data, spec_of_classes
from netinv_lightning.data.splits import stratified_indices
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.evaluation.inversion_accuracy import batches, draw_batch
from netinv_lightning.evaluation.real_accuracy import report_accuracy
from netinv_lightning.inversion.base import Inversion
from netinv_lightning.runs.outside_files import open_file


@dataclass
class Images:
    """A set of images to measure.

    Attributes:
        images_nCHW: In [0, 1].
        labels_n: The class that each was made to be.
        targets_nN: The conditioning distribution of each; None for one-hot.
        generator_n: The number of the generator that made each; None where that is not known.
    """

    images_nCHW: Tensor
    labels_n: Tensor
    targets_nN: Tensor | None = None
    generator_n: Tensor | None = None

    def to(self, device: torch.device) -> Images:
        return self._each(lambda values: values.to(device))

    def first(self, key: str, count: int) -> Images:
        """The first `count` images.

        Raises:
            InputError: naming `key`, if there are fewer.
        """
        if count > (n := len(self.labels_n)):
            raise InputError(f"{key}={count}: there are {n} images; ask for as many or fewer")
        return self._each(lambda values: values[:count])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Images:
        targets_nN, generator_n = (
            None if values is None else change(values)
            for values in (self.targets_nN, self.generator_n)
        )
        return Images(change(self.images_nCHW), change(self.labels_n), targets_nN, generator_n)


def draw_images(module: Inversion, batch_size: int, seed: int) -> Callable[[int], Images]:
    """What draws inverted images: those that the evaluation draws with the same count, `batch_size` and `seed`."""

    def draw(count: int) -> Images:
        parts: list[tuple[Tensor, ...]] = []
        for number, (g, size) in enumerate(batches(count, batch_size, module.n_generators)):
            condition, x_BCHW = draw_batch(module, g, number, size, seed)
            parts.append(
                (
                    x_BCHW.cpu(),
                    condition.label_B.cpu(),
                    condition.target_BN.cpu(),
                    torch.full((size,), g),
                )
            )
        return Images(*(torch.cat(part).contiguous() for part in zip(*parts, strict=True)))

    return draw


def write_samples(images: Images, path: Path) -> None:
    """Writes images as `read_samples` reads them."""
    tensors = {
        "images": images.images_nCHW,
        "labels": images.labels_n,
        "conditioning": images.targets_nN,
        "generator": images.generator_n,
    }
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)


def read_samples(path: Path, where: str) -> Images:
    """Reads images from a safetensors file: `images` [n, C, H, W] in [0, 1] or uint8, `labels` [n], and as an option
    `conditioning` [n, N] and `generator` [n].

    Args:
        path: The file.
        where: The key and its value, for the error.

    Raises:
        InputError: if the file or one of its tensors is missing or damaged.
    """
    tensors = read_tensors(path, where)
    for name, dims in (("images", 4), ("labels", 1)):
        if name not in tensors or tensors[name].dim() != dims:
            raise InputError(
                f"{where}: must hold the tensors images [n, C, H, W] and labels [n]; it holds {', '.join(tensors)}"
            )
    images_nCHW, labels_n = tensors["images"], tensors["labels"]
    images_nCHW = to_unit_range(images_nCHW)
    if not images_nCHW.is_floating_point() or labels_n.is_floating_point():
        raise InputError(
            f"{where}: images must be floating-point or uint8 and labels whole numbers, not {images_nCHW.dtype} and {labels_n.dtype}"
        )
    return Images(
        images_nCHW.float(), labels_n.long(), tensors.get("conditioning"), tensors.get("generator")
    )


def read_tensors(path: Path, where: str) -> dict[str, Tensor]:
    """Reads a safetensors file.

    Raises:
        InputError: beginning with `where`, the key and its value, if the file is missing or damaged.
    """
    try:
        open_file(path).close()  # a FIFO would block
        return load_file(path)
    except FileNotFoundError:
        raise InputError(f"{where}: there is no such file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{where}: is not a whole safetensors file ({one_line(error)})") from error


def open_real(cfg: DictConfig, classifier: FrozenClassifier) -> tuple[ImageDataModule | None, str]:
    """Open the real data as `open_data` does, and print the classifier's accuracy on them."""
    real, missing = open_data(cfg, classifier.spec)
    if real is not None:
        report_accuracy(classifier, real)
    return real, missing


def open_data(cfg: DictConfig, spec: DataSpec) -> tuple[ImageDataModule | None, str]:
    """The real data that `cfg.data` names, or why they are not at hand.

    Raises:
        InputError: for anything wrong but missing files, and for data that a classifier of `spec` was plainly not trained on.
    """
    if spec.name in SPECS:  # else `data` may be what nobody chose
        check_named(cfg, spec)
    try:
        real = ImageDataModule(**cfg.data)
    except InputError as error:
        if not str(error).startswith("data.root="):
            raise
        return None, f"no real data: {one_line(error)}"
    check_real(real, spec)
    return real, ""


def check_real(real: ImageDataModule, spec: DataSpec) -> None:
    """Refuses data of another shape than a classifier of `spec` takes, and those that it was plainly not trained on.

    Raises:
        InputError: naming the data set and what differs.
    """
    _check_facts(real.spec, real.classes, spec)


def check_named(cfg: DictConfig, spec: DataSpec) -> None:
    """The same of the data that `cfg.data` names, without reading any, as far as their facts are known by name.

    Raises:
        InputError: naming the data set and what differs.
    """
    if (facts := SPECS.get(cfg.data.name)) is not None:
        classes = cfg.data.classes
        _check_facts(facts if classes is None else spec_of_classes(facts, classes), classes, spec)


def _check_facts(facts: DataSpec, classes: Sequence[int] | None, spec: DataSpec) -> None:
    if facts.name in SPECS and spec.name in SPECS and not same_data(facts.name, spec.name):
        raise InputError(
            f"data={facts.name}: the classifier was trained on {spec.name}, as its card says; name that, with data={spec.name}, or "
            "another classifier"
        )
    if (
        classes is None
        and facts.name in SPECS
        and spec.name in SPECS
        and set(spec.class_names) < set(facts.class_names)
    ):
        labels = ",".join(str(facts.class_names.index(name)) for name in spec.class_names)
        raise InputError(
            f"data.classes: the classifier knows {', '.join(spec.class_names)} alone; add 'data.classes=[{labels}]'"
        )
    for fact in ("num_classes", "channels", "image_size"):
        if (there := getattr(facts, fact)) != (here := getattr(spec, fact)):
            raise InputError(
                f"data={facts.name}: its images have {fact}={there}, the classifier takes {fact}={here}; "
                "name the data set that it was trained on"
            )
    if classes is not None and facts.class_names != spec.class_names:
        raise InputError(
            f"data.classes={list(classes)}: these are {', '.join(facts.class_names)}, the classifier's are "
            f"{', '.join(spec.class_names)}; name those that it was trained on, in their order"
        )


def of_split(split: Split, most: int, seed: int = 0) -> Images:
    """Real images of a split, at most `most` of them, each class by its share."""
    images_nCHW, labels_n = split
    chosen_m = stratified_indices(labels_n, min(len(labels_n), most), seed)
    return Images(to_unit_range(images_nCHW[chosen_m]), labels_n[chosen_m])


def halves_of_test(real: ImageDataModule) -> tuple[Split, Split]:
    """The half of the test images that judges what was trained on generated ones, and the half that may be measured itself.

    What is trained on the second half is not judged by images that it has seen. The halves are always the same.
    """
    images_nCHW, labels_n = real.test
    judging_n = torch.zeros(len(labels_n), dtype=torch.bool)
    judging_n[stratified_indices(labels_n, len(labels_n) // 2, 0)] = True
    return (images_nCHW[judging_n], labels_n[judging_n]), (
        images_nCHW[~judging_n],
        labels_n[~judging_n],
    )


def check_images(images: Images, spec: DataSpec) -> None:
    """Refuses what are no images for a classifier of `spec`.

    Raises:
        InputError: saying how many images are wrong, and how.
    """
    x_nCHW, labels_n, n = images.images_nCHW, images.labels_n, len(images.labels_n)
    shape, N = spec.image_shape, spec.num_classes
    if x_nCHW.shape != (n, *shape):
        raise InputError(
            f"samples: {len(x_nCHW)} images of shape {tuple(x_nCHW.shape[1:])} with {n} labels; "
            f"must be as many images as labels, of the classifier's shape {shape}"
        )
    broken = int((~x_nCHW.flatten(1).isfinite().all(dim=1)).sum())
    if broken:
        raise InputError(
            f"samples: {broken} of {n} images hold NaN or infinity; leave them out, or make the images anew"
        )
    outside = int(((x_nCHW < 0) | (x_nCHW > 1)).flatten(1).any(dim=1).sum())
    if outside:
        raise InputError(
            f"samples: {outside} of {n} images have pixels outside of [0, 1]; scale them to it"
        )
    wrong = int(((labels_n < 0) | (labels_n >= N)).sum())
    if wrong:
        raise InputError(
            f"samples: {wrong} of {n} labels are not from 0 to {N - 1}; the classifier has {N} classes"
        )
    targets_nN = images.targets_nN
    if targets_nN is not None and (targets_nN.shape != (n, N) or not targets_nN.isfinite().all()):
        raise InputError(
            f"samples: conditioning is of shape {tuple(targets_nN.shape)}, must be finite numbers of shape {(n, N)}"
        )
