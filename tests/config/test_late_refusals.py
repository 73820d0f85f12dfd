"""Values that only Lightning, a method or the network could refuse, refused with the config."""

from __future__ import annotations

import pytest

import netinv_lightning
from netinv_lightning.applications.key_check import check_keys
from netinv_lightning.config.signatures import trainer_keys
from netinv_lightning.config.trainer_check import TRAINER_RULES
from netinv_lightning.errors import InputError, nearest


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.devices=0", "trainer.devices=0: must be 1 or more, or -1 for all devices"),
        ("trainer.devices='0'", "trainer.devices=0: must be 1 or more, or -1 for all devices"),
        (
            "trainer.devices=[]",
            "trainer.devices=[]: must be a number of devices, a list of their indices, auto or "
            "one_per_job",
        ),
        ("trainer.devices=[0,-1]", "trainer.devices=[0, -1]: must contain indices from 0"),
        ("trainer.accelerator=tpu", "trainer.accelerator=tpu: did you mean 'gpu'?"),
        ("trainer.precision=bf16-mix", "trainer.precision=bf16-mix: did you mean 'bf16-mixed'?"),
        ("+trainer.max_steps=0", "trainer.max_steps=0: must be 1 or more, or -1 for no limit"),
        ("+trainer.max_steps=2.5", "trainer.max_steps=2.5: must be a whole number"),
        ("+trainer.gradient_clip_val=-1", "trainer.gradient_clip_val=-1: must be 0 or more"),
    ],
)
def test_invalid_arguments_of_the_trainer_name_their_key(override: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        netinv_lightning.compose([override])
    assert str(refused.value) == message


@pytest.mark.parametrize(
    "override",
    [
        *(f"trainer.devices={value}" for value in ("2", "-1", "auto", "one_per_job", "[0]")),
        *("trainer.devices='0,1'", "trainer.devices='2'", "trainer.devices=null"),
        *(f"trainer.precision={value}" for value in ("16-mixed", "64-true", "32", "null")),
        *("trainer.accelerator=gpu", "+trainer.max_epochs=-1", "+trainer.gradient_clip_val=0"),
    ],
)
def test_arguments_that_lightning_accepts_compose(override: str) -> None:
    key, _, value = override.lstrip("+").partition("=")
    composed = netinv_lightning.compose([override]).trainer[key.partition(".")[2]]
    assert str(composed).lower() == {"null": "none"}.get(value, value.strip("'"))


def test_every_rule_is_of_an_argument_of_the_trainer() -> None:
    assert TRAINER_RULES.keys() <= trainer_keys()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["method=gradient", "n_generators=2"],
            "n_generators=2: method=gradient has no generator. "
            "For more images set application.eval_samples",
        ),
        (
            ["application=reconstruct", "method=kkt", "n_generators=2"],
            "n_generators=2: method=kkt has no generator. For more images set method.candidates",
        ),
        (
            ["method=kkt", "+loss.l1.weight=1"],
            "loss.l1: penalises the weights of a generator, but method=kkt has no generator. "
            "Leave it out: ~loss.l1",
        ),
        (
            ["method=kkt", "application.classes=[0,1]"],
            "application.classes=[0, 1]: method=kkt makes images of all classes. Leave out "
            "application.classes",
        ),
    ],
)
def test_keys_of_a_generator_need_one(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError) as refused:
        netinv_lightning.compose(overrides)
    assert str(refused.value) == message


def test_layers_of_a_term_are_recorded_ones() -> None:
    conv = "classifier.feature_layers=[penultimate,conv1]"
    for allowed in ([], ["+loss.cosine.layers=[conv1]", conv], ["+loss.cosine.layers=null"]):
        check_keys(netinv_lightning.compose(allowed))
    with pytest.raises(InputError) as refused:
        check_keys(netinv_lightning.compose(["+loss.cosine.layers=[conv1,conv2]", conv]))
    assert str(refused.value) == (
        "loss.cosine.layers=conv2: is not in classifier.feature_layers; did you mean 'conv1'?"
    )


def test_a_key_without_a_value_in_the_loss_needs_a_plus() -> None:
    with pytest.raises(InputError, match=r"Add it with a plus: \+loss.cosine.layers=VALUE$"):
        netinv_lightning.compose(["loss.cosine.layers=[penultimate]"])


def test_advice_follows_the_choices_as_a_sentence() -> None:
    assert nearest("x", ["b", "a"], "Or give a path") == "choose from: a, b. Or give a path"
    assert nearest("ab", ["abc"], "Or give a path") == "did you mean 'abc'? Or give a path"
    assert nearest("x", ["b", "a"]) == "choose from: a, b"
    assert nearest("x", []) == "there are no choices"
