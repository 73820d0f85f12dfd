"""`netinv help`: every key and choice is described, from the place that defines it."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields

import pytest

from netinv_lightning.config.application_schema import APPLICATION_KEYS
from netinv_lightning.config.garbage_schema import GarbageConfig
from netinv_lightning.config.loss_terms import LOSS_TERMS
from netinv_lightning.config.method_schema import METHOD_KEYS
from netinv_lightning.config.schema import Config
from netinv_lightning.config.signatures import trainer_keys
from netinv_lightning.errors import InputError
from netinv_lightning.manual.choices import choices, groups
from netinv_lightning.manual.docstrings import first_sentence, named_values
from netinv_lightning.manual.help_command import help_on, main
from netinv_lightning.manual.keys import all_keys, group_names, keys_of, meaning_of_group

KEYS = {key.name: key for key in all_keys()}


def test_every_key_has_a_meaning_of_its_own() -> None:
    assert [key.name for key in all_keys() if len(key.meaning) < 10] == []
    assert [group for group in group_names() if len(meaning_of_group(group)) < 10] == []
    assert [key for key in all_keys() if "None" in key.meaning or ":class:" in key.meaning] == []


def test_all_keys_of_the_schema_are_listed() -> None:
    listed = set(KEYS)
    for prefix, schemas in {
        "application.": [*APPLICATION_KEYS.values()],
        "method.": [*METHOD_KEYS.values()],
        "garbage.NAME.": [GarbageConfig],
    }.items():
        wanted = {f"{prefix}{field.name}" for schema in schemas for field in fields(schema)}
        assert {name for name in listed if name.startswith(prefix)} == wanted
    options = {f"loss.{term}.{option}" for term, rules in LOSS_TERMS.items() for option in rules}
    assert options | {f"loss.{term}.weight" for term in LOSS_TERMS} <= listed
    assert {f"trainer.{key}" for key in trainer_keys()} == {k.name for k in keys_of("trainer")}
    roots = {field.name for field in fields(Config)}
    assert {name for name in listed if "." not in name} == roots - set(group_names())


def test_every_choice_has_a_line() -> None:
    lines = {choice.word: choice.line for group in groups() for choice in choices(group)}
    assert [word for word, line in lines.items() if len(line) < 8] == []
    assert lines["loss=ce_only"] == "Cross-entropy alone"
    assert lines["+experiment=memorised_mlp"].endswith("(members against held-out images: AUC 0.9)")


def test_a_key_shows_type_default_range_and_setters() -> None:
    text = "\n".join(help_on("conditioning.temperature=3"))
    assert text.splitlines()[0] == "conditioning.temperature"
    for fact in ("softmax(n / temperature)", "number, or null", "above 0", "loss=natural (0.15)"):
        assert fact in text
    assert KEYS["data.root"].default == "the environment variable NETINV_DATA, or data"
    assert KEYS["application.betas"].allowed == "each at least 0 and below 1"
    assert KEYS["loss.cosine.absolute"].default == "false"
    assert KEYS["garbage.NAME.epochs"].meaning in "\n".join(help_on("garbage.paper.epochs"))


def test_a_term_shows_its_equation_and_its_options() -> None:
    text = "\n".join(help_on("loss.cosine"))
    assert "      L_Cosine = 1 / (B (B - 1)) sum_{i != j} cos(theta_ij)\n" in text
    assert "loss=reference (10)" in text
    assert "  loss.cosine.layers\n" in text


def test_keys_that_differ_between_applications_are_apart() -> None:
    lines = help_on("application.steps")
    assert "application.steps    (application=invert, application=reconstruct)" in lines
    assert "application.steps    (application=distill)" in lines


def test_words_may_be_a_group_a_choice_or_the_end_of_a_key() -> None:
    assert help_on("conditioning")[0].startswith("conditioning: Draws the conditions")
    assert "    conditioning.temperature=0.15" in help_on("natural")
    assert help_on("natural") == help_on("loss=natural")
    assert help_on("val_fraction") == help_on("data.val_fraction")
    assert help_on("temperature")[0] == "temperature is the name of several keys:"


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("conditioning.temprature", "did you mean 'conditioning.temperature'?"),
        ("tempreature", "did you mean 'temperature'?"),
        ("loss=naturel", "there is no such choice; did you mean 'natural'?"),
        ("§", "netinv help lists all of them"),
    ],
)
def test_misspelled_word_is_refused_with_the_nearest(word: str, hint: str) -> None:
    with pytest.raises(InputError) as refused:
        help_on(word)
    assert str(refused.value).endswith(hint)


def test_everything_fits_into_a_hundred_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {f"  {name}" for name in KEYS if name.count(".") == 1} <= {
        line.split(" (")[0] for line in lines
    }
    # Examples of commands are not wrapped.
    assert [line for line in lines if len(line) > 100 and "netinv" not in line] == []


def test_help_and_lists_do_not_import_torch() -> None:
    code = (
        "import sys; from netinv_lightning.manual import help_command, list_command as l; "
        "status = help_command.main([]) + l.main(l.KINDS); "
        "sys.exit(status + bool({'torch', 'lightning', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    detectors = done.stdout.partition("'application.detectors=[NAME,...]'\n")[2].split("\n\n")[0]
    assert f"  {'knn':19}  Distance to the k-th nearest training image" in detectors
    assert "  mnist_cnn " in done.stdout
    assert re.search(r"  kkt +Reconstruct training images from the weights alone", done.stdout)


def test_sections_of_docstrings_are_read() -> None:
    doc = (
        "Title.\n\nArgs:\n    a, b: First\n        line: two.\n    c: Third.\n\nRaises:\n    E: if."
    )
    assert named_values(doc, "Args") == {
        "a": "First line: two.",
        "b": "First line: two.",
        "c": "Third.",
    }
    assert first_sentence("one, e.g. two. Three.") == "One, e.g. two"
    assert first_sentence("Run it:\n  netinv a=b\nMore.") == "Run it"
