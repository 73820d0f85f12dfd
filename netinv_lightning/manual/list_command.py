"""`netinv list KIND`: the names of recipes, methods, losses, detectors and more, a line each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from netinv_lightning.classifiers.zoo import ZOO, zoo_names
from netinv_lightning.config.detection_schema import DETECTORS
from netinv_lightning.config.loss_terms import LOSS_TERMS
from netinv_lightning.config.signatures import docstring_of
from netinv_lightning.errors import InputError, exit_status, nearest
from netinv_lightning.manual.choices import Choice, choices, default_choice
from netinv_lightning.manual.docstrings import assigned_names, first_sentence
from netinv_lightning.manual.help_command import choice_lines
from netinv_lightning.manual.keys import keys_of

REGISTRY = "netinv_lightning.ood.detectors.registry"
GROUPS = {
    "experiments": "experiment",
    "methods": "method",
    "losses": "loss",
    "classifiers": "classifier",
    "applications": "application",
    "sweeps": "sweep",
    "data": "data",
    "debug": "debug",
}
"""The config group of each kind."""
KINDS = ("detectors", *GROUPS)


def main(words: Sequence[str]) -> int:
    """Print the list of each kind in `words`; return the exit status."""
    usage = f"netinv list KIND prints names with a line each. KIND is one of {', '.join(KINDS)}"
    if not words or {"-h", "--help"} & set(words):
        print(usage)
        return 0
    try:
        print("\n\n".join("\n".join(listed(word)) for word in words))
    except InputError as error:
        return exit_status(error)
    return 0


def listed(kind: str) -> Iterator[str]:
    """Yield the lines of a list.

    Raises:
        InputError: if there is no such kind.
    """
    if kind not in KINDS:
        raise InputError(f"list {kind}: there is no such list; {nearest(kind, KINDS)}")
    if kind == "detectors":
        yield "application=detect_ood 'application.detectors=[NAME,...]'"
        yield from _lines(_detectors())
        return
    group = GROUPS[kind]
    shown = [choice for choice in choices(group) if not choice.name.startswith("zoo/")]
    yield shown[0].word.replace(shown[0].name, "NAME")
    yield from choice_lines(shown, default_choice(group))
    if kind == "losses":
        yield "\nloss.NAME.weight=VALUE; with a plus, +loss.NAME.weight=VALUE, to add a term"
        yield from _lines({term: _meaning_of_term(term) for term in LOSS_TERMS})
    if kind == "classifiers":
        yield "\nclassifier.zoo=NAME"
        yield from _lines({name: _zoo_line(name) for name in zoo_names()})
    if kind == "experiments":
        trained = len(choices(group)) - len(shown)
        yield f"\n+experiment=zoo/NAME trains one of the {trained} classifiers of the zoo again"


def _lines(texts: Mapping[str, str]) -> Iterator[str]:
    yield from choice_lines([Choice("", name, text, {}) for name, text in texts.items()])


def _detectors() -> dict[str, str]:
    """Return the first sentence of the docstring of each detector."""
    code = {
        **assigned_names(REGISTRY, "LOGIT_SCORES"),
        **assigned_names(REGISTRY, "SCORERS"),
    }
    return {name: first_sentence(docstring_of(f"{REGISTRY}.{code[name]}")) for name in DETECTORS}


def _meaning_of_term(term: str) -> str:
    return next(key.meaning for key in keys_of("loss") if key.name == f"loss.{term}")


def _zoo_line(name: str) -> str:
    card = json.loads((ZOO / f"{name}.json").read_text(encoding="utf-8"))
    network = card["network"]["_target_"].rpartition(".")[2]
    return (
        f"{network} for {card['data']['name']}, {card['parameters']:,} parameters, "
        f"test accuracy {card['test_accuracy']:.3f}"
    )
