"""Find the properties of a classifier's training data (`DataSpec`).

The sources are the config, the model card, the file of the weights, and the data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from netinv_lightning.classifiers.architecture import given_shape, spec_with_keys
from netinv_lightning.config.schema import ClassifierConfig, DataConfig
from netinv_lightning.config.shapes import modality_of
from netinv_lightning.data.specs import SPECS, UNITS, DataSpec, spec_of_classes
from netinv_lightning.errors import InputError, one_line

OWN = "own"
"""Name in the `DataSpec` of a classifier whose training data are unknown."""


def card_spec(card: dict[str, Any]) -> DataSpec:
    """Return the properties of the training data that a model card contains."""
    try:
        known: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in card["data"].items()
        }
        return DataSpec(**known)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"classifier.path: the card {card.get('name', '')} has no valid entry data "
            f"({one_line(error)}); download it again"
        ) from error


def resolve_spec(
    keys: ClassifierConfig,
    data: DataConfig,
    card: dict[str, Any] | None,
    facts: Mapping[str, Any] | None = None,
) -> DataSpec:
    """Return the properties of the training data.

    The first source that exists is used: the model card, the file of the weights, the data set.
    Keys of `classifier` override it.

    Args:
        keys: The config keys `classifier`.
        data: The config keys `data`.
        card: The model card; None if there is none.
        facts: What the file contains, as in `formats.described.Described`.

    Raises:
        InputError: if a property is unknown, or fewer than 2 classes are left.
    """
    if card is not None:
        return spec_with_keys(card_spec(card), keys)
    known_set = _data_spec(data)
    others = {key: getattr(keys, key) for key in ("num_classes", "mean", "std")}
    given = given_shape(keys) | {key: value for key, value in others.items() if value is not None}
    known = {**(facts or {}), **given}
    if (
        known_set is not None
        and _same_kind(known_set, given)
        and _fits(known_set, known if facts else {})
    ):
        kept: dict[str, tuple[float, ...]]
        kept = {key: tuple(known[key]) for key in ("mean", "std") if key in known}
        return spec_with_keys(replace(known_set, **_expanded(kept, known_set.channels)), keys)
    if missing := [f"classifier.{key}" for key in UNITS if key not in known]:
        raise InputError(
            f"{', '.join(missing)}: must be given, because the checkpoint has no model card "
            f"and data={data.name} is not "
            + ("a known set" if known_set is None else "what it was trained on")
            + "; the shape of signals and tables is classifier.shape=[C,L] or [features]"
        )
    shape = {key: known[key] for key in UNITS}
    names = tuple(known.get("class_names", ()))
    statistics = {"mean": (0.0,), "std": (1.0,)}
    statistics |= {key: tuple(known[key]) for key in statistics if key in known}
    own = DataSpec(
        name=data.name if known_set is None else OWN,
        **shape,
        **_expanded(statistics, known["channels"]),
        class_names=names if len(names) == known["num_classes"] else (),
    )
    return spec_with_keys(own, keys)


def _data_spec(data: DataConfig) -> DataSpec | None:
    """Return the properties of the data set that `data` names; None if its name is not known."""
    spec = SPECS.get(data.name)
    return spec if spec is None or data.classes is None else spec_of_classes(spec, data.classes)


def _same_kind(data: DataSpec, given: Mapping[str, Any]) -> bool:
    """Return whether a network of the given shape may take inputs of the data set.

    They may not fit, because the data set may just be the default of the config.
    """
    modality = modality_of(given.get("image_size", data.image_size))
    return modality == data.modality and given.get("channels", data.channels) == data.channels


def _fits(data: DataSpec, known: Mapping[str, Any]) -> bool:
    return all(known.get(key, getattr(data, key)) == getattr(data, key) for key in UNITS)


def _expanded(statistics: Mapping[str, tuple[float, ...]], channels: int) -> dict[str, Any]:
    """Return mean and standard deviation with one number per channel."""
    return {
        key: values * channels if len(values) == 1 else values for key, values in statistics.items()
    }
