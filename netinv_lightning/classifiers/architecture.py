"""Build the network that `classifier.network` describes, with the shape of the data."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from hydra.errors import InstantiationException
from torch import nn

from netinv_lightning.config.allowed_targets import TIMM
from netinv_lightning.config.description_check import TIMM_NAME
from netinv_lightning.config.instantiate import construct, module_of
from netinv_lightning.config.schema import ClassifierConfig
from netinv_lightning.config.shapes import checked_shape
from netinv_lightning.data.specs import UNITS, DataSpec
from netinv_lightning.errors import InputError, nearest, one_line
from netinv_lightning.runs.notices import notice

OWN_NETWORKS = "netinv_lightning.classifiers.networks."
ANY = ("images", "signals", "tables")
MODALITIES = {"MLP": ANY, "BinarisedMLP": ANY, "SignalFCN": ("signals",)}
"""Modalities that the package's own networks accept; networks not listed accept images only."""
FOR_MODALITY = {"images": "cnn", "signals": "signal_fcn", "tables": "mlp"}
"""The config group of `conf/classifier` that messages suggest for each modality."""
SHAPE = {
    "num_classes": "num_classes",
    "channels": "channels",
    "image_size": "image_size",
    "in_chans": "channels",
    "img_size": "image_size",
}
"""Arguments of networks, and the field of `DataSpec` that is their default."""
SPEC_KEYS = ("num_classes", "mean", "std", "bounds", "groups")
"""Keys of `classifier`, besides `SHAPE_KEYS`, that override values of the model card or of the data
set."""
SHAPE_KEYS = ("shape", "channels", "image_size")


def build_network(network: Mapping[Any, Any], spec: DataSpec) -> nn.Module:
    """Build the network that `classifier.network` describes.

    The package's own networks always get the number of classes, the channels and the size of the
    data. Another network gets them only for those arguments in `SHAPE` that its description sets to
    null.

    Raises:
        InputError: if it cannot be built.
    """
    keywords, target = dict(network), str(network.get("_target_", ""))
    own_network = target.startswith(OWN_NETWORKS)
    takes = MODALITIES.get(target.removeprefix(OWN_NETWORKS), ("images",))
    if own_network and spec.modality not in takes:
        raise InputError(
            f"classifier.network._target_={target}: takes {takes[0]}, but the data are "
            f"{spec.modality}. Set classifier={FOR_MODALITY[spec.modality]}"
        )
    for key, fact in SHAPE.items():
        own = own_network and key in UNITS
        if own or (key in keywords and keywords[key] is None):
            keywords[key] = keywords.get(key) or getattr(spec, fact)
    return construct_network(keywords)


def construct_network(network: Mapping[Any, Any]) -> nn.Module:
    """Build a network from a complete description.

    Raises:
        InputError: if it cannot be built, or timm would have to download it.
    """
    keywords, target = with_model_name(network), str(network.get("_target_", ""))
    try:
        made = construct(keywords, "classifier.network")
    except InstantiationException as error:
        why = _without(target) or one_line(error.__cause__ or error)
        raise InputError(f"classifier.network: cannot be built ({why})") from error
    if not isinstance(made, nn.Module):
        raise InputError(
            f"classifier.network._target_={target}: returns a {type(made).__name__}; must return "
            "a torch.nn.Module"
        )
    return made


def with_model_name(network: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return the description of a timm network with its key `name` renamed to timm's `model_name`.

    Other descriptions are returned unchanged.

    Raises:
        InputError: if the name refers to a download or to a folder.
    """
    keywords = dict(network)
    if network.get("_target_") != TIMM:
        return keywords
    name = keywords.pop("name", None)
    if (old := keywords.get("model_name")) is not None:
        if "name" in network:
            notice("classifier.network.model_name: is now classifier.network.name")
        name = old
    if not TIMM_NAME.fullmatch(str(name)):
        raise InputError(
            f"classifier.network.name={name}: must be a name of timm.list_models(); nothing is "
            "downloaded. For a folder of the hub: classifier=hf classifier.path=FOLDER"
        )
    return {**keywords, "model_name": name}


def _without(target: str) -> str:
    """Return a line such as `mynet has no Tinny; did you mean 'Tiny'?`.

    It is empty if the module cannot be imported, or contains the name.
    """
    module_name, _, name = target.rpartition(".")
    with suppress(Exception):  # foreign code may raise anything
        module = module_of(target, "classifier.network._target_")
        if not hasattr(module, name):
            networks = [
                known
                for known, value in vars(module).items()
                if isinstance(value, type) and issubclass(value, nn.Module)
            ]
            return f"{module_name} has no {name}; {nearest(name, networks)}"
    return ""


def reading_keys(keys: ClassifierConfig) -> dict[str, Any]:
    """Return the keys of `classifier` that are arguments of `FrozenClassifier`."""
    return {key: getattr(keys, key) for key in ("feature_layers", "output", "output_kind")}


def given_shape(keys: ClassifierConfig) -> dict[str, Any]:
    """Return `channels` and `image_size` as far as `classifier` contains them."""
    if keys.shape is not None:
        channels, image_size = checked_shape(keys.shape, "classifier.shape")
        return {"channels": channels, "image_size": image_size}
    return {
        key: value
        for key in ("channels", "image_size")
        if (value := getattr(keys, key)) is not None
    }


def spec_with_keys(spec: DataSpec, keys: ClassifierConfig) -> DataSpec:
    """Return `spec` with the values that `classifier` overrides.

    Raises:
        InputError: if fewer than 2 classes are left.
    """
    given: dict[str, Any] = {
        key: value if key == "num_classes" else tuple(value)
        for key in SPEC_KEYS
        if (value := getattr(keys, key)) is not None
    }
    spec = replace(spec, **given, **given_shape(keys))
    if spec.num_classes < 2:
        raise InputError(
            f"classifier.num_classes={spec.num_classes}: must be 2 or more; a network that returns "
            "one number per image has 2 classes"
        )
    if len(spec.class_names) != spec.num_classes:
        spec = replace(spec, class_names=tuple(str(label) for label in range(spec.num_classes)))
    return spec
