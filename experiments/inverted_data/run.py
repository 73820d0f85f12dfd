"""What inverted images are good for: a student without data, counterfeits, fine-tuning (A4-12 to A4-14): `make inverted-data`.

An inversion with `loss=natural` is made once for each data set and seed, and used by every row. How jobs are run: experiments/jobs.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import mean

from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from half_width import STAGES  # noqa: E402
from jobs import ROOT, Row, netinv, run_missing  # noqa: E402
from page import markdown, pick, shown  # noqa: E402

RESULTS = HERE / "results.csv"
SEEDS = (0, 1, 2)
INVERSIONS = {
    "mnist": ["+experiment=mnist_invert", "loss=natural", "application.steps=600", "application.eval_samples=2000"],
    "cifar10": ["+experiment=cifar_invert", "loss=natural", "application.steps=600", "application.eval_samples=2000"],
}
VIEWS = [f"augmentation.{key}" for key in ("flip=true", "shift=4", "rotation=8", "scale=0.15", "shear=0", "noise=0")]
"""Of CIFAR-10, whose images are less alike when they are turned."""
HALF = [f"+application.student.{STAGES}"]
"""A student of half the teacher's width: as a step costs half, it gets twice as many in the same time."""
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
"""What a variant says more for a data set."""
JOBS = [
    *(("mnist", variant, seed) for variant in ("distill", "counterfeit") for seed in SEEDS),
    *(("cifar10", variant, seed) for seed in SEEDS for variant in ("distill", "counterfeit")),
    *(("mnist", variant, seed) for seed in SEEDS for variant in FINETUNE),
    *(("mnist", "distill, not adversarial", seed) for seed in SEEDS),
    *(("cifar10", "distill, longer", seed) for seed in SEEDS),
]


def inversion(data: str, seed: int) -> Path:
    """The run directory of the inversion; made where it is not there."""
    path = ROOT / "runs" / "inverted_data" / f"{data}_{seed}"
    if not (path / "summary.json").exists():
        netinv(*INVERSIONS[data], f"seed={seed}", f"hydra.run.dir={path}")
    return path


def one(data: str, variant: str, seed: int) -> list[Row]:
    run_dir = netinv(*VARIANTS[variant], f"application.run={inversion(data, seed)}", f"seed={seed}", *OF_DATA.get((data, variant), []))
    if variant == "counterfeit" and seed == SEEDS[0]:
        with Image.open(run_dir / "figures" / "counterfeits.png") as image:
            image.convert("RGB").reduce(2).save(HERE / f"{data}_counterfeits.png", optimize=True)
    summary = json.loads((run_dir / "summary.json").read_text())
    return [
        {"data": data, "variant": variant, "seed": seed, "number": name, "value": f"{value:.4f}"}
        for name, value in summary.items()
        if name.startswith(("student/", "counterfeit/", "finetune/")) or name == "cost/seconds"
    ]


def tables(rows: list[Row]) -> str:
    """What the page shows."""
    students = {"student": ("", "accuracy", "agreement"), "student of noise": ("noise_", "accuracy", "agreement")}
    lines = []
    for data in INVERSIONS:
        for variant in DISTILL:
            for told, (prefix, *what) in students.items():
                numbers = [pick(rows, f"student/{prefix}{w}", data=data, variant=variant) for w in what]
                if numbers[0]:
                    lines.append([data, variant, told, str(len(numbers[0])), *map(shown, numbers)])
        if teacher := pick(rows, "student/teacher_accuracy", data=data, variant="distill"):
            lines.append([data, "", "teacher", str(len(teacher)), shown(teacher), "1"])
    parts = ["## A student without data\n", markdown(["data", "variant", "network", "seeds", "accuracy", "agreement"], lines)]
    kinds = ("success", "sure_of_any", "confidence", "rms", "correlation", "feature")
    lines = []
    for data in INVERSIONS:
        found = {row["number"] for row in rows if row["data"] == data}
        verifiers = sorted(name.rpartition("/")[2] for name in found if name.startswith("counterfeit/counterfeits/verified/"))
        for told in ("inverted", "counterfeits", "real", "noise"):
            agreed = [pick(rows, f"counterfeit/{told}/verified/{name}", data=data, variant="counterfeit") for name in verifiers]
            agreed_mean = [mean(values) for values in zip(*agreed, strict=True)]
            numbers = [pick(rows, f"counterfeit/{told}/{kind}", data=data, variant="counterfeit") for kind in kinds]
            if numbers[0]:
                lines.append([data, told, *map(shown, numbers[:3]), shown(agreed_mean), *map(shown, numbers[3:])])
    columns = [
        "data",
        "set",
        "own class at 0.9",
        "any class at 0.9",
        "confidence",
        "verifiers agree",
        "RMS",
        "correlation",
        "feature distance",
    ]
    parts += ["## Counterfeits\n", markdown(columns, lines), "## Fine-tuning\n"]
    kinds = ("accuracy", "robust_accuracy", "ece", "brier", "nll")
    lines = []
    for data in INVERSIONS:
        for variant in FINETUNE:
            for arm in ("before", "real", "real_adversarial", "inverted"):
                numbers = [pick(rows, f"finetune/{arm}/{kind}", data=data, variant=variant) for kind in kinds]
                if numbers[0]:
                    lines.append([data, variant.removeprefix("finetune "), arm, str(len(numbers[0])), *map(shown, numbers)])
    parts.append(markdown(["data", "kind", "classifier", "seeds", "accuracy", "robust accuracy", "ECE", "Brier", "NLL"], lines))
    return "\n".join(parts)


if __name__ == "__main__":
    print(tables(run_missing(RESULTS, ("data", "variant", "seed"), JOBS, one)))
