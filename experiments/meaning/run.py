"""Judge inversions of MNIST by networks that chose nothing, and by what they teach."""

from __future__ import annotations

import csv
from pathlib import Path
from shutil import copyfile

from experiments.jobs import Row, netinv, read_rows
from experiments.meaning.verifiers import REPORTING, trained
from experiments.page import markdown, pick, run_experiment, shown
from experiments.recipes import UNUSED_SEEDS
from experiments.run_files import copy_figure, number_rows, read_summary
from netinv_lightning import metric_names as names

HERE = Path(__file__).parent
ONE, ROUNDS, NETWORKS = "one generator", "rounds and views", "rounds, views, three networks"
TEN = [
    "n_generators=10",
    "application.round_steps=40",
    "application.steps=480",
    "application.sampling_views=true",
]
VARIANTS = {
    ONE: ["application.steps=300"],
    ROUNDS: TEN,
    NETWORKS: [*TEN, "+loss.networks={weight: 1, networks: [mnist_mlp, mnist_resnet]}"],
}
JOBS = [
    (ONE, 10),
    *(
        (variant, seed)
        for seed in UNUSED_SEEDS
        for variant in (NETWORKS, ONE)
        if (variant, seed) != (ONE, 10)
    ),
    *((ROUNDS, seed) for seed in UNUSED_SEEDS),
]
MEASURED = [
    "measure=full",
    "measure.metrics=[accuracy,transfer,diversity,manifold,cas]",
    "measure.samples=2000",
    "application.eval_samples=2000",
    "application.grid_every=100000",
    "application.checkpoint_every=100000",
]
IN_FEATURES = (names.PRECISION, names.RECALL, names.VENDI_CLASS)
"""Metrics in the features of each reporting network; the mean over the networks is reported."""
COLUMNS = {
    "soft": "transfer, soft",
    "hot": "transfer, hot",
    names.TRANSFER_WORST_CLASS: "worst class, soft",
    names.TRANSFER_WORST_CLASS_HOT: "worst class, hot",
    names.CAS: "CAS",
    names.RECALL: "recall",
    names.PRECISION: "precision",
    names.VENDI_CLASS: "Vendi, class",
    names.TRAINING_SECONDS: "seconds",
}
REAL = "real/"


def one(variant: str, seed: int) -> list[Row]:
    """Run one inversion and return a row per number; the first job also measures real images."""
    first = (variant, seed) == JOBS[0]
    verifiers = ",".join(map(str, trained(REPORTING)))
    run_dir = netinv(
        "+experiment=mnist_invert",
        "loss=natural",
        f"seed={seed}",
        f"application.verifiers=[{verifiers}]",
        f"measure.controls=[{'real' if first else ''}]",
        *MEASURED,
        *VARIANTS[variant],
    )
    if seed == UNUSED_SEEDS[0]:
        stem = variant.replace(",", "").replace(" ", "_")
        copy_figure(run_dir, "grid", HERE / f"{stem}.png", divisor=1)
        copyfile(run_dir / "transfer.csv", HERE / f"{stem}.csv")
    summary = read_summary(run_dir)
    ceiling = summary[names.TRANSFER_CEILING]
    numbers = {
        "soft": summary[names.TRANSFER_ACCURACY] / ceiling,
        "hot": summary[names.TRANSFER_ACCURACY_HOT] / ceiling,
    }
    for name in (
        names.TRANSFER_WORST_CLASS,
        names.TRANSFER_WORST_CLASS_HOT,
        names.TRAINING_SECONDS,
    ):
        numbers[name] = summary[name]
    numbers |= _usefulness(run_dir, "inverted")
    if first:
        real = _usefulness(run_dir, "real")
        numbers |= {REAL + name: value for name, value in real.items()}
        numbers[REAL + "ceiling"] = ceiling
    return number_rows(numbers, variant=variant, seed=seed)


def _usefulness(run_dir: Path, images: str) -> dict[str, float]:
    """Return CAS, and the metrics in the features of the reporting networks, of a set of images."""
    with (run_dir / "measurement.csv").open() as file:
        value = {row["metric"]: float(row[images]) for row in csv.DictReader(file) if row[images]}
    return {names.CAS: value[names.CAS]} | {
        name: sum(value[names.of_network(name, network)] for network in REPORTING) / len(REPORTING)
        for name in IN_FEATURES
    }


def tables(rows: list[Row]) -> dict[str, str]:
    """Return the tables of the page."""
    lines = [
        [variant, *(shown(pick(rows, name, variant=variant)) for name in COLUMNS), str(len(seeds))]
        for variant in VARIANTS
        if (seeds := pick(rows, names.CAS, variant=variant))
    ]
    lines.append(["real images", *(shown(pick(rows, REAL + name)) for name in COLUMNS), ""])
    chosen = read_rows(HERE / "choice.csv")
    return {
        "meaning": markdown(["images", *COLUMNS.values(), "seeds"], lines),
        "choice": markdown(list(chosen[0]), [[*row.values()] for row in chosen]),
    }


def main() -> None:
    run_experiment(__doc__, HERE, ("variant", "seed"), JOBS, one, tables, at_once=1)


if __name__ == "__main__":
    main()
