"""The study of coverage: shares of exact solutions, and the judge of samplers."""

from __future__ import annotations

import pytest
import torch

from experiments.sat_coverage import coverage_tables
from experiments.sat_coverage.coverage import (
    covered,
    distinct,
    every_input,
    mean_distance,
    nearest_distance,
    numbers_of,
)
from experiments.sat_coverage.samplers import judge


def test_inputs_are_numbered_in_the_order_of_their_list() -> None:
    bits_nI = every_input(5)
    assert bits_nI.shape == (32, 5)
    assert set(bits_nI.unique().tolist()) == {-1, 1}
    assert distinct(bits_nI) == 32
    assert torch.equal(numbers_of(bits_nI), torch.arange(32))


def test_the_covered_share_counts_each_solution_once() -> None:
    assert covered(torch.tensor([3, 3, 5, 9]), torch.tensor([1, 3, 5, 7])) == 0.5


def test_distances_count_different_bits() -> None:
    bits_nI = torch.tensor([[1, 1, 1], [1, 1, -1], [-1, -1, -1]])
    assert mean_distance(bits_nI) == pytest.approx((1 + 3 + 2) / 3)
    assert nearest_distance(torch.tensor([[-1, 1, -1]]), bits_nI).tolist() == [1.0]


def test_the_judge_accepts_equal_counts_and_rejects_a_favourite() -> None:
    solution_S = torch.tensor([2, 4, 8, 9])
    equal = judge(solution_S.repeat(10), solution_S)
    assert (equal["statistic"], equal["p"], equal["missed"]) == (0.0, 1.0, 0.0)
    favourite = judge(torch.tensor([4] * 40), solution_S)
    assert favourite["missed"] == 0.75
    assert favourite["p"] < 1e-6
    with pytest.raises(AssertionError):
        judge(torch.tensor([3]), solution_S)  # no solution


def test_the_table_marks_what_was_not_reached() -> None:
    def row(method: str, number: str, value: str) -> dict[str, str]:
        part = "size 8x8, 64-64"
        return {"part": part, "method": method, "seed": "10", "number": number, "value": value}

    rows = [
        row("solver", "first", "2.5"),
        row("solver", "clauses", "1234"),
        row("papers", "first", "inf"),
    ]
    line = coverage_tables.size_table(rows).splitlines()[2]
    assert line.startswith("| 8x8, 64-64 | 1,234 | - | 2.50 | not reached | - |")
