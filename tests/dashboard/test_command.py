"""`netinv dashboard`: the saved view, its JSON, and invalid input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import wandb

from netinv_lightning.dashboard import command, workspace
from tests.dashboard.view_contents import keys_of, view

# wandb-workspaces uses a deprecated form of pydantic models.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")


def test_the_command_saves_the_view_and_prints_its_address(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = []

    def upsert(view: Any) -> dict[str, Any]:
        sent.append(view)
        return {"upsertView": {"view": {"name": "nw-abc-v", "id": "1"}}}

    monkeypatch.setattr("wandb_workspaces.workspaces.internal.upsert_view2", upsert)
    monkeypatch.setattr(
        "wandb_workspaces.workspaces.interface.get_app_url", lambda api: "https://wandb.example"
    )
    monkeypatch.setattr(wandb, "Api", lambda *args, **kwargs: None)
    monkeypatch.setattr(wandb, "login", lambda **kwargs: True)
    assert command.main(["--entity", "me", "--project", "inversions"]) == 0
    (view,) = sent
    assert (view.entity, view.project, view.display_name) == (
        "me",
        "inversions",
        "Network inversion, mnist",
    )
    assert len(view.spec.section.panel_bank_config.sections) == 9
    assert capsys.readouterr().out == "https://wandb.example/me/inversions?nw=abc\n"


def test_json_needs_neither_network_nor_login(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "view.json"
    assert command.main(["--json", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert command.main(["--json", "-"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (
        keys_of(json.loads(path.read_text())["section"])
        == keys_of(printed["section"])
        == keys_of(view())
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--entity", "me"],
            "error: netinv dashboard: W&B has no login on this machine",
        ),
        ([], "error: --entity: is missing"),
        (["--entty", "me"], "error: netinv dashboard: unrecognized arguments: --entty me"),
        (["--json"], "error: netinv dashboard: argument --json: expected one argument"),
        (["--data", "mnits", "--json", "-"], "error: --data=mnits: did you mean 'mnist'?"),
        (["--json", "/nowhere/view.json"], "error: --json=/nowhere/view.json: cannot be written"),
    ],
)
def test_wrong_arguments_give_one_line(
    argv: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("WANDB_ENTITY", raising=False)
    monkeypatch.setattr(wandb, "login", lambda **kwargs: False)
    assert command.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(message)
    assert captured.err.count("\n") == 1


def test_missing_wandb_workspaces_gives_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    assert command.main(["--json", "-"]) == 2
    assert "wandb-workspaces is not installed" in capsys.readouterr().err


def test_an_error_of_wandb_gives_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(workspace: object) -> str:
        raise wandb.errors.CommError("project not found\n(<Response [404]>)")

    monkeypatch.setattr(workspace, "publish", refuse)
    assert command.main(["--entity", "me"]) == 1
    assert (
        capsys.readouterr().err
        == "failed: the dashboard was not saved (CommError: project not found (<Response [404]>))\n"
    )
