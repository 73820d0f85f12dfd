"""Words of a command line: invalid ones are named, and the quoted form in the message works."""

from __future__ import annotations

import os
import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

import netinv_lightning
from netinv_lightning.config.command_line import check_words, parse, quoted
from netinv_lightning.config.launch_environment import check_environment, tidy_environment
from netinv_lightning.errors import InputError

COMMANDS = ("dashboard", "explore", "report", "retry")
AWKWARD = [
    "epoch=3-step=100.ckpt", "a#b", "~/x", "bücher/日本.npz", "images[1].npz", "a{1}",
    "runs/a,b", "'a", '"a', "a(1).npz", "a&b;c!d^e", "a\\b=c", "it's = a", 'say "hi"=',
    "\\\\server\\share=1", "ends=\\", 'a\\"b=',
]  # fmt: skip


@pytest.mark.parametrize("value", AWKWARD)
def test_shown_quoted_form_sets_the_value(value: str) -> None:
    word = f"classifier.path={value}"
    form = quoted("classifier.path", value)
    if not value.startswith("runs/"):  # a comma is only refused in a command without -m
        with pytest.raises(InputError) as refused:
            parse(word)
        assert str(refused.value).startswith(f"{word}: the value has")
        assert form in str(refused.value)
    (shown,) = shlex.split(form)
    assert OverridesParser.create().parse_override(shown).value() == value


def test_quoted_form_reaches_the_config() -> None:
    (shown,) = shlex.split(quoted("classifier.path", AWKWARD[0]))
    assert netinv_lightning.compose([shown]).classifier.path == AWKWARD[0]


REFUSED = {
    ("application.run=runs/a,b",): (
        "has several values. For a sweep add -m; for one value write "
        "'application.run=\"runs/a,b\"'; for a list write 'application.run=[runs/a,b]'"
    ),
    ("",): "'': has no key; write KEY=VALUE",
    ("=3",): "=3: has no key; write KEY=VALUE",
    ("a b=3",): "a b=3: 'a b' is not a key",
    ("reprot",): (
        "reprot: is neither KEY=VALUE nor a command (its first word); did you mean 'report'?"
    ),
    ("--unknown-flag",): "unrecognized arguments: --unknown-flag;",
    ("seed=[1",): "seed=[1: the value has characters or brackets that need quotes",
}


@pytest.mark.parametrize("words", REFUSED)
def test_wrong_words_are_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as refused:
        check_words(words, COMMANDS)
    assert REFUSED[words] in str(refused.value)


@pytest.mark.parametrize(
    "key",
    ["application.compile", "classifier.train", "measure.full", "garbage.noise.invert_garbage"],
)
def test_number_is_refused_for_a_flag(key: str) -> None:
    with pytest.raises(InputError, match=rf"^{key}=3: must be true or false$"):
        check_words([f"{key}=3"], COMMANDS)
    with pytest.raises(InputError, match="must be true or false"):
        netinv_lightning.compose([f"{key}=-0.5"])
    check_words([f"{key}=true", f"{key}=1", "application.steps=3"], COMMANDS)


def test_missing_trainer_argument_shows_the_plus() -> None:
    with pytest.raises(InputError, match=r"add it with a plus: \+trainer.max_steps=VALUE$"):
        netinv_lightning.compose(["trainer.max_steps=3"])
    assert netinv_lightning.compose(["+trainer.max_steps=3"]).trainer.max_steps == 3
    with pytest.raises(InputError, match=r"trainer.max_stepz: lightning.Trainer has no such"):
        netinv_lightning.compose(["+trainer.max_stepz=3"])


def test_commas_are_allowed_in_a_sweep() -> None:
    check_words(["-m", "seed=1,2", "data.path=/tmp/my data", "hydra/launcher=joblib"], COMMANDS)


def test_empty_and_legacy_variables_are_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NETINV_DATA": "", "WANDB_MODE": "dryrun", "WANDB_PROJECT": ""}.items():
        monkeypatch.setenv(name, value)
    logger = netinv_lightning.compose(["logger=wandb"]).logger
    assert (logger.mode, logger.project) == ("offline", "netinv")
    assert netinv_lightning.compose([]).data.root == "data"
    monkeypatch.setenv("WANDB_MODE", "")
    monkeypatch.setenv("WANDB_DISABLED", "true")
    tidy_environment()
    assert netinv_lightning.compose(["logger=wandb"]).logger.mode == "disabled"


STALE = [
    ({"RANK": "1"}, "RANK=1: is left over from another launcher (WORLD_SIZE, MASTER_ADDR"),
    ({"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "here"}, "RANK=2: must be below WORLD_SIZE=2"),
    (
        {"LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "here"},
        "LOCAL_RANK=1: the environment has 2 processes, but trainer.devices is 1.",
    ),
    ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, "SLURM_PROCID=1: the environment has 2 processes"),
    ({"RANK": ""}, "RANK=: this environment variable must be a whole number"),
    ({"TORCHELASTIC_RUN_ID": "x"}, "TORCHELASTIC_RUN_ID=x: torchrun also sets RANK, LOCAL_RANK"),
]


@pytest.mark.parametrize(("variables", "line"), STALE)
def test_ranks_of_another_launcher_are_refused(
    variables: dict[str, str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as refused:
        check_environment(netinv_lightning.compose([]))
    assert str(refused.value).startswith(line)
    # Otherwise this process would not print the message, nor remove the empty run directory.
    assert "RANK" not in os.environ


def test_ranks_of_a_real_launcher_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    torchrun = {
        "RANK": "1",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",
    }
    for name, value in (torchrun | {"TORCHELASTIC_RUN_ID": "none"}).items():
        monkeypatch.setenv(name, value)
    check_environment(netinv_lightning.compose(["trainer=ddp"]))
    assert os.environ["RANK"] == "1"
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    check_environment(netinv_lightning.compose([]))
