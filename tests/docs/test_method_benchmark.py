"""The benchmark of all methods: its contestants, and the rules of its tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.methods import run
from experiments.methods.contestants import CONTESTANTS, NETWORKS, NOT_COMPARED
from experiments.methods.method_tables import access_table, against_generator_table, refusals_table
from netinv_lightning.classifiers.zoo import zoo_names
from netinv_lightning.config.compose import compose
from netinv_lightning.config.method_registry import ACCESS, METHODS


def row(budget: str, method: str, seed: int, transfer: float, **others: float | str) -> run.Row:
    numbers = {"diversity": 2.0, "distance": 0.5, "cas": 0.5} | others
    empty = dict.fromkeys((*run.KEYS, "access", "data", *run.NUMBERS, run.REFUSED), "")
    access = CONTESTANTS[method].access if method in CONTESTANTS else ""
    job = {"budget": budget, "method": method, "network": "mnist_cnn", "seed": str(seed)}
    values = {name: str(value) for name, value in numbers.items()}
    return empty | job | {"access": access, "transfer": str(transfer)} | values


ROWS = [
    row("reference", "real images", 0, 0.99, ceiling=1.0),
    *(row("equal", "generator, papers", seed, 0.80 + seed / 100) for seed in (0, 1)),
    *(row("equal", "gradient", seed, 0.20, diversity=9.0) for seed in (0, 1)),
    *(
        row("equal", "landscape", seed, 0.90 + seed / 100, distance=0.4 + seed / 10)
        for seed in (0, 1)
    ),
]


def test_the_best_method_of_an_access_must_be_recognised_to_be_diverse() -> None:
    (line,) = [line for line in access_table(ROWS).splitlines() if line.startswith("| gradients")]
    cells = line.split(" | ")
    assert cells[1] == "landscape (0.91)"
    assert not cells[2].startswith("gradient ")


def test_only_clear_differences_count_against_the_generator() -> None:
    line = against_generator_table(ROWS).splitlines()[2]
    _, _, transfer, diversity, distance = line.strip("| ").split(" | ")
    assert transfer.endswith("better: landscape 0.91")
    assert diversity.endswith("better: none")  # that of `gradient` is noise
    assert distance.endswith("better: none")  # less than two standard errors


def test_refusals_and_methods_outside_the_table_are_listed() -> None:
    refused = row("equal", "sat", 0, 0.0) | {"transfer": "", "refused": "method=sat: needs | bits"}
    table = refusals_table([refused])
    assert "| sat | MNIST, CNN | method=sat: needs \\| bits |" in table
    assert "| gradient_leakage | all | gets the gradient of a training batch" in table
    compared = {contestant.method for contestant in CONTESTANTS.values()}
    assert compared | {*NOT_COMPARED} >= {*METHODS}


def test_steps_fill_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "calibration.csv").write_text(
        "method,network,fixed,per_step,refused\ngradient,mnist_cnn,5.0,0.5,\nsat,mnist_cnn,,,no\n"
    )
    monkeypatch.setattr(run, "HERE", tmp_path)
    assert run.steps_of_budget("gradient", "mnist_cnn") == (run.BUDGET - 5) / 0.5
    assert run.steps_of_budget("sat", "mnist_cnn") is None


def test_contestants_and_networks_exist() -> None:
    assert set(NETWORKS) <= set(zoo_names())
    assert {contestant.access for contestant in CONTESTANTS.values()} <= set(ACCESS)


def test_contestants_without_data_compose(monkeypatch: pytest.MonkeyPatch) -> None:
    for title, contestant in CONTESTANTS.items():
        if not contestant.needs_data:
            key = contestant.steps_key
            cfg = compose([*run.overrides_of(title, "mnist_cnn"), *([f"{key}=1"] if key else [])])
            assert cfg.method.name == contestant.method
