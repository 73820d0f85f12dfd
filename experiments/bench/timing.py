"""Timing of alternating runs, and the file of the results."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import lightning as L

RESULTS = Path(__file__).parent / "bench.csv"
ROUNDS = 5


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ratio(
    ours: Callable[[], object], other: Callable[[], object], rounds: int = ROUNDS
) -> list[float]:
    """Return time(other) / time(ours) of alternating runs; above 1 ours is faster."""
    ours(), other()
    pairs = [(seconds(ours), seconds(other)) for _ in range(rounds)]
    return [theirs / mine for mine, theirs in pairs]


def spread(ratios: list[float], digits: int = 2) -> str:
    """Return median, minimum and maximum."""
    middle, low, high = (
        f"{value:.{digits}f}" for value in (median(ratios), min(ratios), max(ratios))
    )
    return f"{middle} ({low}-{high})"


class Clock(L.Callback):
    """Measure the seconds of the training loop without Lightning's set-up and tear-down."""

    def on_train_start(self, *args: object) -> None:
        self.start = time.perf_counter()

    def on_train_end(self, *args: object) -> None:
        self.seconds = time.perf_counter() - self.start


def report(name: str, value: str, note: str = "") -> None:
    """Print a number and write it to bench.csv, where it replaces the previous value."""
    print(f"{name:58s} {value:>24s}  {note}", flush=True)
    rows: dict[str, list[str]] = {}
    if RESULTS.is_file():
        with RESULTS.open(newline="") as file:
            rows = {row[0]: row for row in list(csv.reader(file))[1:]}
    rows[name] = [name, value, note]
    with RESULTS.open("w", newline="") as file:
        csv.writer(file).writerows([["figure", "median (range)", "note"], *rows.values()])
