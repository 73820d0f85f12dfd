"""Tables of a benchmark: mean and spread over seeds, and the title."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from netinv_lightning import metric_names as names
from netinv_lightning.config.method_registry import METHODS, Method
from netinv_lightning.evaluation.benchmark_table import (
    Group,
    access_of,
    benchmark_table,
    read_group,
)

COMBINATION = ("mnist_invert", "generator", "label")


def finished(folder: Path, accuracies: list[float], verdicts: list[str]) -> list[Path]:
    directories = []
    for seed, (accuracy, verdict) in enumerate(zip(accuracies, verdicts, strict=True)):
        directory = folder / str(seed)
        directory.mkdir()
        summary = {names.INVERSION_ACCURACY: accuracy}
        (directory / "summary.json").write_text(json.dumps(summary))
        (directory / "verdict.json").write_text(json.dumps({"verdict": verdict}))
        directories.append(directory)
    return directories


def test_a_group_has_mean_and_spread_of_its_seeds(tmp_path: Path) -> None:
    group = read_group(COMBINATION, 3, finished(tmp_path, [0.5, 0.7], ["inverted", "inverted"]))
    assert group.images_of == "2/3 seeds"
    assert group.mean(names.INVERSION_ACCURACY) == pytest.approx(0.6)
    assert group.spread(names.INVERSION_ACCURACY) == pytest.approx(0.02**0.5)
    assert group.verdict == "inverted"
    assert group.mean(names.TRANSFER_ACCURACY) is None


def test_different_verdicts_are_counted(tmp_path: Path) -> None:
    group = read_group(COMBINATION, 2, finished(tmp_path, [0.5, 0.7], ["inverted", "none"]))
    assert group.verdict == "1 inverted, 1 none"
    assert group.spread(names.TRANSFER_ACCURACY) is None


def test_the_title_has_what_all_inversions_share(tmp_path: Path) -> None:
    group = read_group(
        COMBINATION, 1, finished(tmp_path, [0.5], ["inverted"]), access_of(METHODS["generator"])
    )
    baseline = Group("mnist_invert", "baseline: noise", "", "50 images")
    baseline.add({names.INVERSION_ACCURACY: 0.25})
    table = benchmark_table("mine", [group, baseline], ["a note"])
    assert table.title == "Benchmark: mine, mnist_invert, generator, label"
    assert list(table.columns) == ["method", "access", "of", "accuracy", "verdict"]
    assert [row[1] for row in table.rows] == ["gradients", ""]
    assert [row[0] for row in table.rows] == ["generator", "baseline: noise"]
    assert table.notes[-1] == "a note"
    assert table.full is not None
    row = dict(zip(table.full.columns, table.full.rows[1], strict=True))
    assert (row["method"], row[names.INVERSION_ACCURACY]) == ("baseline: noise", 0.25)
    assert row[f"{names.INVERSION_ACCURACY} spread"] is None


def test_access_and_data_of_a_method() -> None:
    assert access_of(Method("a.B", access="scores", data=True)) == "scores and data"
    assert access_of(Method("a.B", access="weights")) == "weights"


def test_computed_columns_of_the_printed_table() -> None:
    group = Group(*COMBINATION, "1/1 seeds")
    group.add(
        {
            names.of_network(names.VENDI_CLASS, "a"): 2.0,
            names.of_network(names.VENDI_CLASS, "b"): 4.0,
            names.VENDI_CLASS: 99.0,  # in features that the objective optimised
            names.MEMORISATION_NEAREST_TRAINING: 0.25,
            names.CLASSIFIER_FORWARDS: 1_200.0,
        }
    )
    table = benchmark_table("mine", [group], [])
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert (row["diversity"], row["distance"], row["forward"]) == ("3.000", "0.750", "1200")
    assert {"queries", "CAS", "MiB"}.isdisjoint(row)
    assert any(note.startswith("diversity: ") for note in table.notes)
