"""Configs of the tests: composed from remembered files, or as Hydra does without the patch."""

from __future__ import annotations

from importlib import import_module

import pytest
from omegaconf import OmegaConf

from netinv_lightning.config.compose import compose
from tests.composed_choices import LOADER, reason_not_to_patch, remember_choices

OVERRIDES = ["+experiment=fmnist_invert", "method=gradient", "seed=3"]


def test_remembered_files_give_the_config_of_hydra(monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := reason_not_to_patch():
        pytest.skip(f"all configs are composed without remembered files: {reason}")
    loading = import_module(LOADER)
    remembered = loading.create_defaults_list
    first, again = compose(OVERRIDES), compose([*OVERRIDES[:2], "seed=4"])
    again.seed = 3
    lists = import_module("hydra._internal.defaults_list").create_defaults_list
    assert remembered is not lists
    monkeypatch.setattr(loading, "create_defaults_list", lists)
    plain = compose(OVERRIDES)
    assert OmegaConf.to_yaml(first) == OmegaConf.to_yaml(again) == OmegaConf.to_yaml(plain)


def test_another_version_of_hydra_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    loading = import_module(LOADER)
    merge = loading.ConfigLoaderImpl._compose_config_from_defaults_list
    monkeypatch.setattr(loading, "create_defaults_list", lambda repo, name: None)
    assert "create_defaults_list lacks config_name, overrides_list" in reason_not_to_patch()
    remember_choices(monkeypatch)
    assert loading.ConfigLoaderImpl._compose_config_from_defaults_list is merge
    monkeypatch.delattr(loading, "create_defaults_list")
    assert reason_not_to_patch().endswith("lacks create_defaults_list")
