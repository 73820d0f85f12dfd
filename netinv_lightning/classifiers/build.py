"""From config to classifier: which network, for which data, with which weights.

What is not said in `classifier` comes from the checkpoint's card, and what the card does not say from the data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from netinv_lightning.classifiers.checkpoint import fill, load_weights, read_card
from netinv_lightning.classifiers.classifier import FrozenClassifier
from netinv_lightning.classifiers.zoo import zoo_path
from netinv_lightning.data.spec import SPECS, DataSpec
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.trust import check_targets

OWN_NETWORKS = "netinv_lightning.classifiers.networks."
SHAPE = {"num_classes": "num_classes", "channels": "channels", "image_size": "image_size", "in_chans": "channels", "img_size": "image_size"}
"""Arguments of networks, by the fact of the data that fills them in."""


def build_network(network: Mapping[Any, Any], spec: DataSpec) -> nn.Module:
    """Makes the network that `classifier.network` describes.

    Our own networks are told the classes, channels and size of the data; for others, keys of `SHAPE` that are null are.

    Raises:
        InputError: if it cannot be made.
    """
    keywords = dict(network)
    for key, fact in SHAPE.items():
        own = key in ("num_classes", "channels", "image_size") and str(network.get("_target_", "")).startswith(OWN_NETWORKS)
        if own or (key in keywords and keywords[key] is None):
            keywords[key] = keywords.get(key) or getattr(spec, fact)
    try:
        made = instantiate(keywords)
    except InstantiationException as error:
        raise InputError(f"classifier.network: cannot be made: {one_line(error.__cause__ or error)}") from error
    if not isinstance(made, nn.Module):
        raise InputError(
            f"classifier.network._target_={network.get('_target_')}: gives a {type(made).__name__}, must give a torch.nn.Module"
        )
    return made


def card_spec(card: dict[str, Any]) -> DataSpec:
    """The data that a card tells of."""
    try:
        known: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in card["data"].items()}
        return DataSpec(**known)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"classifier.path: the card {card.get('name', '')} does not tell its data ({one_line(error)}); get it again"
        ) from error


def card_network(card: dict[str, Any], where: str) -> dict[str, Any]:
    """The network that a card tells of, never any other code."""
    network = card.get("network")
    if not isinstance(network, dict) or "_target_" not in network:
        raise InputError(f"{where}: its card tells no network; name it: +classifier.network={{_target_: package.module.Class, ...}}")
    check_targets({"classifier.network": network}, f"{where}: its card")
    return network


def resolve_spec(cfg: DictConfig, card: dict[str, Any] | None) -> DataSpec:
    """The data that the classifier was trained on: the card's or the data set's, with the keys of `classifier` on top."""
    if card is not None:
        spec = card_spec(card)
    elif cfg.data.name in SPECS:
        spec = SPECS[cfg.data.name]
    else:
        keys = ("num_classes", "channels", "image_size")
        if missing := [f"classifier.{key}" for key in keys if cfg.classifier[key] is None]:
            raise InputError(
                f"{', '.join(missing)}: must be given, since the checkpoint has no card and data={cfg.data.name} is not a known set"
            )
        channels = cfg.classifier.channels
        spec = DataSpec(
            cfg.data.name, cfg.classifier.num_classes, channels, cfg.classifier.image_size, (0.0,) * channels, (1.0,) * channels, ()
        )
    given: dict[str, Any] = {
        key: tuple(value) if key in ("mean", "std") else value
        for key in ("num_classes", "channels", "image_size", "mean", "std")
        if (value := cfg.classifier[key]) is not None
    }
    spec = replace(spec, **given)
    if spec.num_classes < 2:
        raise InputError(f"classifier.num_classes={spec.num_classes}: must be 2 or more")
    if len(spec.class_names) != spec.num_classes:
        spec = replace(spec, class_names=tuple(str(label) for label in range(spec.num_classes)))
    return spec


def load_classifier(cfg: DictConfig) -> FrozenClassifier:
    """Loads the classifier that `cfg.classifier` names, frozen. No data set is touched (A1-16).

    Raises:
        InputError: if weights, network, shapes or feature layers do not fit together.
    """
    network: Any = OmegaConf.to_container(cfg.classifier.network, resolve=True) if cfg.classifier.network else None
    if cfg.classifier.zoo is not None and cfg.classifier.path is not None:
        raise InputError(
            f"classifier.path={cfg.classifier.path}: classifier.zoo={cfg.classifier.zoo} names other weights already; "
            "add classifier=checkpoint to take yours"
        )
    if cfg.classifier.zoo is not None:
        path = zoo_path(cfg.classifier.zoo)
    elif cfg.classifier.path is not None:
        path = Path(cfg.classifier.path)
    elif network and (network.get("weights") or network.get("pretrained")):  # torchvision's or timm's own
        spec = resolve_spec(cfg, None)
        return FrozenClassifier(build_network(network, spec), spec, cfg.classifier.feature_layers)
    else:
        raise InputError(
            "classifier.path: no trained weights are named. Take one of the zoo (classifier=zoo), give a checkpoint "
            "(classifier.path=FILE), or train one first: application=train_classifier"
        )
    card = read_card(path)
    spec = resolve_spec(cfg, card)
    if not network and card is not None:
        network = card_network(card, f"classifier.path={path}")
    if not network:
        raise InputError(
            f"classifier.path={path}: has no card beside it ({path.with_suffix('.json').name}), so say which network it belongs to: "
            "+classifier.network={_target_: package.module.Class, ...}, or classifier=cnn classifier.path=..."
        )
    made = build_network(network, spec)
    fill(made, load_weights(path), f"classifier.path={path}")
    return FrozenClassifier(made, spec, cfg.classifier.feature_layers)


def load_zoo(name: str) -> FrozenClassifier:
    """Loads a classifier of the zoo by name alone.

    Raises:
        InputError: if there is none, or its file is damaged.
    """
    path = zoo_path(name)
    card = read_card(path)
    if card is None:
        raise InputError(f"classifier.zoo={name}: its card is missing; install the package again")
    spec = card_spec(card)
    network = build_network(card_network(card, f"classifier.zoo={name}"), spec)
    fill(network, load_weights(path), f"classifier.zoo={name}")
    return FrozenClassifier(network, spec)
