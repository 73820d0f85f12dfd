"""Allowed values: numeric keys have rules, names agree with registries, bounds are enforced."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, get_args, get_origin, get_type_hints

import pytest

import netinv_lightning
from netinv_lightning.config.application_schema import APPLICATION_KEYS
from netinv_lightning.config.garbage_schema import GarbageConfig
from netinv_lightning.config.loss_terms import LOSS_TERMS
from netinv_lightning.config.method_schema import METHOD_KEYS
from netinv_lightning.config.ranges import RULES, rule_of
from netinv_lightning.config.rules import LARGEST_SEED, Names
from netinv_lightning.config.schema import Config
from netinv_lightning.errors import InputError
from netinv_lightning.metric_names import METRIC_GROUPS


def _schemas() -> Iterator[type]:
    hints = get_type_hints(Config)
    yield Config
    yield from (
        hints[field.name]
        for field in fields(Config)
        if hasattr(hints[field.name], "__dataclass_fields__")
    )
    yield from (*APPLICATION_KEYS.values(), *METHOD_KEYS.values(), GarbageConfig)


def _types(hint: Any) -> set[Any]:
    inside = [kind for part in get_args(hint) for kind in _types(part)]
    return {hint, *inside}


def test_every_numeric_key_has_a_rule() -> None:
    numeric = [
        (schema, name)
        for schema in _schemas()
        for name, hint in get_type_hints(schema).items()
        if _types(hint) & {int, float}
        and not any(get_origin(part) is dict for part in _types(hint))
    ]
    assert len(numeric) > 100
    assert [
        f"{schema.__name__}.{name}" for schema, name in numeric if rule_of(schema, name) is None
    ] == []


def test_every_rule_has_a_key_and_allows_its_default() -> None:
    for schema, rules in RULES.items():
        known = {field.name for field in fields(schema)}
        assert set(rules) <= known, schema
    for schema in _schemas():
        defaults = schema()
        for field in fields(schema):
            rule, value = rule_of(schema, field.name), getattr(defaults, field.name)
            if rule is None or value is None or str(value).startswith("${"):
                continue
            for entry in value if isinstance(value, list) else [value]:
                assert rule.fault(entry) == "", (schema, field.name, entry)


def test_allowed_names_are_those_of_the_registries() -> None:
    from netinv_lightning.applications import key_check
    from netinv_lightning.config.schema import (
        ConditioningConfig,
        LoggerConfig,
        MeasureConfig,
        PerturbationConfig,
    )
    from netinv_lightning.evaluation import baselines
    from netinv_lightning.inversion import class_map, conditioning, parametrisations, perturbation
    from netinv_lightning.ood.detectors import DETECTORS, garbage_class
    from netinv_lightning.ood.garbage import build as garbage
    from netinv_lightning.privacy import build as privacy
    from netinv_lightning.privacy.informed_result import INFORMED
    from netinv_lightning.tracking import loggers as tracking
    from netinv_lightning.tracking import wandb_run

    homes = {
        (ConditioningConfig, "mode"): conditioning.MODES,
        (ConditioningConfig, "matrix"): class_map.MATRICES,
        (PerturbationConfig, "norm"): perturbation.NORMS,
        (PerturbationConfig, "direction"): perturbation.DIRECTIONS,
        (METHOD_KEYS["gradient"], "parametrisation"): parametrisations.PARAMETRISATIONS,
        (MeasureConfig, "metrics"): METRIC_GROUPS,
        (MeasureConfig, "controls"): baselines.BASELINES,
        (LoggerConfig, "name"): tracking.LOGGERS,
        (LoggerConfig, "mode"): wandb_run.MODES,
        (APPLICATION_KEYS["audit"], "attacks"): [*privacy.ATTACKS, INFORMED],
        (APPLICATION_KEYS["audit"], "effort"): privacy.EFFORTS,
        (APPLICATION_KEYS["approach"], "target"): key_check.TARGET_KEYS,
        (GarbageConfig, "source"): garbage.SOURCES,
        (GarbageConfig, "score"): garbage_class.SCORES,
    }
    for (schema, key), names in homes.items():
        rule = rule_of(schema, key)
        assert isinstance(rule, Names)
        assert rule.names == tuple(names), key
    detectors = rule_of(APPLICATION_KEYS["detect_ood"], "detectors")
    assert isinstance(detectors, Names)
    assert sorted(detectors.names) == sorted(DETECTORS)


def test_registered_terms_have_the_options_of_their_functions() -> None:
    from netinv_lightning.inversion.terms import TERMS

    options = {name: list(inspect.signature(term).parameters)[1:] for name, term in TERMS.items()}
    assert options == {name: list(rules) for name, rules in LOSS_TERMS.items()}


REFUSED = {
    "seed=-1": "seed=-1: must be from 0 to 4294967295",
    "seed=4294967296": "seed=4294967296: must be from 0 to 4294967295",
    "recipe.seed=-1": "recipe.seed=-1: must be from 0 to 4294967295",
    "data.split_seed=4294967296": "data.split_seed=4294967296: must be from 0 to 4294967295",
    "interpret.embedding_seeds=[0,-1]": "interpret.embedding_seeds=-1: must be from 0 to 42949",
    "application.betas=[0.5,1]": "application.betas=1.0: must be at least 0 and below 1",
    "application.betas=[0.5]": "application.betas=[0.5]: must be the two decay rates of Adam",
    "application.weight_decay=-1": "application.weight_decay=-1.0: must be 0 or more",
    "application.warmup=-1": "application.warmup=-1: must be 0 or more",
    "application.final_lr=1.5": "application.final_lr=1.5: must be from 0 to 1",
    "application.lr=nan": "application.lr=nan: must be a finite number",
    "recipe.momentum=-0.1": "recipe.momentum=-0.1: must be from 0 to 1",
    "recipe.lr=-1": "recipe.lr=-1.0: must be above 0",
    "conditioning.temperature=inf": "conditioning.temperature=inf: must be a finite number",
    "classifier.mean=[nan]": "classifier.mean=nan: must be a finite number",
    "classifier.std=[0]": "classifier.std=0.0: must be above 0",
    "classifier.channels=0": "classifier.channels=0: must be 1 or more",
    "classifier.channels=5000": "classifier.channels=5000: must be 4096 or less;",
    "classifier.image_size=7": "classifier.image_size=7: the sides of images must be from 8 to 512",
    "classifier.image_size=[32,600]": "classifier.image_size=[32, 600]: the sides of images must",
    "classifier.image_size=big": "classifier.image_size=big: must be a whole number",
    "classifier.shape=[1,2,3,4]": "classifier.shape=[1, 2, 3, 4]: must be the shape of one input",
    "classifier.shape=[3,4,28]": "classifier.shape=[3, 4, 28]: the sides of images must be from 8",
    "data.modality=signal": "data.modality=signal: did you mean 'signals'?",
    "application.classes=[-1,2]": "application.classes=-1: must be 0 or more",
    "classifier=cnn +classifier.network.slope=-inf": "classifier.network.slope=-inf: must be a fin",
    "+trainer.gradient_clip_val=nan": "trainer.gradient_clip_val=nan: must be a finite number",
    "+loss.ce.label_smoothing=nan": "loss.ce.label_smoothing=nan: must be",
    "+loss.ce.label_smoothing=true": "loss.ce.label_smoothing=True: must be a number",
    "+loss.cosine.absolute=2": "loss.cosine.absolute=2: must be true or false",
    "+loss.cosine.layers=penultimate": "loss.cosine.layers=penultimate: must be a list of names",
    "application.keep_samples=0": "application.keep_samples=0: must be 1 or more",
    "application.grid_columns=100000": "application.grid_columns=100000: must be 50 or less;",
    "classifier.num_classes=1000000000": "classifier.num_classes=1000000000: must be 100000 or",
    "application.eval_samples=1000000000": "application.eval_samples=1000000000: must be 10000000",
    "application.steps=1000000000": "application.steps=1000000000: must be 10000000 or less;",
    "generator.latent_dim=1000000": "generator.latent_dim=1000000: must be 16384 or less;",
    "generator.image_widths=[24,0]": "generator.image_widths=0: must be 1 or more",
    "application.name=inverts": "application.name=inverts: did you mean 'invert'?",
}


@pytest.mark.parametrize("override", REFUSED)
def test_value_out_of_range_is_refused(override: str) -> None:
    with pytest.raises(InputError) as refused:
        netinv_lightning.compose(override.split())
    assert str(refused.value).startswith(REFUSED[override])


def test_seeds_of_all_generators_are_in_range() -> None:
    largest = LARGEST_SEED
    assert netinv_lightning.compose([f"seed={largest - 2}", "n_generators=3"]).seed == largest - 2
    with pytest.raises(InputError, match=rf"^seed={largest - 1}: the 3 generators have the seeds"):
        netinv_lightning.compose([f"seed={largest - 1}", "n_generators=3"])
