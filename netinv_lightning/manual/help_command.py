"""`netinv help [WORD ...]`: what a key, a group or a choice means."""

from __future__ import annotations

import pydoc
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace

from netinv_lightning.config.loss_terms import OPTIONS_OF_ALL_TERMS
from netinv_lightning.errors import InputError, exit_status, nearest
from netinv_lightning.manual.choices import (
    Choice,
    choices,
    choices_that_set,
    default_choice,
    groups,
)
from netinv_lightning.manual.docstrings import first_sentence
from netinv_lightning.manual.keys import (
    Key,
    all_keys,
    group_names,
    keys_of,
    meaning_of_group,
    written,
)

USAGE = """\
netinv help                 every group and every key
netinv help GROUP           the choices and keys of a group, such as loss
netinv help KEY             one key, such as loss.cosine or conditioning.temperature
netinv help GROUP=CHOICE    what a choice is, and what it sets, such as loss=natural
netinv list                 the names of experiments, methods, losses, detectors and more
netinv --help               examples, and the names of all groups"""
MOST_COLUMNS = 100


def main(words: Sequence[str]) -> int:
    """Print the help on each word, or on everything; return the exit status."""
    try:
        if {"-h", "--help"} & set(words):
            print(USAGE)
        elif words:
            print("\n\n".join("\n".join(help_on(word)) for word in words))
        else:
            _page("\n".join(_everything()))
    except InputError as error:
        return exit_status(error)
    return 0


def help_on(word: str) -> list[str]:
    """Return the lines about a key, a group, a choice, or the last part of a key.

    Raises:
        InputError: if nothing has this name; it names the closest one.
    """
    name, equals, value = word.lstrip("+~").partition("=")
    if equals and value and name in groups():
        return [*_choice(name, value.strip("[]'\""))]
    if name in {*groups(), *group_names()}:
        return [*_group(name)]
    found = _named(name)
    if found:
        return [line for key in found for line in (*_key(key), "")][:-1]
    same_end = [key for key in all_keys() if key.name.endswith(f".{name}")]
    if len({key.name for key in same_end}) == 1:
        return help_on(same_end[0].name)
    if same_end:
        return [f"{name} is the name of several keys:", "", *_brief(same_end)]
    named = [choice for group in groups() for choice in choices(group) if choice.name == name]
    if named:
        return [line for choice in named for line in (*_choice(choice.group, name), "")][:-1]
    raise InputError(f"help {word}: there is no such key, group or choice; {_nearest(name)}")


def _nearest(name: str) -> str:
    """Return the closest of all keys, groups and last parts of keys."""
    keys = [key.name for key in all_keys()]
    near = nearest(name, {*keys, *groups(), *(key.rpartition(".")[2] for key in keys)})
    return near if near.startswith("did you mean") else "netinv help lists all of them"


def _named(name: str) -> list[Key]:
    """Return the keys of a name, in which `garbage.NAME.` stands for every choice of `garbage`."""
    parts = name.split(".")
    if parts[0] == "garbage" and len(parts) > 1:
        name = f"garbage.NAME.{parts[-1]}"
    return [key for key in all_keys() if key.name == name]


def _key(key: Key) -> Iterator[str]:
    yield f"{key.name}{f'    ({key.owner})' if key.owner else ''}"
    yield from _wrapped(key.meaning, "  ")
    yield ""
    facts = {"type": key.kind, "default": key.default or "none", "allowed": key.allowed}
    if key.kind == "mapping" and key.name.startswith("loss."):
        facts = {"is": key.allowed}
    for label, text in facts.items():
        if text:
            yield from _wrapped(text, f"  {label:9}", hanging=11)
    setters = _setters(key.name)
    if setters:
        yield from _wrapped("; ".join(setters), "  set by   ", hanging=11)
    if key.kind == "mapping" and key.name.startswith("loss."):
        yield ""
        yield from _brief([of for of in all_keys() if of.name.startswith(f"{key.name}.")])


def _setters(name: str) -> list[str]:
    """Return the choices that set a key or, for a term, its weight."""
    if name.startswith("loss.") and name.count(".") == 1:
        name = f"{name}.weight"
    return [f"{choice.word} ({written(value)})" for choice, value in choices_that_set(name)]


def _group(group: str) -> Iterator[str]:
    meaning = meaning_of_group(group) if group in group_names() else ""
    yield f"{group}{f': {first_sentence(meaning)}' if meaning else ''}"
    listed = choices(group) if group in groups() else []
    if listed:
        yield ""
        yield f"Choices ({listed[0].word.replace(listed[0].name, 'NAME')}):"
        yield ""
        yield from choice_lines(listed, default_choice(group))
    keys = keys_of(group) if group in group_names() else ()
    if keys:
        yield ""
        yield f"Keys ({group}.KEY=VALUE):"
        yield ""
        yield from _brief([key for key in keys if not _of_all_terms(key)])
        if group == "loss":
            options = [key for key in keys if _of_all_terms(key)][: len(OPTIONS_OF_ALL_TERMS)]
            yield from _brief([_with_name(key, "loss.TERM") for key in options])


def _of_all_terms(key: Key) -> bool:
    return key.group == "loss" and key.name.rpartition(".")[2] in OPTIONS_OF_ALL_TERMS


def _with_name(key: Key, parent: str) -> Key:
    return replace(key, name=f"{parent}.{key.name.rpartition('.')[2]}")


def choice_lines(listed: Sequence[Choice], default: str = "") -> Iterator[str]:
    """Yield a line for each choice, longer ones wrapped; the default is marked."""
    width = max(len(choice.name) for choice in listed) + 2
    for choice in listed:
        line = f"{choice.line}{' (default)' if choice.name == default else ''}"
        yield from _wrapped(line, f"  {choice.name:{width}}", hanging=width + 2)


def _choice(group: str, name: str) -> Iterator[str]:
    found = {choice.name: choice for choice in choices(group)}
    if name not in found:
        raise InputError(f"help {group}={name}: there is no such choice; {nearest(name, found)}")
    choice = found[name]
    yield choice.word
    yield from (f"  {line}".rstrip() for line in choice.head.splitlines())
    if choice.values:
        yield ""
        yield "  It sets:"
        for key, value in choice.values.items():
            yield from _wrapped(f"{key}={written(value)}", "    ", hanging=6)


def _brief(keys: Sequence[Key]) -> Iterator[str]:
    for key in keys:
        facts = [key.kind, key.allowed, f"default {key.default}" if key.default else ""]
        owner = f"    ({key.owner})" if key.owner else ""
        yield from _wrapped(f"{key.name}{owner}", "  ", hanging=4)
        meaning = first_sentence(key.meaning)
        text = "; ".join(fact for fact in facts if fact)
        yield from _wrapped(f"{meaning}. [{text}]" if text else f"{meaning}.", "      ", hanging=6)


def _everything() -> Iterator[str]:
    yield USAGE
    yield ""
    yield "A key is set with KEY=VALUE; a choice of a group with GROUP=CHOICE."
    yield ""
    yield from _brief(keys_of(""))
    for group in dict.fromkeys((*group_names(), *groups())):
        yield ""
        yield f"=== {group} " + "=" * (_columns() - len(group) - 5)
        yield ""
        yield from _group(group)


def _wrapped(text: str, start: str, hanging: int | None = None) -> Iterator[str]:
    """Yield the lines of a text; paragraphs that are indented, such as equations, are kept."""
    indent = " " * (len(start) if hanging is None else hanging)
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield ""
        if paragraph.startswith("  "):
            yield from (f"{indent}{line}".rstrip() for line in paragraph.splitlines())
            continue
        yield from textwrap.wrap(
            " ".join(paragraph.split()),
            width=_columns(),
            initial_indent=indent if number else start,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )


def _columns() -> int:
    return min(shutil.get_terminal_size((MOST_COLUMNS, 24)).columns, MOST_COLUMNS)


def _page(text: str) -> None:
    """Print a long text, on a terminal page by page."""
    if sys.stdout.isatty():
        pydoc.pager(text)
    else:
        print(text)
