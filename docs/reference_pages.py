"""Pages of the site that are made from the package: metrics, config keys, choices.

python docs/reference_pages.py      # writes metrics.md; the others are made with the site

docs/metrics.md is committed, because it changes rarely and is read in the repository too. The
reference of the config is made with every site: a committed copy would change with every key, and
`netinv help` prints the same in a terminal.
"""

from __future__ import annotations

import io
from contextlib import redirect_stdout, suppress
from importlib import import_module
from itertools import groupby
from pathlib import Path

from netinv_lightning.config.metric_descriptions import descriptions
from netinv_lightning.manual.choices import choices, default_choice, groups
from netinv_lightning.manual.keys import Key, group_names, keys_of, meaning_of_group
from netinv_lightning.run import COMMANDS
from netinv_lightning.runs.sweep_retry import RETRY_USAGE

METRICS = Path(__file__).parent / "metrics.md"
HEAD = """\
# Metrics

Each number of `summary.json` and `metrics.csv`: its definition, its range, and whether higher or
lower values are better. A metric without a direction is a baseline, a bound, or depends on the
question. A part in angle brackets stands for a name, such as that of a class or of a verifier.

    netinv +experiment=mnist_invert measure=full      # all metrics of a set of images
    netinv report runs/latest                         # the same numbers, with pictures

[The verdict](verdict.md) says how to read them together. The package reads this table from
`netinv_lightning/config/metric_descriptions.txt`; `python docs/reference_pages.py` writes this
page.
"""


def metrics_page() -> str:
    """Return the text of docs/metrics.md."""
    parts = [HEAD]
    for subject, of in groupby(descriptions(), key=lambda description: description.subject):
        rows = [
            f"| `{metric.name}` | {metric.definition} | {metric.range} | {metric.better} |"
            for metric in of
        ]
        head = ["| metric | definition | range | better |", "| --- | --- | --- | --- |"]
        parts.append("\n".join([f"## {subject}", "", *head, *rows]) + "\n")
    return "\n".join(parts)


def commands_page() -> str:
    """Return the page of the commands that do not start a run, with what `--help` prints."""
    parts = [
        "# Commands\n\n`netinv` with overrides starts a run; see the "
        "[manual](../command_line.md). Other commands:\n"
    ]
    for command, usage in {
        **{name: _usage(name) for name in COMMANDS},
        "retry": RETRY_USAGE,
    }.items():
        parts.append(f"## {command}\n\n```text\n{usage.strip()}\n```\n")
    return "\n".join(parts)


def _usage(command: str) -> str:
    with redirect_stdout(io.StringIO()) as printed, suppress(SystemExit):
        import_module(COMMANDS[command]).main(["--help"])
    return printed.getvalue()


def config_page() -> str:
    """Return the page of all keys of the config, by group."""
    parts = [
        "# Config keys\n\n`GROUP.KEY=VALUE` on the command line sets a key; "
        "`netinv help GROUP.KEY` prints what this page says.\n"
    ]
    for group in ("", *group_names()):
        rows = [
            f"| `{key.name.removeprefix(f'{group}.')}` | {_meaning(key)} | {_values(key)} |"
            for key in keys_of(group)
        ]
        title = f"## {group}\n\n{meaning_of_group(group)}" if group else "## Without a group"
        head = [title, "", "| key | meaning | values |", "| --- | --- | --- |"]
        parts.append("\n".join([*head, *rows]))
    return "\n\n".join(parts) + "\n"


def _meaning(key: Key) -> str:
    return _cell(f"{key.meaning} ({key.owner})" if key.owner else key.meaning)


def _values(key: Key) -> str:
    """Return type, allowed values and default."""
    facts = [key.kind, key.allowed, f"default `{key.default}`" if key.default else ""]
    return _cell("; ".join(fact for fact in facts if fact))


def choices_page() -> str:
    """Return the page of the choices of all groups."""
    parts = ["# Choices\n\n`netinv help GROUP=CHOICE` prints what a choice sets.\n"]
    for group in groups():
        rows = [
            f"| `{choice.word}`{' (default)' if choice.name == default_choice(group) else ''} | "
            f"{_cell(choice.line)} |"
            for choice in choices(group)
        ]
        head = [f"## {group}", "", "| choice | meaning |", "| --- | --- |"]
        parts.append("\n".join([*head, *rows]) + "\n")
    return "\n".join(parts)


def pages() -> dict[str, str]:
    """Return the pages that are made with the site, by their paths in it."""
    return {
        "docs/reference/commands.md": commands_page(),
        "docs/reference/config.md": config_page(),
        "docs/reference/choices.md": choices_page(),
    }


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    METRICS.write_text(metrics_page(), encoding="utf-8")
