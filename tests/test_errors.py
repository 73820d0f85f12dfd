"""Error lines and exit statuses."""

from __future__ import annotations

import pytest

from netinv_lightning.errors import InputError, exit_status


@pytest.mark.parametrize(
    ("error", "failure", "status", "line"),
    [
        (InputError("key=1: is wrong.\nDo this"), "", 2, "error: key=1: is wrong. Do this"),
        (InputError("key=1: is wrong"), "nothing was saved", 2, "error: key=1: is wrong"),
        (OSError("no\nspace"), "", 1, "failed: OSError: no space"),
        (OSError("no space"), "nothing saved", 1, "failed: nothing saved (OSError: no space)"),
    ],
)
def test_an_error_is_one_line_and_an_exit_status(
    error: Exception, failure: str, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status(error, failure) == status
    assert capsys.readouterr() == ("", f"{line}\n")
