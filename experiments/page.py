"""What the pages of experiments show of results.csv: the values of a number over the seeds, and tables of them."""

from __future__ import annotations

from statistics import mean, stdev

from jobs import Row


def pick(rows: list[Row], number: str, **where: str) -> list[float]:
    """The values of a number, by seed, of the rows whose columns have the values `where`."""
    where["number"] = number
    chosen = [row for row in rows if all(row[column] == value for column, value in where.items())]
    return [float(row["value"]) for row in sorted(chosen, key=lambda row: int(row["seed"]))]


def shown(values: list[float]) -> str:
    """Mean and spread over the seeds."""
    return f"{mean(values):.3f} ± {stdev(values):.3f}" if len(values) > 1 else "".join(f"{value:.3f}" for value in values) or "-"


def markdown(columns: list[str], lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *lines)) + "\n"
