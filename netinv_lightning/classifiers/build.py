"""From config to frozen classifier: which weights, for which network and data.

What is not said in `classifier` comes from the checkpoint's card, and what the card does not say from the data set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from netinv_lightning.classifiers.architecture import build_network, reading_keys, spec_with_keys
from netinv_lightning.classifiers.checkpoints import load_checkpoint, read_card
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.outputs import AUTO
from netinv_lightning.classifiers.zoo import zoo_path
from netinv_lightning.config.allowed_targets import check_literal, check_network, trusted_names
from netinv_lightning.data.specs import SPECS, DataSpec, spec_of_classes
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.runs.notices import notice

SPLIT_KEYS = ("val_fraction", "subset_size", "split_seed", "classes")
"""Keys of `data` that say which images a classifier was trained on."""


def card_spec(card: dict[str, Any]) -> DataSpec:
    """The data that a card tells of."""
    try:
        known: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in card["data"].items()
        }
        return DataSpec(**known)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"classifier.path: the card {card.get('name', '')} does not tell its data ({one_line(error)}); get it again"
        ) from error


def card_network(card: dict[str, Any], where: str) -> dict[str, Any]:
    """The network that a card tells of, never any other code."""
    network = card.get("network")
    if not isinstance(network, dict) or "_target_" not in network:
        raise InputError(
            f"{where}: its card tells no network; name it: +classifier.network={{_target_: package.module.Class, ...}}"
        )
    check_network(network, f"{where}: its card", trusted=trusted_names())
    return network


def resolve_spec(cfg: DictConfig, card: dict[str, Any] | None) -> DataSpec:
    """The data that the classifier was trained on: the card's or the data set's, with the keys of `classifier` on top."""
    if card is not None:
        spec = card_spec(card)
    elif cfg.data.name in SPECS:
        spec = (
            SPECS[cfg.data.name]
            if cfg.data.classes is None
            else spec_of_classes(SPECS[cfg.data.name], cfg.data.classes)
        )
    else:
        keys = ("num_classes", "channels", "image_size")
        if missing := [f"classifier.{key}" for key in keys if cfg.classifier[key] is None]:
            raise InputError(
                f"{', '.join(missing)}: must be given, since the checkpoint has no card and data={cfg.data.name} is not a known set"
            )
        channels = cfg.classifier.channels
        spec = DataSpec(
            cfg.data.name,
            cfg.classifier.num_classes,
            channels,
            cfg.classifier.image_size,
            (0.0,) * channels,
            (1.0,) * channels,
            (),
        )
    return spec_with_keys(spec, cfg)


def described_network(cfg: DictConfig) -> dict[str, Any]:
    """The description of the classifier's network: of the config, or else of its card.

    Raises:
        InputError: if neither tells it.
    """
    if cfg.classifier.network:
        network: Any = OmegaConf.to_container(cfg.classifier.network, resolve=True)
        return {str(key): value for key, value in network.items()}
    path = (
        zoo_path(cfg.classifier.zoo)
        if cfg.classifier.zoo is not None
        else Path(cfg.classifier.path)
    )
    return card_network(read_card(path) or {}, f"classifier.path={path}")


def told_card(cfg: DictConfig) -> dict[str, Any]:
    """The card of the classifier that `cfg.classifier` names; empty where it has none."""
    if cfg.classifier.zoo is not None:
        return read_card(zoo_path(cfg.classifier.zoo)) or {}
    return (read_card(Path(cfg.classifier.path)) or {}) if cfg.classifier.path is not None else {}


def told_split(cfg: DictConfig) -> dict[str, Any]:
    """What the classifier's card tells of the images that it was trained on: `SPLIT_KEYS`, and `trained_before`.

    `trained_before` is there and true where other images came before those, which then says of no image that it was not seen
    (`application=finetune`).
    """
    recipe: Any = told_card(cfg).get("recipe", {})
    check_literal(
        recipe, "classifier.path: its card", "recipe"
    )  # what it holds becomes part of a config
    return {key: recipe[key] for key in (*SPLIT_KEYS, "trained_before") if key in recipe}


def load_classifier(cfg: DictConfig) -> FrozenClassifier:
    """Loads the classifier that `cfg.classifier` names, frozen. No data set is touched (A1-16).

    With `classifier.train=true` it is the kept one; while there is none, its weights are untrained, data and recipe are
    checked, and `netinv_lightning.classifiers.cache.train_once` fills the weights in.

    Raises:
        InputError: if weights, network, shapes or feature layers do not fit together.
    """
    network: Any = (
        OmegaConf.to_container(cfg.classifier.network, resolve=True)
        if cfg.classifier.network
        else None
    )
    if cfg.classifier.zoo is not None and cfg.classifier.path is not None:
        raise InputError(
            f"classifier.path={cfg.classifier.path}: classifier.zoo={cfg.classifier.zoo} names other weights already; "
            "add classifier=checkpoint to take yours"
        )
    if cfg.classifier.train:
        from netinv_lightning.classifiers.cache import kept_card, kept_path, untrained

        path = kept_path(cfg)
        if kept_card(path) is None:
            return _announced(untrained(cfg), cfg, None)
    elif cfg.classifier.zoo is not None:
        path = zoo_path(cfg.classifier.zoo)
    elif cfg.classifier.path is not None:
        path = Path(cfg.classifier.path)
    elif network and _has_weights(network):
        spec = resolve_spec(cfg, None)
        return _announced(
            FrozenClassifier(build_network(network, spec), spec, **reading_keys(cfg)), cfg, None
        )
    else:
        raise InputError(
            "classifier.path: no trained weights are named. Take one of the zoo (classifier=zoo), give a checkpoint "
            "(classifier.path=FILE), or train one: classifier.train=true, or first application=train_classifier"
        )
    where = f"classifier.path={path}"
    card = read_card(path)
    spec = resolve_spec(cfg, card)
    if not network and card is not None:
        network = card_network(card, where)
    if not network:
        raise InputError(
            f"{where}: has no card beside it ({path.with_suffix('.json').name}), so say which network it belongs to: "
            "+classifier.network={_target_: package.module.Class, ...}, or classifier=cnn classifier.path=..."
        )
    return _announced(
        _loaded(path, network, spec, **_with_card(reading_keys(cfg), card or {})), cfg, card
    )


def _with_card(keys: dict[str, Any], card: dict[str, Any]) -> dict[str, Any]:
    """The keys, where they have their defaults with what a card says of the network's output."""
    defaults = {"output": None, "output_kind": AUTO}
    return keys | {
        key: card[key]
        for key, value in defaults.items()
        if key in card and keys.get(key, value) == value
    }


def _has_weights(network: Mapping[str, Any]) -> bool:
    """Whether the network comes with its weights: torchvision's or timm's own, or a TorchScript program that the user trusts."""
    return (
        bool(network.get("weights") or network.get("pretrained"))
        or network.get("_target_") == "torch.jit.load"
    )


def _announced(
    classifier: FrozenClassifier, cfg: DictConfig, card: dict[str, Any] | None
) -> FrozenClassifier:
    """The classifier, after what is assumed about its output and its normalisation is printed."""
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
        classifier: The classifier; it keeps `source` for the run's record.
        source: Where mean and standard deviation come from; empty for nowhere.
        given: Whether the user named both.
    """
    classifier.normalisation_source = source or "none"
    notice(classifier.output.describe(classifier.name))
    if not given:
        notice(classifier.describe_normalisation())
    return classifier


def load_zoo(name: str) -> FrozenClassifier:
    """Loads a classifier of the zoo by name alone.

    Raises:
        InputError: if there is none, or its file is damaged.
    """
    return load_carded(zoo_path(name), f"classifier.zoo={name}")


def load_verifiers(asked: Iterable[str]) -> dict[str, FrozenClassifier]:
    """Loads the classifiers of the zoo that `application.verifiers` names, by name.

    Raises:
        InputError: as `load_zoo`.
    """
    return {
        name: load_carded(zoo_path(name, "application.verifiers"), f"application.verifiers={name}")
        for name in asked
    }


def load_carded(path: Path, where: str) -> FrozenClassifier:
    """Loads a classifier by its file and card alone.

    Raises:
        InputError: beginning with `where`, if the card is missing; or if weights or card are damaged.
    """
    card = read_card(path)
    if card is None:
        raise InputError(
            f"{where}: its card is missing ({path.with_suffix('.json').name}); get it again"
        )
    return _loaded(path, card_network(card, where), card_spec(card), **_with_card({}, card))


def _loaded(path: Path, network: dict[str, Any], spec: DataSpec, **keys: Any) -> FrozenClassifier:
    made = build_network(network, spec)
    if said := load_checkpoint(made, path):
        notice(f"classifier.path={path}: {said}")
    return FrozenClassifier(made, spec, **keys)
