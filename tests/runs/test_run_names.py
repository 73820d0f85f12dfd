"""The keys `output` and `name`, which make up the path of a run directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from netinv_lightning.config.registration import run_directory
from netinv_lightning.errors import InputError


@pytest.mark.parametrize(
    ("output", "name", "message"),
    [
        ("runs", "../../x", r"name=\.\./\.\./x: must be the name of a folder in output=runs"),
        ("runs", "a/../../x", r"name=a/\.\./\.\./x: must be"),
        ("runs", "/abs", r"name=/abs: must be"),
        ("runs", "~/x", r"name=~/x: must be"),
        ("runs", ".", r"name=\.: must be"),
        ("runs", "a\nb", r"name=a\nb: must not contain control characters"),
        ("runs", "\x1b[2Jevil", r"must not contain control characters"),
        ("runs", "", r"name='': must not be empty"),
        ("", "x", r"output='': must not be empty"),
        ("  ", "x", r"output='': must not be empty"),
    ],
)
def test_a_name_does_not_lead_out_of_output(output: str, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_directory(output, name)


def test_ordinary_names_are_not_changed() -> None:
    for name in ("mnist_invert", "a/b", "..x", "$5_$10", "naïve run"):
        assert run_directory("/somewhere/runs", name) == f"/somewhere/runs/{name}"


def test_the_command_refuses_such_names(
    netinv: Callable[..., int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for words in (
        ["name=../../x"],
        ["output=''"],
        ["-m", "name=../x", "seed=0,1"],
        ["-m", "sweep_output=''", "seed=0,1"],
    ):
        assert netinv(*words) == 2
        err = capfd.readouterr().err.strip()
        assert err.startswith(("error: name=../", "error: output='': must not"))
        assert len(err.splitlines()) == 1
        assert [*tmp_path.iterdir()] == []
        assert not (tmp_path.parent / "x").exists()
