"""Measure distillation, counterfeits and fine-tuning with inverted images: `make inverted-data`.

One inversion with `loss=natural` per data set and seed is shared by all jobs.
"""

from __future__ import annotations

from pathlib import Path
from statistics import mean

from experiments.half_width import STAGES
from experiments.jobs import ROOT, Row, netinv
from experiments.page import markdown, pick, run_experiment, shown
from experiments.run_files import copy_figure, number_rows, read_summary

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
INVERSIONS = {
    "mnist": [
        "+experiment=mnist_invert",
        "loss=natural",
        "application.steps=600",
        "application.eval_samples=2000",
    ],
    "cifar10": [
        "+experiment=cifar_invert",
        "loss=natural",
        "application.steps=600",
        "application.eval_samples=2000",
    ],
}
VIEWS = [
    f"augmentation.{key}"
    for key in ("flip=true", "shift=4", "rotation=8", "scale=0.15", "shear=0", "noise=0")
]
"""Augmentation of CIFAR-10 images. Rotation is small, because it changes them more than digits."""
HALF = [f"+application.student.{STAGES}"]
"""A student of half the teacher's width. A step costs half as much, so it trains for twice as many
steps in the same time."""
VARIANTS: dict[str, list[str]] = {
    "distill": ["application=distill"],
    "distill, longer": ["application=distill"],
    "distill, not adversarial": ["application=distill", "application.adversarial=0"],
    "counterfeit": ["application=counterfeit"],
    "finetune labels": ["application=finetune"],
    "finetune labels, 500 real": ["application=finetune", "data.subset_size=500"],
    "finetune adversarial": ["application=finetune", "application.kind=adversarial"],
}
DISTILL = [name for name in VARIANTS if name.startswith("distill")]
FINETUNE = [name for name in VARIANTS if name.startswith("finetune")]
OF_DATA = {
    ("mnist", "distill"): ["application.steps=500"],
    ("mnist", "distill, not adversarial"): ["application.steps=500"],
    ("mnist", "finetune adversarial"): ["application.radius=0.1"],
    ("cifar10", "distill"): ["application.steps=2200", *HALF, *VIEWS],
    ("cifar10", "distill, longer"): ["application.steps=6600", *HALF, *VIEWS],
}
"""Further overrides of a variant on one data set."""
JOBS = [
    *(("mnist", variant, seed) for variant in ("distill", "counterfeit") for seed in SEEDS),
    *(("cifar10", variant, seed) for seed in SEEDS for variant in ("distill", "counterfeit")),
    *(("mnist", variant, seed) for seed in SEEDS for variant in FINETUNE),
    *(("mnist", "distill, not adversarial", seed) for seed in SEEDS),
    *(("cifar10", "distill, longer", seed) for seed in SEEDS),
]


def inversion(data: str, seed: int) -> Path:
    """Return the run directory of the inversion; run it if its summary is missing."""
    path = ROOT / "runs" / "inverted_data" / f"{data}_{seed}"
    if not (path / "summary.json").exists():
        netinv(*INVERSIONS[data], f"seed={seed}", f"hydra.run.dir={path}")
    return path


def one(data: str, variant: str, seed: int) -> list[Row]:
    """Run one application on the inverted images and return its rows; keep the counterfeits of the
    first seed as a picture."""
    run_dir = netinv(
        *VARIANTS[variant],
        f"application.run={inversion(data, seed)}",
        f"seed={seed}",
        *OF_DATA.get((data, variant), []),
    )
    if variant == "counterfeit" and seed == SEEDS[0]:
        copy_figure(run_dir, "counterfeits", HERE / f"{data}_counterfeits.png")
    chosen = {
        name: value
        for name, value in read_summary(run_dir).items()
        if name.startswith(("student/", "counterfeit/", "finetune/")) or name == "cost/seconds"
    }
    return number_rows(chosen, data=data, variant=variant, seed=seed)


def students(rows: list[Row]) -> str:
    """Return the table of students and their teachers: accuracy on real test images, and agreement
    with the teacher."""
    networks = {"student": "", "student trained on noise": "noise_"}
    lines = []
    for data in INVERSIONS:
        for variant in DISTILL:
            for network, prefix in networks.items():
                numbers = [
                    pick(rows, f"student/{prefix}{what}", data=data, variant=variant)
                    for what in ("accuracy", "agreement")
                ]
                if numbers[0]:
                    lines.append(
                        [data, variant, network, str(len(numbers[0])), *map(shown, numbers)]
                    )
        if teacher := pick(rows, "student/teacher_accuracy", data=data, variant="distill"):
            lines.append([data, "", "teacher", str(len(teacher)), shown(teacher), "1"])
    return markdown(["data", "variant", "network", "seeds", "accuracy", "agreement"], lines)


def counterfeits(rows: list[Row]) -> str:
    """Return the table of the four image sets: confidence, agreement of the verifiers, distance to
    the nearest training image."""
    numbers = {
        "success": "own class at 0.9",
        "sure_of_any": "any class at 0.9",
        "confidence": "confidence in own class",
        "verified": "verifiers agree",
        "rms": "RMS distance",
        "correlation": "correlation",
        "feature": "feature distance",
    }
    lines = []
    for data in INVERSIONS:
        found = {row["number"] for row in rows if row["data"] == data}
        verifiers = sorted(
            name.rpartition("/")[2]
            for name in found
            if name.startswith("counterfeit/counterfeits/verified/")
        )
        for name in ("inverted", "counterfeits", "real", "noise"):
            values = {
                number: pick(rows, f"counterfeit/{name}/{number}", data=data, variant="counterfeit")
                for number in numbers
            }
            verified = [
                pick(
                    rows,
                    f"counterfeit/{name}/verified/{verifier}",
                    data=data,
                    variant="counterfeit",
                )
                for verifier in verifiers
            ]
            values["verified"] = [mean(of_seed) for of_seed in zip(*verified, strict=True)]
            if values["success"]:
                lines.append([data, name, *map(shown, values.values())])
    return markdown(["data", "set", *numbers.values()], lines)


def finetuning(rows: list[Row]) -> str:
    """Return the table of fine-tuning: the classifier before it, and after it on real images or on
    real and inverted ones."""
    kinds = {
        "accuracy": "accuracy",
        "robust_accuracy": "robust accuracy",
        "ece": "ECE",
        "brier": "Brier",
        "nll": "NLL",
    }
    lines = []
    for data in INVERSIONS:
        for variant in FINETUNE:
            for arm in ("before", "real", "real_adversarial", "inverted"):
                numbers = [
                    pick(rows, f"finetune/{arm}/{kind}", data=data, variant=variant)
                    for kind in kinds
                ]
                if numbers[0]:
                    lines.append(
                        [
                            data,
                            variant.removeprefix("finetune "),
                            arm,
                            str(len(numbers[0])),
                            *map(shown, numbers),
                        ]
                    )
    return markdown(["data", "kind", "classifier", "seeds", *kinds.values()], lines)


def tables(rows: list[Row]) -> dict[str, str]:
    """Return the tables of the page."""
    return {
        "students": students(rows),
        "counterfeits": counterfeits(rows),
        "finetuning": finetuning(rows),
    }


def main() -> None:
    run_experiment(__doc__, HERE, ("data", "variant", "seed"), JOBS, one, tables)


if __name__ == "__main__":
    main()
