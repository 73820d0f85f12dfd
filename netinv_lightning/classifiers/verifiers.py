"""Verifiers: classifiers that an inversion does not use, which show whether its images transfer.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from netinv_lightning.classifiers.architecture import OWN_NETWORKS
from netinv_lightning.classifiers.build import load_carded, load_classifier
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.training import recipe_seed
from netinv_lightning.classifiers.verifier_names import KEY, VERIFIER_OF, entries
from netinv_lightning.classifiers.zoo import zoo_path
from netinv_lightning.config.layer_names import LOGITS, PENULTIMATE
from netinv_lightning.config.schema import ClassifierConfig
from netinv_lightning.data.specs import UNITS, DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.runs.notices import notice

VERIFYING = {
    "images": ("ResNet", "CNN"),
    "signals": ("SignalFCN", "MLP"),
    "tables": ("MLP", "MLP"),
}
"""For each modality, the network of a new verifier, and the network to use instead if the verified
classifier is of the same kind."""
NO_VERIFIERS = (
    "no verifiers: other networks, trained for the same classes, show whether the images contain "
    "the classes or are adversarial noise. Name them: application.verifiers=[...]; train one: "
    "application=train_classifier application.verifier_of=FILE"
)


def load_verifiers(
    asked: Any, cfg: DictConfig, classifier: FrozenClassifier, where: str = KEY
) -> dict[str, FrozenClassifier]:
    """Load the verifiers in a list such as `application.verifiers`, and return them by name.

    Images are resized for verifiers that were trained on another size.

    Args:
        asked: The list.
        cfg: The config; its data set provides the properties that an entry leaves out.
        classifier: The classifier that is inverted. Its classes and shape are the defaults of a
            verifier without a model card.
        where: The key of the list, for messages.

    Raises:
        InputError: naming the entry, if it cannot be loaded, has other classes or channels, or is
            the inverted classifier.
    """
    loaded: dict[str, FrozenClassifier] = {}
    for name, keys in entries(asked, where).items():
        verifier = _load(f"{where}={name}", keys, cfg, classifier.spec)
        check_verifier(name, verifier, classifier, where)
        loaded[name] = resized(verifier, classifier.spec)
        if loaded[name] is not verifier:
            notice(
                f"{where}={name}: images are resized from {classifier.spec.image_size} to "
                f"{verifier.spec.image_size} pixels for this verifier"
            )
    return loaded


def _load(
    where: str, keys: dict[str, Any], cfg: DictConfig, spec: DataSpec | None
) -> FrozenClassifier:
    """Load a classifier from keys of `classifier`; `spec` contains defaults if it has no card."""
    if keys.keys() == {"zoo"}:
        return load_carded(zoo_path(keys["zoo"], where.partition("=")[0]), where)
    path = Path(keys["path"]) if keys.keys() == {"path"} else None
    if path is not None and path.with_suffix(".json").is_file():
        return load_carded(path, where)
    classifier = OmegaConf.merge(OmegaConf.structured(ClassifierConfig), keys)
    described = OmegaConf.create({"data": cfg.data, "classifier": classifier})
    if keys.get("network") and spec is not None:
        for fact in UNITS:
            if described.classifier[fact] is None:
                described.classifier[fact] = getattr(spec, fact)
    try:
        return load_classifier(described)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def check_verifier(
    name: str, verifier: FrozenClassifier, classifier: FrozenClassifier, where: str = KEY
) -> None:
    """Check that a verifier is another network for the same classes.

    Raises:
        InputError: if its weights are those of the inverted classifier, or its classes or channels
            differ.
    """
    key = f"{where}={name}"
    inverted, other = (
        [*network.state_dict().values()] for network in (classifier.network, verifier.network)
    )
    if len(inverted) == len(other) and all(
        one.shape == two.shape and torch.equal(one.to(two.device), two)
        for one, two in zip(inverted, other, strict=True)
    ):
        raise InputError(
            f"{key}: is the classifier that is inverted (the weights are equal). "
            f"Set {where} to other networks"
        )
    for fact in ("num_classes", "channels"):
        if (its := getattr(verifier.spec, fact)) != (needed := getattr(classifier.spec, fact)):
            raise InputError(
                f"{key}: has {fact}={its}, but the classifier that is inverted has "
                f"{fact}={needed}. They must be equal; choose another verifier"
            )
    if verifier.multi_label != classifier.multi_label:
        raise InputError(
            f"{key}: must {'not ' * (not classifier.multi_label)}be multi-label, like the "
            "classifier that is inverted; set output_kind of the verifier"
        )
    check_class_names(key, verifier.spec, classifier.spec)


def check_class_names(key: str, its: DataSpec, needed: DataSpec) -> None:
    """Check that two networks have the same classes in the same order, if both have class names.

    Raises:
        InputError: beginning with `key`, if they differ.
    """
    if its.class_names == needed.class_names or {*its.class_names, *needed.class_names} & {"0"}:
        return
    differing = next(
        label
        for label, pair in enumerate(zip(its.class_names, needed.class_names, strict=True))
        if len({*pair}) > 1
    )
    raise InputError(
        f"{key}: its class {differing} is {its.class_names[differing]}, but class {differing} of "
        f"the classifier that is inverted is {needed.class_names[differing]}. The classes must be "
        "the same, in the same order"
    )


def load_verified(named: str, cfg: DictConfig) -> FrozenClassifier:
    """Load the classifier that a verifier is trained for, as `application.verifier_of` names it.

    Raises:
        InputError: as `load_verifiers`.
    """
    ((name, keys),) = entries([named], VERIFIER_OF).items()
    return _load(f"{VERIFIER_OF}={name}", keys, cfg, None)


def verifier_config(cfg: DictConfig, verified: FrozenClassifier) -> DictConfig:
    """Return the config to train a verifier: with another network and another seed.

    The kind of network differs from that of the verified one, unless the config names a network.
    """
    cfg = copy.deepcopy(cfg)
    if not cfg.classifier.network:
        first, second = VERIFYING[verified.spec.modality]
        kind = second if verified.name == first else first
        cfg.classifier.network = {"_target_": f"{OWN_NETWORKS}{kind}"}
    if (seed := recipe_seed(cfg)) == verified.card.get("seed"):
        cfg.recipe.seed = seed + 1
        notice(f"recipe.seed={seed + 1}: the classifier was trained with seed {seed}")
    return cfg


def check_verified(spec: DataSpec, verified: FrozenClassifier) -> None:
    """Check that a verifier of a classifier can be trained on a data set.

    Raises:
        InputError: if their classes or channels differ.
    """
    for fact in ("num_classes", "channels"):
        if (its := getattr(spec, fact)) != (needed := getattr(verified.spec, fact)):
            raise InputError(
                f"{VERIFIER_OF}: the classifier has {fact}={needed}, but data={spec.name} has "
                f"{its}. Set data to images of the classes of the classifier"
            )
    check_class_names(f"data={spec.name}", spec, verified.spec)


class Resized(nn.Module):
    """A network preceded by bilinear resizing of its images to the size that it was trained on.

    Args:
        network: Takes normalised images [B, C, *sides].
        sides: Height and width of its images in pixels.
    """

    def __init__(self, network: nn.Module, sides: tuple[int, ...]) -> None:
        super().__init__()
        self.network, self.sides = network, sides

    def forward(self, x_BCHW: Tensor) -> Any:
        # Weights of the interpolation sum to 1, so it commutes with the normalisation.
        resized_BCHW = F.interpolate(
            x_BCHW.float(), size=self.sides, mode="bilinear", antialias=True
        )
        return self.network(resized_BCHW.to(x_BCHW.dtype))


def resized(verifier: FrozenClassifier, spec: DataSpec) -> FrozenClassifier:
    """Return the verifier for images of `spec`, with resizing if their size differs from its own.

    Signals and tables are not resized.
    """
    if verifier.spec.shape == spec.shape or {verifier.spec.modality, spec.modality} != {"images"}:
        return verifier
    network = Resized(verifier.network, verifier.spec.sides)
    layers = [
        layer if layer in (PENULTIMATE, LOGITS) else f"network.{layer}"
        for layer in verifier.feature_layers
    ]
    its = replace(verifier.spec, image_size=spec.image_size)
    wrapped = FrozenClassifier(network, its, layers, like=verifier)
    wrapped.card = verifier.card
    return wrapped
