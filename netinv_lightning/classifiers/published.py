"""What torchvision, timm and others publish about their weights: classes and preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from netinv_lightning.classifiers import efficientnet_lite
from netinv_lightning.classifiers.architecture import construct_network, with_model_name
from netinv_lightning.classifiers.checkpoints import read_state_dicts
from netinv_lightning.classifiers.state_dicts import match
from netinv_lightning.config.allowed_targets import GET_MODEL, TIMM, TORCHVISION

EFFICIENTNET_LITE = "netinv_lightning.classifiers.efficientnet_lite.efficientnet_lite"


def facts_of_weights(network: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the properties of the weights in a file for a network of torchvision or timm.

    The weights count as the published ones if they have the same number of classes and channels;
    then mean, standard deviation, size and class names are the published ones. For other weights
    only the numbers of classes and channels are returned, read from their shapes.

    Args:
        network: The description, as in `classifier.network`.
        path: The file of the weights.

    Returns:
        Properties as in `formats.described.Described`; none for other networks, and for those whose
        number of classes is given.
    """
    published = published_facts(network, path.name)
    if not published or network.get("num_classes") is not None:
        return {}
    sizes = {"num_classes": published["num_classes"]}
    if network.get("_target_") == TIMM:
        sizes["in_chans"] = network.get("in_chans") or published["channels"]
    made = construct_network({**network, **sizes})
    weights, _ = match(read_state_dicts(path), made, f"classifier.path={path}")
    changed = _other_sizes(made, weights, published["num_classes"], published["channels"])
    return changed or published


def published_facts(network: Mapping[str, Any], file: str = "") -> dict[str, Any]:
    """Return what is published about the weights of a network.

    Args:
        network: The description.
        file: Name of a file of weights; torchvision has several for a network.

    Returns:
        Properties as in `formats.described.Described`; empty if nothing is published.
    """
    target = str(network.get("_target_"))
    if target == TIMM:
        return _of_timm(str(with_model_name(network)["model_name"]))
    if target == GET_MODEL:
        return _of_torchvision(str(network.get("name")), file, network.get("weights"))
    if target == EFFICIENTNET_LITE:
        return efficientnet_lite.published(network.get("variant", 0))
    if found := TORCHVISION.fullmatch(target):
        return _of_torchvision(found[1], file, network.get("weights"))
    return {}


def _of_timm(name: str) -> dict[str, Any]:
    try:
        from timm.models import get_pretrained_cfg
    except ImportError:  # building the network raises an error that names the missing extra
        return {}
    try:
        published: Any = get_pretrained_cfg(name)
    except (RuntimeError, ValueError, KeyError):
        return {}
    if published is None or not published.num_classes:
        return {}
    channels, height, width = published.input_size
    facts = {
        "num_classes": published.num_classes,
        "channels": channels,
        "mean": list(published.mean),
        "std": list(published.std),
    }
    return facts | ({"image_size": height} if height == width else {})


def _of_torchvision(name: str, file: str, asked: Any) -> dict[str, Any]:
    from torchvision import models

    try:
        all_weights = list(models.get_model_weights(name))
    except (ValueError, AttributeError):
        return {}
    if not all_weights:
        return {}
    default: Any = type(all_weights[0]).DEFAULT  # type: ignore[attr-defined]
    chosen: Any = next(
        (w for w in all_weights if w.url.rpartition("/")[2] == file or w.name == str(asked)),
        default,
    )
    steps = chosen.transforms()
    crop = getattr(steps, "crop_size", None)
    if not crop or "categories" not in chosen.meta:
        return {}
    return {
        "num_classes": len(chosen.meta["categories"]),
        "channels": len(steps.mean),
        "image_size": int(crop[0]),
        "mean": list(steps.mean),
        "std": list(steps.std),
        "class_names": list(chosen.meta["categories"]),
    }


def _other_sizes(
    network: nn.Module, weights: Mapping[str, Tensor], classes: int, channels: int
) -> dict[str, int]:
    """Return those of `num_classes` and `channels` in which weights differ from the network."""
    found: dict[str, int] = {}
    for name, own in network.state_dict().items():
        given = weights.get(name)
        if given is None or given.shape == own.shape or given.dim() != own.dim():
            continue
        if own.shape[:1] == (classes,) and own.shape[1:] == given.shape[1:]:
            found["num_classes"] = given.shape[0]
        elif own.dim() > 1 and own.shape[1] == channels and own.shape[2:] == given.shape[2:]:
            found["channels"] = given.shape[1]
    return {"num_classes": classes, **found} if found else {}
