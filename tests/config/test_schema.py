"""The files of `conf/` and the schema: every choice composes and mirrors its constructor."""

from __future__ import annotations

import inspect
from dataclasses import fields
from itertools import zip_longest
from pathlib import Path

import pytest
import yaml

import netinv_lightning
from netinv_lightning.classifiers import training
from netinv_lightning.config import application_schema as application_keys
from netinv_lightning.config import schema as config
from netinv_lightning.config.registration import CONF
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.specs import SPECS
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.build import MODULE_KEYS, make_module
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.generator import Generator
from netinv_lightning.inversion.module import InversionModule
from netinv_lightning.inversion.perturbation import Perturbation

CHOICES = sorted(
    str(path.relative_to(CONF))[:-5] for path in CONF.rglob("*.yaml") if path.parent != CONF
)
EXPERIMENTS = [choice for choice in CHOICES if choice.startswith("experiment/")]
FROM_CLASSIFIER = {
    "self",
    "num_classes",
    "channels",
    "image_size",
    "conditioning",
    "groups",
    "classes",
}


def together() -> list[list[str]]:
    """The overrides that select every choice; independent groups are selected together."""
    alone, independent = [], {}
    for choice in CHOICES:
        group, name = choice.rsplit("/", 1) if choice.startswith("hydra/") else choice.split("/", 1)
        if group in ("experiment", "debug", "sweep"):
            alone.append([f"+{group}={name}"])
        elif group in ("application", "method", "hydra/launcher"):
            alone.append([f"{group}={name}"])
        else:
            value = f"[{name}]" if group == "garbage" else name
            independent.setdefault(group, []).append(f"{group}={value}")
    rows = zip_longest(*independent.values())
    return [*alone, *([override for override in row if override] for row in rows)]


@pytest.mark.parametrize("overrides", together(), ids=" ".join)
def test_every_choice_composes(overrides: list[str]) -> None:
    cfg = netinv_lightning.compose(overrides)
    assert cfg.application.name in application_keys.APPLICATION_KEYS


def test_every_choice_is_among_the_composed_ones() -> None:
    chosen = {
        override.lstrip("+").translate(str.maketrans("=", "/", "[]"))
        for overrides in together()
        for override in overrides
    }
    assert chosen == set(CHOICES)


@pytest.mark.parametrize(
    ("schema", "constructor"),
    [
        (config.DataConfig, ImageDataModule),
        (config.ConditioningConfig, Conditioning),
        (config.GeneratorConfig, Generator),
        (config.PerturbationConfig, Perturbation),
    ],
)
def test_schema_mirrors_the_constructor(schema: type, constructor: type) -> None:
    """They have the same keys, and the same defaults where both have defaults."""
    parameters = inspect.signature(constructor).parameters
    from_classifier = FROM_CLASSIFIER - (
        {"image_size", "classes"} if constructor is ImageDataModule else set()
    )
    assert {field.name for field in fields(schema)} == set(parameters) - from_classifier
    defaults = schema()
    for name, parameter in parameters.items():
        if (
            name not in from_classifier | {"name", "root"}
            and parameter.default is not inspect.Parameter.empty
        ):
            default = getattr(defaults, name)
            assert (
                tuple(default) if isinstance(default, list) else default
            ) == parameter.default, name


@pytest.mark.parametrize(
    ("schema", "constructor", "keys"),
    [
        (application_keys.InvertConfig, InversionModule, MODULE_KEYS),
        (config.RecipeConfig, training.ClassifierModule, training.MODULE_KEYS),
    ],
)
def test_keys_have_the_module_defaults(
    schema: type, constructor: type, keys: tuple[str, ...]
) -> None:
    defaults = schema()
    for key in keys:
        default = getattr(defaults, key)
        assert (tuple(default) if isinstance(default, list) else default) == inspect.signature(
            constructor
        ).parameters[key].default, key


@pytest.mark.parametrize("experiment", [choice for choice in EXPERIMENTS if "/zoo/" not in choice])
def test_every_recipe_states_claim_command_cost_and_evidence(experiment: str) -> None:
    head = (CONF / f"{experiment}.yaml").read_text().split("defaults:")[0]
    for word in ("Claim:", "Command:", "Cost:", "Evidence:"):
        assert f"# {word}" in head, word
    evidence = head.split("Evidence: ")[1].split()[0].rstrip(",.")
    assert (Path(__file__).parents[2] / evidence).exists()


def test_no_two_configs_of_a_group_are_equal() -> None:
    contents = [
        choice.rpartition("/")[0]
        + yaml.safe_dump(yaml.safe_load((CONF / f"{choice}.yaml").read_text()))
        for choice in CHOICES
    ]
    twice = [
        choice
        for choice, content in zip(CHOICES, contents, strict=True)
        if contents.count(content) > 1
    ]
    assert twice == []


def test_debug_and_experiments_set_different_keys() -> None:
    """The order of +experiment and +debug on the command line must not matter."""

    def keys(node: object, prefix: str = "") -> set[str]:
        if not isinstance(node, dict):
            return {prefix}
        return {
            key
            for name, value in node.items()
            if name != "defaults"
            for key in keys(value, f"{prefix}.{name}")
        }

    def all_keys(group: str) -> set[str]:
        return set().union(
            *(
                keys(yaml.safe_load((CONF / f"{choice}.yaml").read_text()))
                for choice in CHOICES
                if choice.startswith(group)
            )
        )

    assert all_keys("debug/") & all_keys("experiment/") == set()


def test_every_data_set_has_a_choice() -> None:
    assert {choice.removeprefix("data/") for choice in CHOICES if choice.startswith("data/")} == {
        *SPECS,
        "npz",
        "image_folder",
    }


def test_typo_in_a_users_experiment_names_the_nearest_key(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\napplication:\n  stepz: 3\n"
    )
    with pytest.raises(
        InputError, match=r"stepz: there is no such key; did you mean 'application.steps'\?"
    ):
        netinv_lightning.compose([f"hydra.searchpath=[file://{tmp_path}]", "+experiment=mine"])


def test_reference_generator_has_the_public_size() -> None:
    module = make_module(netinv_lightning.compose(["generator=reference", "data=mnist"]))
    assert sum(weight.numel() for weight in module.generator.parameters()) == 5_724_365 - 1_408


@pytest.mark.parametrize("number", [0, -3])
def test_fewer_than_one_generator_is_refused(number: int) -> None:
    with pytest.raises(InputError, match=rf"^n_generators={number}: must be 1 or more$"):
        netinv_lightning.compose([f"n_generators={number}"])


def test_no_file_sets_the_mode_of_hydra() -> None:
    """So that the config need not be composed to find out whether a command is a sweep."""
    contents = [yaml.safe_load((CONF / f"{choice}.yaml").read_text()) for choice in CHOICES]
    contents.append(yaml.safe_load((CONF / "config.yaml").read_text()))
    assert [one for one in contents if one and "mode" in one.get("hydra", {})] == []
