"""The metric by which sweeps rank their jobs: its check, the order, and what the table shows."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.config.rank_by_check import check_direction, check_rank_by
from netinv_lightning.errors import InputError
from netinv_lightning.html_report.sweep_contents import read_sweep
from netinv_lightning.runs.sweep_table import sweep_rows, write_sweep_table

VERIFIERS = "application.verifiers=[mnist_mlp]"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["transfer/acuracy", VERIFIERS], r"is not a metric of application=invert; did "
         r"you mean 'transfer/accuracy'\?"),
        (["student/accuracy"], "is not a metric of application=invert"),
        (["inversion/confidence"], "neither higher nor lower values are better"),
        (["transfer/worst_class"], "needs other networks. Set application.verifiers"),
        (["fidelity/cas"], "is not measured by this run. Set measure=full"),
        (["diversity/vendi_class/mnist_mlp", VERIFIERS], "Set measure=full"),
    ],
)  # fmt: skip
def test_a_metric_that_the_run_does_not_have_is_refused(overrides: list[str], message: str) -> None:
    metric, *others = overrides
    cfg = netinv_lightning.compose([f"application.rank_by={metric}", *others])
    with pytest.raises(InputError, match=rf"^application\.rank_by={metric}.*{message}") as error:
        check_rank_by(cfg)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["inversion/accuracy_class/7"],
        ["diversity/intra_class_cosine"],
        ["cost/seconds"],
        ["transfer/worst_class", VERIFIERS],
        ["transfer/accuracy_hot/mnist_mlp", VERIFIERS],
        ["fidelity/cas", "measure=full"],
    ],
)
def test_metrics_of_the_run_are_accepted(overrides: list[str]) -> None:
    metric, *others = overrides
    check_rank_by(netinv_lightning.compose([f"application.rank_by={metric}", *others]))


def test_optuna_optimises_in_the_direction_of_the_metric() -> None:
    lower = netinv_lightning.compose(["application.rank_by=diversity/intra_class_cosine"])
    default = netinv_lightning.compose()
    for direction, cfg in (("minimize", lower), ("maximize", default), (None, lower)):
        check_direction(cfg, OmegaConf.create({"direction": direction}))
    with pytest.raises(InputError, match=r"direction=maximize: lower .*direction=minimize$"):
        check_direction(lower, OmegaConf.create({"direction": "maximize"}))


def sweep_of(folder: Path, metric: str, values: dict[int, float | None]) -> dict[int, list[str]]:
    for number, value in values.items():
        job = folder / str(number)
        job.mkdir(parents=True)
        status = {"state": "done", "best_metric": value, "best_metric_name": metric}
        (job / "status.json").write_text(json.dumps(status))
        summary = {metric: value, names.TRANSFER_ACCURACY: 0.5, names.INVERSION_ACCURACY: 1.0}
        (job / "summary.json").write_text(json.dumps(summary))
        (job / "verdict.json").write_text(json.dumps({"verdict": "class-typical"}))
        (job / "config.yaml").write_text("{}")
    jobs = {number: [f"seed={number}"] for number in values}
    named = {str(number): job for number, job in jobs.items()}
    manifest = {"jobs": named, "command": ["-m"], "overrides": []}
    (folder / "sweep.json").write_text(json.dumps(manifest))
    return jobs


@pytest.mark.parametrize(
    ("metric", "order", "first"),
    [
        ("transfer/worst_class", [2, 0, 1], "highest"),
        ("diversity/intra_class_cosine", [0, 2, 1], "lowest"),
    ],
)
def test_table_and_page_put_the_best_first_with_verdict_and_transfer(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    metric: str,
    order: list[int],
    first: str,
) -> None:
    jobs = sweep_of(tmp_path, metric, {0: 0.2, 1: None, 2: 0.7})
    rows = sweep_rows(tmp_path, jobs, {})
    assert [row["job"] for row in rows] == order  # a job without the value is last
    write_sweep_table(tmp_path, rows)
    printed = capsys.readouterr().out
    assert f"{first} {metric} first" in printed
    head = next(line for line in printed.splitlines() if "seed" in line and "state" in line)
    assert all(name in head for name in (metric, "verdict", names.TRANSFER_ACCURACY))
    with (tmp_path / "sweep.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [row["verdict"] for row in written] == ["class-typical"] * 3
    assert float(written[0]["best_metric"]) == float(written[0][metric])
    page = read_sweep(tmp_path)
    assert page.ranked_by == metric
    assert [int(job.name) for job in page.jobs] == order
    assert [*page.table.columns][2:5] == ["verdict", metric, names.TRANSFER_ACCURACY]
