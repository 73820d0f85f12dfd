"""Compare all methods of inversion at equal cost and at their published budgets: `make methods`.

Steps are chosen per method and classifier so that 200 images, with all training, take `BUDGET`
seconds of one core. Two short runs measure the seconds of a step (calibration.csv).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.jobs import Row, read_rows, run_missing
from experiments.methods.auxiliary import auxiliary_images
from experiments.methods.contestants import CONTESTANTS, MAIN, NETWORKS
from experiments.methods.figures import draw_costs, draw_strips, file_name
from experiments.methods.inverting import REFUSED, Outcome, in_a_process, reference_in_a_process
from experiments.methods.method_tables import (
    access_by_network_table,
    access_table,
    against_generator_table,
    equal_table,
    networks_table,
    published_table,
    refusals_table,
)
from experiments.methods.verifiers import verifiers
from experiments.options import add_tables
from experiments.page import with_tables

HERE = Path(__file__).parent
STRIPS = HERE / "strips"
BUDGET = 10.0
"""Seconds of one core for all images of a run."""
SEEDS = (0, 1, 2)
CALIBRATION_SEED = 100
EQUAL, PUBLISHED, REFERENCE = "equal", "published", "reference"
REFERENCES = {"real images": "real", "class means": "class_means", "noise": "noise"}
KEYS = ("budget", "method", "network", "seed")
NUMBERS = (
    "steps", "seconds", "forwards", "backwards", "queries", "extra_mb", "accuracy", "confidence",
    "transfer", "ceiling", "diversity", "duplicates", "distance", "distance_held_out", "cas",
)  # fmt: skip
JOBS = [
    *(
        (REFERENCE, name, network, seed)
        for network in NETWORKS
        for name in REFERENCES
        for seed in SEEDS
    ),
    *((EQUAL, title, MAIN, seed) for seed in SEEDS for title in CONTESTANTS),
    *(
        (EQUAL, title, network, seed)
        for network in NETWORKS
        if network != MAIN
        for seed in SEEDS
        for title in CONTESTANTS
    ),
    *(
        (PUBLISHED, title, MAIN, seed)
        for seed in SEEDS
        for title, contestant in CONTESTANTS.items()
        if contestant.published is not None
    ),
]
CALIBRATIONS = [(title, network) for network in NETWORKS for title in CONTESTANTS]


def calibrate(title: str, network: str) -> list[Row]:
    """Measure the seconds before the first step, and those of a step, by two short runs."""
    contestant = CONTESTANTS[title]
    row = {"method": title, "network": network, "fixed": "", "per_step": "", REFUSED: ""}
    if contestant.steps_key is None:
        return [row]
    seconds = []
    for steps in contestant.trial:
        outcome = in_a_process(
            [
                *overrides_of(title, network),
                f"seed={CALIBRATION_SEED}",
                f"{contestant.steps_key}={steps}",
            ]
        )
        if REFUSED in outcome:
            return [{**row, REFUSED: outcome[REFUSED]}]
        seconds.append(float(outcome["seconds"]))
    first, second = contestant.trial
    per_step = (seconds[1] - seconds[0]) / (second - first)
    fixed = max(0.0, seconds[0] - first * per_step)
    return [{**row, "fixed": f"{fixed:.3f}", "per_step": f"{per_step:.5f}"}]


def steps_of_budget(title: str, network: str) -> int | None:
    """Return the steps that take `BUDGET` seconds; None if they cannot be chosen."""
    for row in read_rows(HERE / "calibration.csv"):
        if (row["method"], row["network"]) == (title, network) and row["per_step"]:
            return max(1, int((BUDGET - float(row["fixed"])) / float(row["per_step"])))
    return None


def one(budget: str, title: str, network: str, seed: int) -> list[Row]:
    """Run one method on one classifier, or measure a reference set of images."""
    if budget == REFERENCE:
        keys = [*NETWORKS[network].overrides, f"seed={seed}", _verifiers(network)]
        outcome = reference_in_a_process(REFERENCES[title], keys, _has_cas(network, seed))
        return [_row(budget, title, network, seed, outcome)]
    contestant, length = CONTESTANTS[title], []
    if budget == PUBLISHED:
        length = [*(contestant.published or ())]
    elif (steps := steps_of_budget(title, network)) is not None:
        length = [f"{contestant.steps_key}={steps}"]
    keys = [*overrides_of(title, network, budget), f"seed={seed}", _verifiers(network), *length]
    strip = STRIPS / f"{network}-{file_name(title)}.png"
    drawn = strip if (budget, seed) == (EQUAL, SEEDS[0]) else None
    return [_row(budget, title, network, seed, in_a_process(keys, drawn, _has_cas(network, seed)))]


def overrides_of(title: str, network: str, budget: str = EQUAL) -> list[str]:
    """Return the overrides of a method on a classifier, without its length."""
    contestant, facts = CONTESTANTS[title], NETWORKS[network]
    method = [f"method={contestant.choice or contestant.method}", *contestant.overrides]
    if contestant.needs_data:
        method.append(f"method.auxiliary={auxiliary_images(facts.data, budget == EQUAL)}")
    return [*facts.overrides, *method]


def _has_cas(network: str, seed: int) -> bool:
    """Return whether CAS is measured: it takes as long as a run, so only once per method."""
    return (network, seed) == (MAIN, SEEDS[0])


def _verifiers(network: str) -> str:
    return f"application.verifiers=[{','.join(map(str, verifiers(NETWORKS[network].verified_by)))}]"


def _row(budget: str, title: str, network: str, seed: int, outcome: Outcome) -> Row:
    contestant = CONTESTANTS.get(title)
    row: Row = {"budget": budget, "method": title, "network": network, "seed": seed}
    row["access"] = "" if contestant is None else contestant.access
    row["data"] = "yes" if contestant is not None and contestant.needs_data else ""
    if contestant is not None and contestant.counts_queries and "forwards" in outcome:
        outcome = outcome | {"queries": outcome["forwards"]}
    for name in NUMBERS:
        value = outcome.get(name, "")
        row[name] = f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
    return row | {REFUSED: outcome.get(REFUSED, "")}


def tables(rows: list[Row]) -> dict[str, str]:
    """Return the tables of the page."""
    return {
        "equal": equal_table(rows),
        "access": access_table(rows),
        "access-networks": access_by_network_table(rows),
        "generator": against_generator_table(rows),
        "networks": networks_table(rows),
        "published": published_table(rows),
        "refusals": refusals_table(rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_tables(parser, "results.csv")
    results, page = HERE / "results.csv", HERE / "README.md"
    if not parser.parse_args().tables:
        run_missing(HERE / "calibration.csv", ("method", "network"), CALIBRATIONS, calibrate)
        rows = run_missing(results, KEYS, JOBS, one)
        draw_costs(rows, HERE / "costs.png")
        draw_strips(STRIPS, HERE)
    page.write_text(with_tables(page.read_text(), tables(read_rows(results))))


if __name__ == "__main__":
    main()
