"""Facts of the images of a classifier: of its model card, its file, the data set, the config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig

from netinv_lightning.classifiers.architecture import given_shape, spec_with_keys
from netinv_lightning.config.shapes import modality_of
from netinv_lightning.data.specs import SPECS, UNITS, DataSpec, spec_of_classes
from netinv_lightning.errors import InputError, one_line

OWN = "own"
"""Name of the data of a classifier that were not named."""


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


def resolve_spec(
    cfg: DictConfig, card: dict[str, Any] | None, facts: Mapping[str, Any] | None = None
) -> DataSpec:
    """Return the facts of the training data, unless `classifier` overrides them.

    They are those of the model card; else those that the file of the weights contains; else those
    of the data set.

    Args:
        cfg: The config.
        card: The model card; None if there is none.
        facts: What the file contains, as in `formats.described.Described`.

    Raises:
        InputError: if a fact is unknown, or fewer than 2 classes are left.
    """
    if card is not None:
        return spec_with_keys(card_spec(card), cfg)
    data = _data_spec(cfg)
    keys = {key: cfg.classifier[key] for key in ("num_classes", "mean", "std")}
    given = given_shape(cfg) | {key: value for key, value in keys.items() if value is not None}
    known = {**(facts or {}), **given}
    if data is not None and _same_kind(data, given) and _fits(data, known if facts else {}):
        kept: dict[str, tuple[float, ...]]
        kept = {key: tuple(known[key]) for key in ("mean", "std") if key in known}
        return spec_with_keys(replace(data, **_expanded(kept, data.channels)), cfg)
    if missing := [f"classifier.{key}" for key in UNITS if key not in known]:
        raise InputError(
            f"{', '.join(missing)}: must be given, because the checkpoint has no model card "
            f"and data={cfg.data.name} is not "
            + ("a known set" if data is None else "what it was trained on")
            + "; the shape of signals and tables is classifier.shape=[C,L] or [features]"
        )
    shape = {key: known[key] for key in UNITS}
    names = tuple(known.get("class_names", ()))
    statistics = {"mean": (0.0,), "std": (1.0,)}
    statistics |= {key: tuple(known[key]) for key in statistics if key in known}
    own = DataSpec(
        name=cfg.data.name if data is None else OWN,
        **shape,
        **_expanded(statistics, known["channels"]),
        class_names=names if len(names) == known["num_classes"] else (),
    )
    return spec_with_keys(own, cfg)


def _data_spec(cfg: DictConfig) -> DataSpec | None:
    """Return the facts of the data set that `data` names; None if it is not known by name."""
    spec = SPECS.get(cfg.data.name)
    return (
        spec
        if spec is None or cfg.data.classes is None
        else spec_of_classes(spec, cfg.data.classes)
    )


def _same_kind(data: DataSpec, given: Mapping[str, Any]) -> bool:
    """Return whether a network of the given shape may take inputs of the data set.

    A data set may be the default of the config, which says nothing about the network.
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
