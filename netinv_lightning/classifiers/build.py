"""Load the frozen classifier that a config names: its network, weights and `DataSpec`.

Values that `classifier` does not set are read from the model card, then from the data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from netinv_lightning.classifiers.architecture import build_network, reading_keys
from netinv_lightning.classifiers.assumptions import print_assumptions, print_inferred
from netinv_lightning.classifiers.black_box import BlackBox, BlackBoxClassifier
from netinv_lightning.classifiers.black_box_command import command_answer
from netinv_lightning.classifiers.checkpoints import load_checkpoint, read_card
from netinv_lightning.classifiers.formats.described import read_described
from netinv_lightning.classifiers.formats.recognise import format_of
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.named_weights import (
    named_weights,
    network_missing,
    require_weights,
)
from netinv_lightning.classifiers.outputs import AUTO
from netinv_lightning.classifiers.published import facts_of_weights, published_facts
from netinv_lightning.classifiers.spec_sources import card_spec, resolve_spec
from netinv_lightning.classifiers.zoo import zoo_path
from netinv_lightning.config.allowed_targets import check_command, trusted_names
from netinv_lightning.config.black_box_keys import (
    check_black_box_named,
    dotted,
    names_black_box,
)
from netinv_lightning.config.description_check import check_literal, check_network
from netinv_lightning.config.instantiate import locate
from netinv_lightning.config.plain import plain_dict
from netinv_lightning.data.specs import SPECS, DataSpec
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.runs.notices import notice

TORCHSCRIPT = "torch.jit.load"
"""A target that runs code from a file; only the user's command line or `trusted` may name it."""
SPLIT_KEYS = ("val_fraction", "subset_size", "split_seed", "classes")
"""Keys of `data` that determine which images a classifier was trained on."""


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


def described_network(cfg: DictConfig) -> dict[str, Any]:
    """Return the description of the network from the config, else from the model card.

    Raises:
        InputError: if neither contains one.
    """
    if network := _network_of(cfg):
        return network
    path = named_weights(cfg.classifier)
    assert path is not None
    if kind := format_of(path):
        raise InputError(
            f"classifier.path={path}: a {kind} network cannot be trained further; give its "
            "state_dict() and its class: classifier=checkpoint +classifier.network={_target_: ...}"
        )
    return card_network(read_card(path) or {}, f"classifier.path={path}")


def named_card(cfg: DictConfig) -> dict[str, Any]:
    """Return the model card of the classifier that the config names; empty if it has none."""
    path = named_weights(cfg.classifier)
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
    if names_black_box(cfg.classifier):
        return _black_box(cfg)
    path = named_weights(cfg.classifier)
    if cfg.classifier.train:
        from netinv_lightning.classifiers.cache import cache_path, cached_card, untrained

        path = cache_path(cfg)
        if cached_card(path) is None:
            return _print_assumptions(untrained(cfg), cfg, None)
    network = _network_of(cfg)
    if network.get("_target_") == TORCHSCRIPT or (path is None and _has_weights(network)):
        return _with_own_weights(cfg, network)
    if path is None:
        raise InputError(
            "classifier.path: no trained weights are named. Use a classifier from the zoo "
            "(classifier=zoo), give a checkpoint (classifier.path=FILE), or train a classifier: "
            "classifier.train=true, or first application=train_classifier"
        )
    require_weights(path)
    if not network and format_of(path):
        return _described(cfg, path)
    return _from_file(cfg, path, network)


def load_with_layer(cfg: DictConfig, layer: str, key: str) -> FrozenClassifier:
    """Load the classifier with one more feature layer.

    Args:
        cfg: The config.
        layer: Name of the layer.
        key: The key that names it, for the message.

    Raises:
        InputError: as `load_classifier`; or naming the key, if the network has no such layer.
    """
    if layer in cfg.classifier.feature_layers:
        return load_classifier(cfg)
    cfg = cfg.copy()
    cfg.classifier.feature_layers.append(layer)
    try:
        return load_classifier(cfg)
    except InputError as error:
        named = f"classifier.feature_layers={layer}:"
        raise InputError(str(error).replace(named, f"{key}={layer}:")) from error


def _black_box(cfg: DictConfig) -> FrozenClassifier:
    """Return the black box that `classifier.callable` or `classifier.command` names."""
    check_black_box_named(cfg)
    keys = cfg.classifier
    if keys.callable:
        name, target = f"classifier.callable={keys.callable}", dotted(keys.callable)
        try:
            answer = locate(target, "classifier.callable")
        except (ImportError, AttributeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{name}: cannot be imported ({one_line(error)})") from error
        if not callable(answer):
            raise InputError(f"{name}: is a {type(answer).__name__}; must be a function")
    else:
        name = f"classifier.command={list(keys.command)}"
        check_command(keys.command)
        answer = command_answer(list(keys.command))
    classifier = BlackBoxClassifier(
        BlackBox(answer, name),
        resolve_spec(cfg.classifier, cfg.data, None, {"mean": (0.0,), "std": (1.0,)}),
        output=keys.output,
        output_kind=keys.output_kind,
        directions=keys.query_directions,
        sigma=keys.query_sigma,
    )
    given = keys.mean is not None and keys.std is not None
    return print_assumptions(classifier, "the config" if given else "", given)


def _network_of(cfg: DictConfig) -> dict[str, Any]:
    """Return `classifier.network` as plain containers; empty if it names no network."""
    return plain_dict(cfg.classifier.network) if cfg.classifier.network else {}


def _with_own_weights(cfg: DictConfig, network: dict[str, Any]) -> FrozenClassifier:
    """Build a network whose constructor loads its weights, such as torchvision's `weights=...`."""
    facts = published_facts(network) if network.get("num_classes") is None else {}
    spec = resolve_spec(cfg.classifier, cfg.data, None, facts)
    classifier = FrozenClassifier(
        build_network(network, spec), spec, **reading_keys(cfg.classifier)
    )
    return _print_assumptions(classifier, cfg, None, "its published weights" if facts else "")


def _described(cfg: DictConfig, path: Path) -> FrozenClassifier:
    """Read a file or folder that describes its own network."""
    found = read_described(path)
    spec = resolve_spec(cfg.classifier, cfg.data, None, found.facts)
    keys = _with_card(reading_keys(cfg.classifier), found.facts)
    classifier = FrozenClassifier(found.network, spec, **keys)
    print_inferred(path, found.facts, found.source)
    return _print_assumptions(classifier, cfg, None, found.source if "mean" in found.facts else "")


def _from_file(cfg: DictConfig, path: Path, network: dict[str, Any]) -> FrozenClassifier:
    """Load weights from a file into the network of the config or of the model card."""
    card = read_card(path)
    if not network and card is not None:
        network = card_network(card, f"classifier.path={path}")
    if not network:
        raise network_missing(path)
    facts = facts_of_weights(network, path) if card is None else {}
    spec, source = resolve_spec(cfg.classifier, cfg.data, card, facts), "the published weights"
    keys = _with_card(reading_keys(cfg.classifier), card or {})
    classifier = _loaded(path, network, spec, **keys)
    classifier.card = card or {}
    print_inferred(path, facts, source)
    return _print_assumptions(classifier, cfg, card, source if "mean" in facts else "")


def _with_card(keys: dict[str, Any], card: dict[str, Any]) -> dict[str, Any]:
    """Return the keys; `output` and `output_kind` are read from the card if they are defaults."""
    defaults = {"output": None, "output_kind": AUTO}
    return keys | {
        key: card[key]
        for key, value in defaults.items()
        if key in card and keys.get(key, value) == value
    }


def _has_weights(network: Mapping[str, Any]) -> bool:
    """Return whether the constructor loads weights, as in torchvision and timm."""
    return bool(network.get("weights") or network.get("pretrained"))


def _print_assumptions(
    classifier: FrozenClassifier, cfg: DictConfig, card: dict[str, Any] | None, source: str = ""
) -> FrozenClassifier:
    """Print what is assumed about output and normalisation; return the classifier.

    `source` names where mean and standard deviation come from if it is neither card nor data.
    """
    if card is not None:
        source = "the model card"
    elif not source and classifier.spec.name in SPECS:
        source = f"data={classifier.spec.name}"
    if cfg.classifier.train and not source:
        source = "the training images"
    given = [f"classifier.{key}" for key in ("mean", "std") if cfg.classifier[key] is not None]
    return print_assumptions(
        classifier,
        " and ".join(given + [source] * (len(given) < 2 and bool(source))),
        given=len(given) == 2,
    )


def load_zoo(name: str) -> FrozenClassifier:
    """Load a classifier from the zoo by its name.

    Raises:
        InputError: if there is no classifier of that name, or its file is damaged.
    """
    return load_carded(zoo_path(name), f"classifier.zoo={name}")


def load_carded(path: Path, where: str) -> FrozenClassifier:
    """Load a classifier from its file and model card.

    Raises:
        InputError: beginning with `where`, if the card is missing; or if a file is damaged.
    """
    card = read_card(path)
    if card is None:
        raise InputError(
            f"{where}: its model card {path.with_suffix('.json').name} is missing; restore it"
        )
    made = _loaded(path, card_network(card, where), card_spec(card), **_with_card({}, card))
    made.card = card
    return made


def _loaded(path: Path, network: dict[str, Any], spec: DataSpec, **keys: Any) -> FrozenClassifier:
    made = build_network(network, spec)
    if note := load_checkpoint(made, path):
        notice(f"classifier.path={path}: {note}")
    return FrozenClassifier(made, spec, **keys)
