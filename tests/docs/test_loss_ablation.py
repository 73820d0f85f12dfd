"""The loss ablation: its variants, its measures and its tables."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from experiments.loss_ablation import run
from experiments.loss_ablation.job import curve, strip, total_variation
from experiments.loss_ablation.variants import (
    ABLATION,
    PICTURED,
    REAL,
    SWEEPS,
    VARIANTS,
    alone,
    jobs,
)
from netinv_lightning import metric_names as names
from netinv_lightning.config.compose import compose
from netinv_lightning.evaluation.image_sets import Images


def row(variant: str, number: str, seed: int, value: float) -> run.Row:
    job = {"recipe": "mnist_invert", "variant": variant, "seed": str(seed)}
    return job | {"number": number, "value": str(value)}


def test_every_job_is_known_and_runs_once() -> None:
    pairs = jobs()
    assert len(set(pairs)) == len(pairs)
    assert {variant for _, variant in pairs} == {REAL, *VARIANTS}
    assert {variant for sweep in SWEEPS.values() for variant in sweep.values()} <= set(VARIANTS)
    assert [*SWEEPS["cosine"]] == [0, 0.1, 1, 10, 100]
    assert set(PICTURED) <= set(VARIANTS)


def test_a_term_alone_leaves_out_the_three_others() -> None:
    assert alone("kl") == ["~loss.ce", "~loss.cosine", "~loss.orthogonality"]
    assert ABLATION["without kl"] == ["~loss.kl"]


@pytest.mark.parametrize("variant", ["notebook weights, without kl", "dropout 0.4"])
def test_variants_compose_with_the_recipe(variant: str) -> None:
    cfg = compose(["+experiment=mnist_invert", *VARIANTS[variant]])
    assert ("kl" in cfg.loss) == ("without kl" not in variant)
    assert cfg.generator.dropout == (0.4 if variant == "dropout 0.4" else 0.1)


def test_total_variation_of_stripes_and_of_a_constant_image() -> None:
    stripes_nCHW = torch.tensor([0.0, 1.0, 0.0, 1.0]).expand(2, 1, 4, 4)
    assert total_variation(stripes_nCHW) == 1  # 1 across, 0 down
    assert total_variation(torch.full((2, 1, 4, 4), 0.3)) == 0


def test_a_strip_has_the_first_images_of_each_class() -> None:
    x_nCHW = torch.arange(6).float().div(255)[:, None, None, None].expand(6, 1, 2, 2)
    picture = strip(Images(x_nCHW, torch.tensor([1, 0, 1, 0, 0, 1])))
    assert picture.size == (8, 2)
    assert [picture.getpixel((2 * k, 0)) for k in range(4)] == [1, 3, 0, 2]


def test_the_curve_has_the_accuracy_after_each_step(tmp_path: Path) -> None:
    name = names.INVERSION_ACCURACY_TRAIN
    (tmp_path / "metrics.csv").write_text(f"step,{name}\n19,0.25\n20,0.5\n30,\n39,0.75\n")
    assert curve(tmp_path) == {20: 0.25, 40: 0.75}


def test_cells_show_how_many_seeds_reached_the_goal() -> None:
    def shown(rows: list[run.Row], name: str) -> str:
        return run.cell(rows, "mnist_invert", "without ce", name)

    accuracy, steps = names.INVERSION_ACCURACY, names.STEPS_TO_95
    rows = [row("without ce", accuracy, seed, 0.5 + seed / 10) for seed in (1, 2, 3)]
    assert shown(rows, accuracy) == "0.700 ± 0.100"
    assert shown(rows, steps) == "not reached"
    rows += [row("without ce", steps, seed, 100 * seed) for seed in (1, 3)]
    assert shown(rows, steps) == "200 (2 of 3)"
    assert shown([*rows, row("without ce", steps, 2, 200)], steps) == "200"
    assert shown(rows, run.IN_SLIDES) == "0.28"
    assert shown([], steps) == shown([], accuracy) == "-"


def test_variants_that_were_not_run_are_left_out() -> None:
    rows = [row(variant, names.DUPLICATES, 1, 0.25) for variant in ("without kl", "kl alone")]
    chosen = ["without ce", "without kl", "kl alone"]
    columns = {names.DUPLICATES: ("duplicates", 3)}
    table = run.table(rows, "mnist_invert", chosen, columns)
    assert table.splitlines()[2:] == ["| without kl | 0.250 |", "| kl alone | 0.250 |"]
    assert run.table(rows, "cifar_invert", chosen, columns) == "Not run yet.\n"
