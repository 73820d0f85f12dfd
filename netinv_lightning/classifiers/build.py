"""From config to frozen classifier: which weights, for which network and data.

Values that `classifier` does not set are read from the model card, then from the data set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from netinv_lightning.classifiers.architecture import (
    build_network,
    given_shape,
    reading_keys,
    spec_with_keys,
)
from netinv_lightning.classifiers.checkpoints import load_checkpoint, read_card
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.named_weights import named_weights, network_missing
from netinv_lightning.classifiers.outputs import AUTO
from netinv_lightning.classifiers.zoo import zoo_path
from netinv_lightning.config.allowed_targets import check_literal, check_network, trusted_names
from netinv_lightning.config.shapes import modality_of
from netinv_lightning.data.specs import SPECS, DataSpec, spec_of_classes
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.runs.notices import notice

SPLIT_KEYS = ("val_fraction", "subset_size", "split_seed", "classes")
"""Keys of `data` that determine which images a classifier was trained on."""


def card_spec(card: dict[str, Any]) -> DataSpec:
    """Return the facts of the training data that a model card contains."""
    try:
        known: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in card["data"].items()
        }
        return DataSpec(**known)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"classifier.path: the card {card.get('name', '')} has no valid entry data "
            f"({one_line(error)}); get it again"
        ) from error


def card_network(card: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the network that a model card describes, after checking it against the allow-list."""
    network = card.get("network")
    if not isinstance(network, dict) or "_target_" not in network:
        raise InputError(
            f"{where}: its model card contains no network; name it: "
            f"+classifier.network={{_target_: package.module.Class, ...}}"
        )
    check_network(network, f"{where}: its card", trusted=trusted_names())
    return network


def resolve_spec(cfg: DictConfig, card: dict[str, Any] | None) -> DataSpec:
    """Return the facts of the training data: of the model card or data set, unless overridden.

    A data set that is known by name, such as the default, is ignored if the classifier takes inputs
    of another kind or with other channels.
    """
    shape = given_shape(cfg)
    known = SPECS.get(cfg.data.name)
    other = known is not None and (
        modality_of(shape.get("image_size", known.image_size)) != known.modality
        or shape.get("channels", known.channels) != known.channels
    )
    if card is not None:
        spec = card_spec(card)
    elif known is not None and not other:
        spec = (
            SPECS[cfg.data.name]
            if cfg.data.classes is None
            else spec_of_classes(SPECS[cfg.data.name], cfg.data.classes)
        )
    else:
        given = shape | ({"num_classes": N} if (N := cfg.classifier.num_classes) else {})
        keys = ("num_classes", "channels", "image_size")
        if missing := [f"classifier.{key}" for key in keys if key not in given]:
            raise InputError(
                f"{', '.join(missing)}: must be given, because the checkpoint has no model card "
                f"and data={cfg.data.name} is not {'such data' if other else 'a known set'}"
            )
        zeros, ones = (0.0,) * shape["channels"], (1.0,) * shape["channels"]
        name = "own" if other else cfg.data.name
        spec = DataSpec(name=name, mean=zeros, std=ones, class_names=(), **given)
    return spec_with_keys(spec, cfg)


def described_network(cfg: DictConfig) -> dict[str, Any]:
    """Return the description of the network, of the config or of the model card.

    Raises:
        InputError: if neither contains one.
    """
    if cfg.classifier.network:
        network: Any = OmegaConf.to_container(cfg.classifier.network, resolve=True)
        return {str(key): value for key, value in network.items()}
    path = named_weights(cfg)
    assert path is not None
    return card_network(read_card(path) or {}, f"classifier.path={path}")


def named_card(cfg: DictConfig) -> dict[str, Any]:
    """Return the model card of the classifier that the config names; empty if it has none."""
    path = named_weights(cfg)
    return {} if path is None else read_card(path) or {}


def training_split(cfg: DictConfig) -> dict[str, Any]:
    """Return which images the classifier was trained on: `SPLIT_KEYS` and `trained_before`.

    `trained_before` is true if the classifier was trained on other images before, as after
    `application=finetune`. Then no image can be assumed to be unseen.
    """
    recipe: Any = named_card(cfg).get("recipe", {})
    check_literal(
        recipe, "classifier.path: its card", "recipe"
    )  # its values become part of a config
    return {key: recipe[key] for key in (*SPLIT_KEYS, "trained_before") if key in recipe}


def load_classifier(cfg: DictConfig) -> FrozenClassifier:
    """Load the classifier that `cfg.classifier` names, frozen. No data set is read.

    With `classifier.train=true` it is loaded from the cache. If the cache does not contain it, data
    and recipe are checked, the weights are untrained, and
    `netinv_lightning.classifiers.cache.train_once` fills them in.

    Raises:
        InputError: if weights, network, shapes or feature layers do not fit together.
    """
    network: Any = (
        OmegaConf.to_container(cfg.classifier.network, resolve=True)
        if cfg.classifier.network
        else None
    )
    path = named_weights(cfg)
    if cfg.classifier.train:
        from netinv_lightning.classifiers.cache import cache_path, cached_card, untrained

        path = cache_path(cfg)
        if cached_card(path) is None:
            return _announced(untrained(cfg), cfg, None)
    elif path is None and network and _has_weights(network):
        spec = resolve_spec(cfg, None)
        return _announced(
            FrozenClassifier(build_network(network, spec), spec, **reading_keys(cfg)), cfg, None
        )
    elif path is None:
        raise InputError(
            "classifier.path: no trained weights are named; use one of the zoo (classifier=zoo), "
            "give a checkpoint (classifier.path=FILE), or train one: classifier.train=true, or "
            "first application=train_classifier"
        )
    where = f"classifier.path={path}"
    card = read_card(path)
    spec = resolve_spec(cfg, card)
    if not network and card is not None:
        network = card_network(card, where)
    if not network:
        raise network_missing(path)
    return _announced(
        _loaded(path, network, spec, **_with_card(reading_keys(cfg), card or {})), cfg, card
    )


def _with_card(keys: dict[str, Any], card: dict[str, Any]) -> dict[str, Any]:
    """Return the keys; those of the output that have their defaults are read from the card."""
    defaults = {"output": None, "output_kind": AUTO}
    return keys | {
        key: card[key]
        for key, value in defaults.items()
        if key in card and keys.get(key, value) == value
    }


def _has_weights(network: Mapping[str, Any]) -> bool:
    """Return whether the network has its own weights, as those of torchvision and timm."""
    return (
        bool(network.get("weights") or network.get("pretrained"))
        or network.get("_target_") == "torch.jit.load"
    )


def _announced(
    classifier: FrozenClassifier, cfg: DictConfig, card: dict[str, Any] | None
) -> FrozenClassifier:
    """Print what is assumed about output and normalisation; return the classifier."""
    source = (
        "the model card"
        if card is not None
        else f"data={cfg.data.name}"
        if cfg.data.name in SPECS
        else ""
    )
    if cfg.classifier.train and not source:
        source = "the training images"
    given = [f"classifier.{key}" for key in ("mean", "std") if cfg.classifier[key] is not None]
    return announce(
        classifier,
        " and ".join(given + [source] * (len(given) < 2 and bool(source))),
        given=len(given) == 2,
    )


def announce(classifier: FrozenClassifier, source: str, given: bool) -> FrozenClassifier:
    """Print what is assumed about the network's output, and its normalisation unless it is given.

    Args:
        classifier: The classifier; `source` is stored in it for the record of the run.
        source: Where mean and standard deviation come from; empty if they are unknown.
        given: Whether the user set both.
    """
    classifier.normalisation_source = source or "none"
    notice(classifier.output.describe(classifier.name))
    if not given:
        notice(classifier.describe_normalisation())
    return classifier


def load_zoo(name: str) -> FrozenClassifier:
    """Load a classifier of the zoo by its name.

    Raises:
        InputError: if there is none of that name, or its file is damaged.
    """
    return load_carded(zoo_path(name), f"classifier.zoo={name}")


def load_verifiers(asked: Iterable[str]) -> dict[str, FrozenClassifier]:
    """Load the classifiers of the zoo that `application.verifiers` names, by name.

    Raises:
        InputError: as `load_zoo`.
    """
    return {
        name: load_carded(zoo_path(name, "application.verifiers"), f"application.verifiers={name}")
        for name in asked
    }


def load_carded(path: Path, where: str) -> FrozenClassifier:
    """Load a classifier from its file and model card.

    Raises:
        InputError: beginning with `where`, if the card is missing; or if a file is damaged.
    """
    card = read_card(path)
    if card is None:
        raise InputError(
            f"{where}: its model card is missing ({path.with_suffix('.json').name}); get it again"
        )
    return _loaded(path, card_network(card, where), card_spec(card), **_with_card({}, card))


def _loaded(path: Path, network: dict[str, Any], spec: DataSpec, **keys: Any) -> FrozenClassifier:
    made = build_network(network, spec)
    if note := load_checkpoint(made, path):
        notice(f"classifier.path={path}: {note}")
    return FrozenClassifier(made, spec, **keys)
