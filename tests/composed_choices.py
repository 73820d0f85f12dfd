"""Hydra reads and merges the files of the same choices once, and applies values to a copy.

Most of the time of `compose` goes into the files, which are the same for all overrides that choose
the same ones. Only the files of `conf` are remembered; others may change.

Hydra has no public place between the files and the values: `hydra.compose` does both, and a
`ConfigSource` of one's own could save the parsing alone, which is a sixth of the time. Three
private functions are therefore replaced while the tests run: `create_defaults_list`, which lists
the files of the choices, `ConfigLoaderImpl._compose_config_from_defaults_list`, which merges them,
and `ConfigLoaderImpl._process_config_searchpath`, which looks for `hydra.searchpath`. A version of
Hydra in which one is missing or takes other arguments is left as it is (`reason_not_to_patch`); the
tests are then slower, and otherwise the same.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import hydra
import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from netinv_lightning.config.registration import CONF

Choices = tuple[object, ...]
LOADER, LISTS = "hydra._internal.config_loader_impl", "hydra._internal.defaults_list"
PRIVATE = {
    (LOADER, "create_defaults_list"): {"repo", "config_name", "overrides_list"},
    (LOADER, "ConfigLoaderImpl._compose_config_from_defaults_list"): {"self", "defaults", "repo"},
    (LOADER, "ConfigLoaderImpl._process_config_searchpath"): {"self", "config_name", "repo"},
    (LISTS, "Overrides"): {"repo", "overrides_list"},
    (LISTS, "DefaultsList"): {"defaults", "config_overrides"},
}
"""The private functions and classes of Hydra that are used, and arguments that they must have."""


def reason_not_to_patch() -> str:
    """Return what this version of Hydra lacks of `PRIVATE`; empty if it has everything."""
    for (module, name), arguments in PRIVATE.items():
        try:
            found: Any = import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
            lacking = arguments - set(inspect.signature(found).parameters)
        except (ImportError, AttributeError):
            lacking = {name}
        if lacking:
            return f"Hydra {hydra.__version__}: {module}.{name} lacks {', '.join(sorted(lacking))}"
    return ""


def stored(group: Any) -> int:
    """Return the number of configs in a group of Hydra's config store."""
    return sum(map(stored, group.values())) if isinstance(group, dict) else 1


def choices(repo: Any, overrides: Sequence[Override], values: Sequence[Override]) -> Choices | None:
    """Return what determines the files that are read; None if they may change."""
    sources = [(source.scheme(), source.path) for source in repo.get_sources()]
    if any(scheme == "file" and path != str(CONF) for scheme, path in sources):
        return None
    of_values = set(map(id, values))
    chosen = (override.input_line for override in overrides if id(override) not in of_values)
    return (stored(ConfigStore.instance().repo), *sources, *chosen)


def remember_choices(patch: pytest.MonkeyPatch) -> None:
    """Let Hydra remember the merged files of each set of choices for as long as the patch lasts.

    With a version of Hydra that cannot be patched, nothing is remembered.
    """
    if reason_not_to_patch():
        return
    loading, listing = import_module(LOADER), import_module(LISTS)
    list_files = loading.create_defaults_list
    merge = loading.ConfigLoaderImpl._compose_config_from_defaults_list
    add_folders = loading.ConfigLoaderImpl._process_config_searchpath
    lists: dict[Choices, Any] = {}
    merged: dict[int, DictConfig | None] = {}

    def remembered_list(
        repo: Any, config_name: str | None, overrides_list: list[Override], **how: Any
    ) -> Any:
        values = listing.Overrides(repo=repo, overrides_list=overrides_list).config_overrides
        found = choices(repo, overrides_list, values)
        if found is None:
            return list_files(repo, config_name, overrides_list, **how)
        key = (config_name, *how.items(), *found)
        if key not in lists:
            lists[key] = list_files(repo, config_name, overrides_list, **how)
            merged[id(lists[key].defaults)] = None
        return replace(lists[key], config_overrides=values)

    def remembered_merge(self: Any, defaults: list[ResultDefault], repo: Any) -> DictConfig:
        if id(defaults) not in merged:
            found: DictConfig = merge(self, defaults=defaults, repo=repo)
            return found
        if (known := merged[id(defaults)]) is None:
            known = merged[id(defaults)] = merge(self, defaults=defaults, repo=repo)
        return copy.deepcopy(known)

    def folders_of_overrides(
        self: Any, config_name: str | None, parsed_overrides: list[Override], repo: Any
    ) -> None:
        own_folders = choices(repo, [], []) is None or any(
            override.get_key_element() == "hydra.searchpath" for override in parsed_overrides
        )
        if own_folders or config_name != "config":  # conf/config.yaml has none
            add_folders(self, config_name, parsed_overrides, repo)

    patch.setattr(loading, "create_defaults_list", remembered_list)
    patch.setattr(loading.ConfigLoaderImpl, "_process_config_searchpath", folders_of_overrides)
    patch.setattr(loading.ConfigLoaderImpl, "_compose_config_from_defaults_list", remembered_merge)
