"""Compare accuracy and transfer of inversion in bfloat16 and in float32: `make precision`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from experiments.jobs import Row, netinv, run_missing
from experiments.recipes import UNUSED_SEEDS
from experiments.run_files import read_summary

HERE = Path(__file__).parent
RESULTS = HERE / "results.csv"
PRECISIONS = ("bf16-mixed", "32-true")
SETTINGS = {
    "FashionMNIST, loss=natural": [
        "+experiment=fmnist_invert",
        "loss=natural",
        "application.steps=600",
    ],
    "MNIST, loss=natural": ["+experiment=mnist_invert", "loss=natural", "application.steps=600"],
    "MNIST, loss=inversion": ["+experiment=mnist_invert"],
}
COLUMNS = {
    "inversion/accuracy": "accuracy, soft",
    "inversion/accuracy_hot": "accuracy, hot",
    "transfer/accuracy": "transfer",
    "diversity/intra_class_cosine": "intra-class cosine",
}
PRODUCTS = {F.conv2d, torch.conv2d, F.conv_transpose2d, F.linear}


class RoundedProducts(TorchFunctionMode):
    """Emulate bfloat16 autocast by float32 products of rounded operands, with rounded results.

    Hardware does the same: it multiplies bfloat16 numbers exactly and adds in float32. The
    emulation by torch is many times slower. The casts round gradients too, as those of autocast do.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in PRODUCTS or not torch.is_autocast_enabled("cpu"):
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            return func(
                *map(_rounded, args), **{key: _rounded(value) for key, value in kwargs.items()}
            ).bfloat16()


def _rounded(value: Any) -> Any:
    return value.bfloat16().float() if isinstance(value, torch.Tensor) else value


def one(setting: str, precision: str, seed: int) -> list[Row]:
    run_dir = netinv(
        *SETTINGS[setting],
        f"trainer.precision={precision}",
        "trainer.accelerator=cpu",
        f"seed={seed}",
        within=RoundedProducts,
    )
    summary = read_summary(run_dir)
    return [
        {
            "setting": setting,
            "precision": precision,
            "seed": seed,
            **{name: round(summary[name], 4) for name in COLUMNS},
        }
    ]


def table(rows: list[Row]) -> str:
    lines = [
        "| setting | precision | " + " | ".join(COLUMNS.values()) + " | seeds |",
        "| --- " * (len(COLUMNS) + 3) + "|",
    ]
    for setting in SETTINGS:
        for precision in PRECISIONS:
            chosen = [
                row for row in rows if (row["setting"], row["precision"]) == (setting, precision)
            ]
            if len(chosen) < 2:
                continue
            values = {name: [float(str(row[name])) for row in chosen] for name in COLUMNS}
            cells = [f"{mean(of):.3f} ± {stdev(of):.3f}" for of in values.values()]
            lines.append(
                f"| {setting} | {precision} | " + " | ".join(cells) + f" | {len(chosen)} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    jobs = [
        (setting, precision, seed)
        for precision in PRECISIONS
        for setting in SETTINGS
        for seed in UNUSED_SEEDS
    ]
    print(table(run_missing(RESULTS, ("setting", "precision", "seed"), jobs, one, at_once=1)))
