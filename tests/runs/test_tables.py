"""Tables as they are printed."""

from __future__ import annotations

import pytest

from netinv_lightning.runs.tables import Table, format_cell, print_table


def test_a_wide_table_keeps_all_cells(capsys: pytest.CaptureFixture[str]) -> None:
    columns = ["set of images", *(f"number {number} of the network" for number in range(12))]
    print_table(
        Table(
            "wide",
            columns,
            [["counterfeits", *(number + 0.125 for number in range(12))]],
            ["a note"],
        )
    )
    printed = capsys.readouterr().out
    assert "counterfeits" in printed
    assert all(f"{number + 0.125:.{3 if number < 10 else 1}f}" in printed for number in range(12))
    assert "…" not in printed
    assert printed.split().count("network") == 12
    assert printed.splitlines()[-1] == "a note"


def test_a_table_that_fits_has_its_headings_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(Table("narrow", ["set of images", "its accuracy"], [["test images", 0.5]]))
    assert any(
        "set of images" in line and "its accuracy" in line
        for line in capsys.readouterr().out.splitlines()
    )


def test_numbers_are_rounded_for_reading() -> None:
    assert [format_cell(cell) for cell in (-0.0002, 0.0, -0.5, 12.34, -4567.8, 3, None)] == [
        "0.000",
        "0.000",
        "-0.500",
        "12.3",
        "-4568",
        "3",
        "",
    ]
