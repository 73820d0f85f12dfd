"""Every command of the README and the docs is accepted, and every link has a target."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from netinv_lightning.applications import input_check
from netinv_lightning.classifiers.zoo import zoo_path
from netinv_lightning.config.application_schema import APPLICATION_KEYS
from netinv_lightning.config.method_schema import METHOD_KEYS
from netinv_lightning.config.registration import CONF, register
from netinv_lightning.config.schema import Config
from netinv_lightning.config.validate import check
from netinv_lightning.dashboard.command import _parse as parse_dashboard
from netinv_lightning.errors import InputError
from netinv_lightning.explorer.command import _parse as parse_explore
from netinv_lightning.html_report.command import _parse as parse_report
from netinv_lightning.manual.help_command import help_on
from netinv_lightning.manual.list_command import listed
from netinv_lightning.run import COMMANDS

ROOT = Path(__file__).parents[2]
MANUAL = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [*MANUAL, *sorted((ROOT / "experiments").rglob("*.md"))]
OTHER_WORDS = ("retry", "--help", "--version", "--cfg", "-sc", *COMMANDS)
"""First words after `netinv` that do not compose a config."""

NOT_HERE = re.compile(
    r"(?:images|r18|r50)\.safetensors|TRAINED_ON\.npz|mine\.npz|mine\.pt2|PICTURES"
)
"""Files of the reader that no test makes. Commands that name them are refused for this alone."""

GROUPS = {
    "application": {field.name for schema in APPLICATION_KEYS.values() for field in fields(schema)},
    "method": {field.name for schema in METHOD_KEYS.values() for field in fields(schema)},
    **{
        field.name: {key.name for key in fields(field.default_factory())}
        for field in fields(Config)
        if field.default_factory is not MISSING and is_dataclass(field.default_factory)
    },
}
"""The keys of each group that the schema describes."""


def lines() -> list[str]:
    """Return the `netinv` commands in inline code and code blocks, each once, without comments.

    Continued lines are joined. Those of extending.md need the code of that page;
    `test_extending.py` runs them.
    """
    pages = [page for page in MANUAL if page.name != "extending.md"]
    text = "\n".join(page.read_text() for page in pages).replace("\\\n", " ")
    found = re.findall(r"^(?: {4,}|\w+=\S+ )+(netinv .*)$", text, re.MULTILINE) + re.findall(
        r"`(netinv [^`]+)`", text
    )
    return list(dict.fromkeys(" ".join(line.split("  #")[0].split()) for line in found))


def commands() -> list[str]:
    """Return the `netinv` commands that compose a config."""
    others = ("resume=", "--dry-run")
    return [
        line
        for line in lines()
        if line.split()[1] not in OTHER_WORDS and not any(word in line for word in others)
    ]


def other_commands() -> list[list[str]]:
    """Return the words of the commands with a module of their own, such as `report DIRECTORY`."""
    split = [shlex.split(line)[1:] for line in lines()]
    return [words for words in split if words[0] in COMMANDS and len(words) > 1]


@pytest.fixture(scope="module")
def one_hydra() -> Iterator[None]:
    """Initialise Hydra once for all commands."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@pytest.fixture
def folder(inverted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with a run and a classifier under the names that the pages use."""
    for suffix in (".safetensors", ".json"):
        shutil.copy(zoo_path("mnist_mlp").with_suffix(suffix), tmp_path / f"mine{suffix}")
    (tmp_path / "RUN_DIRECTORY").symlink_to(inverted)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(input_check, "check_login", lambda *advice: True)
    return tmp_path


@pytest.mark.parametrize("command", commands())
def test_every_command_is_accepted(command: str, one_hydra: None, folder: Path) -> None:
    """All checks that come before torch is imported let it pass."""
    words = [word for word in shlex.split(command)[1:] if word != "-m"]
    first_of_sweep = [word if "[" in word or "{" in word else word.split(",")[0] for word in words]
    cfg = compose("config", overrides=first_of_sweep)
    check(cfg)
    assert cfg.application.name in APPLICATION_KEYS
    if "application.save_as=mine.safetensors" in words:
        (folder / "mine.safetensors").unlink()
    told = refusal(cfg)
    assert not told or re.search(f"=(?:{NOT_HERE.pattern}): there is no such f", told)


def refusal(cfg: DictConfig) -> str:
    try:
        input_check.check_inputs(cfg)
    except InputError as error:
        return str(error)
    return ""


def test_every_other_command_is_accepted() -> None:
    parsers = {"dashboard": parse_dashboard, "explore": parse_explore, "report": parse_report}
    assert set(COMMANDS) == {*parsers, "help", "list"}  # the next test runs these two
    parsed = [parsers[words[0]](words[1:]) for words in other_commands() if words[0] in parsers]
    assert len(parsed) > 5


def test_commands_that_describe_keys_and_choices_work() -> None:
    text = "\n".join(page.read_text() for page in MANUAL)
    described = set(re.findall(r"netinv (help|list) ([\w.=]+)", text))
    assert {("help", "loss.cosine"), ("list", "experiments")} <= described
    for command, word in described - {("help", "loss.dark")}:  # of extending.md
        assert len(list(help_on(word) if command == "help" else listed(word))) > 1, word


def decimals(text: str) -> set[str]:
    return set(re.findall(r"\d+\.\d+", text))


@pytest.mark.parametrize("name", APPLICATION_KEYS)
def test_measured_results_are_those_of_the_experiments(name: str) -> None:
    """Every decimal number of the section is on a page, or in a card, that the section links."""
    page = ROOT / "docs" / "applications" / f"{name}.md"
    section = page.read_text().partition("## Measured results\n")[2]
    linked = [(page.parent / link).resolve() for link in re.findall(r"\]\((\.\.[^)#]+)", section)]
    cards = [card for link in linked if link.is_dir() for card in link.glob("*.json")]
    sources = {f"{json.loads(card.read_text())['test_accuracy']:.3f}" for card in cards}
    for link in linked:
        sources |= decimals(link.read_text()) if link.suffix == ".md" else set()
    assert linked
    assert decimals(section) <= sources


def test_every_application_has_a_page_and_a_command() -> None:
    readme, composed = (ROOT / "README.md").read_text(), " ".join(commands())
    for name in APPLICATION_KEYS:
        assert f"](docs/applications/{name}.md)" in readme
        # These two have recipes instead.
        assert f"application={name}" in composed or name in ("invert", "benchmark"), name


def keys() -> set[tuple[str, str]]:
    """Return the config keys in inline code, such as `application.steps`, by group.

    File names are not keys.
    """
    text = "\n".join(page.read_text() for page in MANUAL)
    return set(
        re.findall(rf"`[+~]?({'|'.join(GROUPS)})\.(?!py`|json`|safetensors`)(\w+)[^`]*`", text)
    )


def test_every_key_in_the_text_exists() -> None:
    assert len(keys()) > 60
    assert [
        f"{group}.{key}"
        for group, key in keys()
        if key not in GROUPS[group] and not key.endswith("_")
    ] == []


NEW_FILES = {
    "interpretability/norm_analysis.py",
    "evaluation/metric_groups/contrast.py",
    "inversion/methods/sign.py",
    "ood/detectors/feature_norm.py",
    "ood/detectors/margin.py",
    "applications/confidence.py",
}
"""Files that the recipes of docs/extending.md create."""


def test_every_module_in_the_text_exists() -> None:
    named = {
        match
        for page in MANUAL
        for match in re.findall(r"`netinv_lightning/([\w/]+\.py)(?:::(\w+))?`", page.read_text())
    }
    assert len(named) > 20
    for module, name in named:
        path = ROOT / "netinv_lightning" / module
        assert module in NEW_FILES or path.is_file(), module
        assert not name or re.search(
            rf"^(?:class |def |    def )?{name}\b", path.read_text(), re.MULTILINE
        ), f"{module}::{name}"


def targets(page: Path) -> list[str]:
    """Return the relative targets of a page's links and images."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    found = re.findall(r"\]\(([^)\s]+)(?: \"[^\"]*\")?\)", text) + re.findall(
        r"<(?:img|a) [^>]*(?:src|href)=\"([^\"]+)\"", text
    )
    return [target for target in found if not target.startswith(("http://", "https://", "mailto:"))]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    ids = re.findall(r"<a id=\"([^\"]+)\">", page.read_text())
    return {
        *ids,
        *(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings),
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_has_a_target(page: Path) -> None:
    for target in targets(page):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_links_and_anchors_are_recognised(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A b: c_d `e`\n"
        '[x](there.md#here) ![y](z.png "t") <img src="w.png" width="3"> [out](https://x.y)\n'
    )
    assert targets(page) == ["there.md#here", "z.png", "w.png"]
    assert anchors(page) == {"a-b-c_d-e"}
