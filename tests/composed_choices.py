"""Hydra reads and merges the files of the same choices once, and applies values to a copy.

Most of the time of `compose` goes into the files, which are the same for all overrides that choose
the same ones. Only the files of `conf` are remembered; others may change.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.defaults_list import DefaultsList, Overrides, create_defaults_list
from hydra.core.config_store import ConfigStore
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from netinv_lightning.config.registration import CONF

Choices = tuple[object, ...]


def stored(group: Any) -> int:
    """Return the number of configs in a group of Hydra's config store."""
    return sum(map(stored, group.values())) if isinstance(group, dict) else 1


def choices(
    repo: IConfigRepository, overrides: Sequence[Override], values: Sequence[Override]
) -> Choices | None:
    """Return what determines the files that are read; None if they may change."""
    sources = [(source.scheme(), source.path) for source in repo.get_sources()]
    if any(scheme == "file" and path != str(CONF) for scheme, path in sources):
        return None
    of_values = set(map(id, values))
    chosen = (override.input_line for override in overrides if id(override) not in of_values)
    return (stored(ConfigStore.instance().repo), *sources, *chosen)


def remember_choices(patch: pytest.MonkeyPatch) -> None:
    """Let Hydra remember the merged files of each set of choices for as long as the patch lasts."""
    list_files = create_defaults_list
    merge = ConfigLoaderImpl._compose_config_from_defaults_list
    lists: dict[Choices, DefaultsList] = {}
    merged: dict[int, DictConfig | None] = {}

    def remembered_list(
        repo: IConfigRepository, config_name: str | None, overrides_list: list[Override], **how: Any
    ) -> DefaultsList:
        values = Overrides(repo=repo, overrides_list=overrides_list).config_overrides
        found = choices(repo, overrides_list, values)
        if found is None:
            return list_files(repo, config_name, overrides_list, **how)
        key = (config_name, *how.items(), *found)
        if key not in lists:
            lists[key] = list_files(repo, config_name, overrides_list, **how)
            merged[id(lists[key].defaults)] = None
        return replace(lists[key], config_overrides=values)

    def remembered_merge(
        self: ConfigLoaderImpl, defaults: list[ResultDefault], repo: IConfigRepository
    ) -> DictConfig:
        if id(defaults) not in merged:
            return merge(self, defaults=defaults, repo=repo)
        if (known := merged[id(defaults)]) is None:
            known = merged[id(defaults)] = merge(self, defaults=defaults, repo=repo)
        return copy.deepcopy(known)

    patch.setattr(f"{ConfigLoaderImpl.__module__}.create_defaults_list", remembered_list)
    patch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", remembered_merge)
