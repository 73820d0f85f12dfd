"""Rows and columns of metrics.csv, also of a resumed run."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from netinv_lightning.tracking.loggers import MetricsCsv


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_metrics_csv_gets_new_columns(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    logger = MetricsCsv(path)
    logger.log_metrics({"a": 1.0}, step=1)
    logger.log_metrics({"a": 2.0, "b": 3.0}, step=2)
    logger.log_metrics({"b": 4.0}, step=2)
    assert rows_of(path) == [
        {"step": "1", "a": "1.0", "b": ""},
        {"step": "2", "a": "2.0", "b": "3.0"},
        {"step": "2", "a": "", "b": "4.0"},
    ]


@pytest.mark.parametrize(
    "cut", ["", "7,0.1", '"7'], ids=["whole", "cut in a number", "cut in a quote"]
)
def test_a_resumed_run_has_each_step_once_in_metrics_csv(tmp_path: Path, cut: str) -> None:
    path = tmp_path / "metrics.csv"
    killed = MetricsCsv(path)
    for step in (1, 3, 5):
        killed.log_metrics({"a": step / 2}, step=step)
    with path.open("a") as file:
        file.write(cut)
    resumed = MetricsCsv(path)
    resumed.log_metrics({"a": 9.0}, step=3)  # its checkpoint is from step 2
    resumed.log_metrics({"b": 1.0}, step=5)
    assert rows_of(path) == [
        {"step": "1", "a": "0.5", "b": ""},
        {"step": "3", "a": "9.0", "b": ""},
        {"step": "5", "a": "", "b": "1.0"},
    ]


def test_a_resumed_nested_run_replaces_only_its_own_metrics(tmp_path: Path) -> None:
    """Kill the second of two trainings; the file equals that of an uninterrupted run."""

    def log(logger: MetricsCsv, name: str, steps: range) -> None:
        for step in steps:
            logger.log_metrics({f"{name}/loss": step / 4}, step=step)
            logger.log_metrics({f"{name}/accuracy": step / 8, "epoch": step // 2}, step=step)

    whole, broken = MetricsCsv(tmp_path / "whole.csv"), MetricsCsv(tmp_path / "broken.csv")
    for logger in (whole, broken):
        log(logger, "first", range(4))
        log(logger, "second", range(4, 6))
    log(whole, "second", range(6, 9))
    log(broken, "second", range(6, 7))
    resumed = MetricsCsv(tmp_path / "broken.csv")
    log(resumed, "second", range(5, 9))  # its checkpoint is from step 4
    for logger in (whole, resumed):
        logger.log_metrics({"seconds": 1.0}, step=0)
    again = MetricsCsv(tmp_path / "broken.csv")
    again.log_metrics({"seconds": 1.0}, step=0)  # killed after its last row
    assert (tmp_path / "broken.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
