"""`application=audit`: attacks on a trained classifier, and invalid options."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import netinv_lightning
from experiments.forked import run_command
from netinv_lightning import metric_names as names
from netinv_lightning.applications import make_application
from netinv_lightning.applications.audit import AuditApplication
from netinv_lightning.errors import InputError
from netinv_lightning.privacy.build import with_training_split
from netinv_lightning.privacy.control_sets import CONTROLS
from netinv_lightning.run import _hand_over as hand_over
from netinv_lightning.run import run
from netinv_lightning.runs.sweep_check import check_job
from tests.applications.leaking_classifier import FEW, of
from tests.conftest import FEW_STEPS


def quoted(overrides: list[str]) -> str:
    return ",".join(f'"{override}"' for override in overrides)


def test_an_audit_from_the_command_line(trained: Path, tmp_path: Path) -> None:
    few = [step for step in FEW if "reconstructions" not in step]
    attack = [
        "application=audit",
        "application.attacks=[inversion,reconstruction]",
        f"application.overrides=[{quoted(few)}]",
    ]
    done = run_command(
        [
            *attack,
            *of(trained),
            "application.reconstructions=40",
            "application.members=60",
            "application.fail_if=leak",
            "application.shadow=4",
        ],
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    directory = Path(done.stdout.splitlines()[-1])
    verdict = json.loads((directory / "verdict.json").read_text())
    assert verdict["line"] in done.stdout
    summary = json.loads((directory / "summary.json").read_text())
    with (directory / "audit.csv").open(newline="") as file:
        rows = {row["images"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["inversion", "reconstruction", *CONTROLS]
    for name in ("inversion", "reconstruction"):
        of_attack = json.loads((directory / "attacks" / name / "summary.json").read_text())
        assert (
            float(rows[name]["auc"])
            == of_attack[names.RECONSTRUCTION_AUC]
            == summary[names.reconstruction("auc_attack", name)]
        )
    assert summary[names.reconstruction("auc_of_loss")] > 0.5  # five epochs on 100 images
    shown = [
        (directory / "attacks" / name / "figures" / "best_pairs.png").read_bytes()
        for name in ("inversion", "reconstruction")
    ]
    # those of the strongest attack
    assert (directory / "figures" / "best_pairs.png").read_bytes() in shown
    check_the_handed_over_files(directory, verdict, summary)


def check_the_handed_over_files(
    directory: Path, verdict: dict[str, Any], summary: dict[str, float]
) -> None:
    record = json.loads((directory / "audit.json").read_text())
    assert (record["leak"], record["verdict"]) == (False, verdict["verdict"])
    assert list(record["attacks"]) == ["inversion", "reconstruction"]
    assert record["membership"]["membership/auc"] == summary["membership/auc"]
    # 784 * 32, 2 * 32 of BatchNorm, 32 * 10 + 10
    assert summary["audit/parameters_per_value"] == record["capacity"]["ratio"]
    assert record["capacity"]["parameters"] == 25482
    assert record["capacity"]["values"] * record["capacity"]["training_images"] == 78400
    assert summary["audit/leak"] == 0
    with (directory / "shadow.csv").open(newline="") as file:
        shadow = {row["attack"]: float(row["AUC"]) for row in csv.DictReader(file)}
    kinds = {f"{attack}_{kind}" for attack in ("lira", "rmia") for kind in ("online", "offline")}
    assert set(shadow) == {"loss", *kinds}
    assert shadow["lira_online"] == summary["membership/lira_online/auc"]
    document = (directory / "audit.md").read_text()
    for section in (
        "# Audit of mlp, mnist5k",
        "**Verdict: ",
        "## Membership inference by the loss",
        "## Membership inference with shadow networks",
        "## What leak would have been detected?",
        "## Most exposed training images",
        "## Assumptions and limits",
        "p / (d n) = ",
        "(figures/exposed.png)",
    ):
        assert section in document
    with (directory / "exposure.csv").open(newline="") as file:
        exposed = list(csv.DictReader(file))
    assert len(exposed) == record["members"] == 60
    assert [int(row["index"]) for row in exposed[:10]] == record["most_exposed"]
    page = (directory / "report.html").read_text()
    for title in ("Assumptions and limits", "Most exposed training images", "Audit of mlp"):
        assert title in page
    assert page.count("<caption><span>Audit of mlp, mnist5k</span>") == 1


def test_a_leak_has_its_own_exit_status(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[Path] = []
    monkeypatch.setattr("netinv_lightning.html_report.command.write_report", reports.append)
    audit = ["application=audit", *of(trained)]
    for overrides, leak, status in (
        (["application.fail_if=leak"], 1.0, 3),
        (["application.fail_if=leak"], 0.0, None),
        ([], 1.0, None),
    ):
        cfg = netinv_lightning.compose([*audit, *overrides])
        if status is None:
            hand_over(cfg, tmp_path, {names.AUDIT_LEAK: leak})
            continue
        with pytest.raises(SystemExit) as exited:
            hand_over(cfg, tmp_path, {names.AUDIT_LEAK: leak})
        assert exited.value.code == status
    assert reports == [tmp_path] * 3
    with pytest.raises(InputError, match=r"application.fail_if=leak: applies to a single run"):
        check_job(netinv_lightning.compose([*audit, "application.fail_if=leak"]))


def test_an_audit_fails_if_every_attack_fails(trained: Path, tmp_path: Path) -> None:
    overrides = quoted([*FEW_STEPS, "application.lr=1e30"])
    attack = [
        "application=audit",
        "application.attacks=[inversion]",
        f"application.overrides=[{overrides}]",
        "application.members=60",
    ]
    cfg = netinv_lightning.compose([*attack, *of(trained)])
    with pytest.raises(RuntimeError, match="every attack failed: inversion: "):
        run(cfg, tmp_path / "run")


def test_a_fine_tuned_classifier_is_judged_by_test_images(trained: Path, tmp_path: Path) -> None:
    for file in (trained, trained.with_suffix(".json")):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    card = json.loads((tmp_path / "mlp.json").read_text())
    card["recipe"]["trained_before"] = True
    (tmp_path / "mlp.json").write_text(json.dumps(card))
    command = ["application=audit", "application.attacks=[inversion]"]
    before, audit = (
        make_application(netinv_lightning.compose([*command, *of(path)]))
        for path in (trained, tmp_path / trained.name)
    )
    assert isinstance(audit, AuditApplication)
    assert isinstance(before, AuditApplication)
    assert (before.real.exchangeable, audit.real.exchangeable) == (True, False)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ["application.attacks=[inversoin]"],
            "application.attacks=inversoin: did you mean 'inversion'?",
        ),
        (["application.attacks=[]"], "application.attacks=\\[\\]: is empty. Give at least one"),
        (["application.effort=quik"], "application.effort=quik: did you mean 'quick'?"),
        (
            ["data.subset_size=200"],
            "data.subset_size=200: the classifier was trained with data.subset_size=100",
        ),
        (
            ["data=mnist", "data.root=nowhere"],
            "data=mnist: an audit needs training and held-out images; "
            "no real data: data.root=nowhere",
        ),
        (["application.members=0"], "application.members=0: must be 1 or more"),
        (
            ["application.members=9"],
            "application.members=9: must be 10 or more, one image per class",
        ),
        (
            ["application.reconstructions=9"],
            "application.reconstructions=9: must be 10 or more, one image per class",
        ),
    ],
)
def test_invalid_options_of_an_audit_are_refused(
    trained: Path, tmp_path: Path, overrides: list[str], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        run(
            netinv_lightning.compose(
                ["application=audit", "application.attacks=[inversion]", *of(trained), *overrides]
            ),
            tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


def test_without_a_card_the_training_data_must_be_given(trained: Path, tmp_path: Path) -> None:
    """Otherwise an audit would use the default split as members and detect no leak."""
    (tmp_path / "mlp.safetensors").write_bytes(trained.read_bytes())
    network = "{_target_: netinv_lightning.classifiers.networks.MLP, widths: [32]}"
    cardless = [
        "application=audit",
        *of(tmp_path / "mlp.safetensors"),
        f"+classifier.network={network}",
    ]
    for application in ("audit", "reconstruct"):
        with pytest.raises(
            InputError,
            match=r"^application.trained_on: is required, .* Set all .*data=mnist5k.* or split",
        ):
            make_application(netinv_lightning.compose([*cardless, f"application={application}"]))
    told = {
        name: with_training_split(
            netinv_lightning.compose(
                [*cardless, "data.subset_size=100", f"application.trained_on={name}"]
            )
        ).data
        for name in ("all", "split")
    }
    assert (told["all"].val_fraction, told["all"].subset_size) == (0, None)
    assert (told["split"].val_fraction, told["split"].subset_size) == (0.1, 100)
    with pytest.raises(InputError, match=r"application.trained_on=al: did you mean 'all'\?"):
        with_training_split(netinv_lightning.compose([*cardless, "application.trained_on=al"]))
    with pytest.raises(
        InputError,
        match=r"application.trained_on=all: the training data of the classifier are known; remove",
    ):
        with_training_split(
            netinv_lightning.compose(
                ["application=audit", *of(trained), "application.trained_on=all"]
            )
        )
