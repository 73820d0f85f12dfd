"""The keys of a method come from the source of its constructor."""

from __future__ import annotations

import inspect
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest
from omegaconf import OmegaConf

from netinv_lightning.config.method_registry import METHODS, Method, methods_with
from netinv_lightning.config.method_schema import METHOD_KEYS, method_keys
from netinv_lightning.config.ranges import AT_LEAST, rule_of
from netinv_lightning.config.signatures import definition_of, statements_of

WITH_KEYS = [name for name, method in METHODS.items() if not method.trains_generator]


@pytest.mark.parametrize("name", WITH_KEYS)
def test_keys_are_those_of_the_imported_constructor(name: str) -> None:
    module, _, class_name = METHODS[name].target.rpartition(".")
    constructor = getattr(import_module(module), class_name).__init__
    hints = get_type_hints(constructor, include_extras=True)
    expected = {
        argument.name: (argument.default, get_args(hints[argument.name]))
        for argument in inspect.signature(constructor).parameters.values()
        if argument.kind is argument.KEYWORD_ONLY
    }
    schema = METHOD_KEYS[name]
    defaults = OmegaConf.to_container(OmegaConf.structured(schema))
    assert isinstance(defaults, dict)
    assert defaults.pop("name") == name
    if METHODS[name].data:
        assert defaults.pop("auxiliary") is None
    assert {field.name for field in fields(schema)} - {"auxiliary"} == {"name", *expected}
    for key, (default, (_, *facts)) in expected.items():
        assert get_origin(hints[key]) is Annotated
        assert defaults[key] == (list(default) if isinstance(default, tuple) else default), key
        assert rule_of(schema, key) in facts, key


def test_a_lower_limit_by_another_key_is_kept() -> None:
    assert AT_LEAST[METHOD_KEYS["kkt"]] == {"final_sharpness": "sharpness"}


@pytest.mark.parametrize("argument", ["steps: int = 3", "steps: Annotated[int, STEPS]"])
def test_a_key_without_a_rule_or_a_default_is_an_error(
    argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "own_methods"
    package.mkdir()
    (package / "mine.py").write_text(f"class M:\n    def __init__(self, *, {argument}): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    statements_of.cache_clear()
    definition_of.cache_clear()
    with pytest.raises(TypeError, match=r"steps must be Annotated\[type, rule\] with a default"):
        method_keys("mine", Method("own_methods.mine.M"))


def test_methods_by_the_access_that_they_need() -> None:
    assert set(methods_with("training_gradient")) == set(METHODS)
    assert set(methods_with("weights")) == set(METHODS) - {"gradient_leakage"}
    assert "kkt" not in methods_with("gradients")
    assert {"generator", "gradient"} <= set(methods_with("gradients"))
    assert not {"generator", "gradient"} & set(methods_with("scores"))
