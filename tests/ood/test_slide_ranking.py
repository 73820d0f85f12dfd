"""The ranking of LC, ODIN and MSP in the slides (Taparia), with invented AUROCs."""

from __future__ import annotations

from pathlib import Path

from netinv_lightning.ood.slide_ranking import RankingVerdict, ranking_table, ranking_verdicts
from netinv_lightning.runs.tables import write_table

NOISE = ("gaussian_noise", "uniform_noise", "another_noise")
AS_IN_THE_SLIDES = {
    "msp": {"gaussian_noise": 0.5, "lsun": 0.625, "uniform_noise": 0.5, "svhn": 0.625},
    "knn": {"gaussian_noise": 0.75, "lsun": 1.0, "uniform_noise": 0.75, "svhn": 0.5},
    "lc": {"gaussian_noise": 1.0, "lsun": 0.75, "uniform_noise": 0.75, "svhn": 0.75},
    "odin": {"gaussian_noise": 0.5, "lsun": 0.75, "uniform_noise": 1.0, "svhn": 1.0},
}


def outcomes(found: list[RankingVerdict]) -> dict[tuple[str, str, str], str]:
    return {(verdict.kind, verdict.above, verdict.below): verdict.outcome for verdict in found}


def test_ranking_of_the_slides_holds_for_matching_numbers() -> None:
    found = ranking_verdicts(AS_IN_THE_SLIDES, NOISE)
    assert outcomes(found) == dict.fromkeys(
        [
            ("noisy", "lc", "odin"),
            ("noisy", "lc", "msp"),
            ("noisy", "odin", "msp"),
            ("structured", "odin", "lc"),
            ("structured", "odin", "msp"),
            ("structured", "lc", "msp"),
        ],
        "holds",
    )
    assert found[0].reason == "lc 0.8750, odin 0.7500; true in 1 of 2 sets"
    # The AUROCs of the other set are equal.
    assert found[3].reason == "odin 0.8750, lc 0.7500; true in 1 of 2 sets"


def test_opposite_order_and_tie_refute_a_claim() -> None:
    auroc = {
        "msp": {"gaussian_noise": 0.0, "lsun": 0.9},
        "lc": {"gaussian_noise": 0.0, "lsun": 0.8},
        "odin": {"gaussian_noise": 0.1, "lsun": 0.7},
    }
    assert outcomes(ranking_verdicts(auroc, NOISE)) == {
        ("noisy", "lc", "odin"): "refuted",
        ("noisy", "lc", "msp"): "refuted",  # equal AUROCs
        ("noisy", "odin", "msp"): "holds",
        ("structured", "odin", "lc"): "refuted",
        ("structured", "odin", "msp"): "refuted",
        ("structured", "lc", "msp"): "refuted",
    }
    assert ranking_verdicts(auroc, NOISE)[1].reason == "lc 0.0000, msp 0.0000; true in 0 of 1 sets"


def test_claims_without_data_are_not_tested() -> None:
    found = ranking_verdicts({"lc": {"uniform_noise": 0.9}, "msp": {"uniform_noise": 0.8}}, NOISE)
    assert [(verdict.outcome, verdict.reason) for verdict in found] == [
        ("not tested", "no odin"),
        ("holds", "lc 0.9000, msp 0.8000; true in 1 of 1 sets"),
        ("not tested", "no odin"),
        ("not tested", "no odin and no structured set"),
        ("not tested", "no odin and no structured set"),
        ("not tested", "no structured set"),
    ]
    assert set(outcomes(ranking_verdicts({}, NOISE)).values()) == {"not tested"}


def test_table_ranks_all_detectors_and_those_of_the_slides() -> None:
    table = ranking_table(AS_IN_THE_SLIDES, NOISE)
    assert table.columns == [
        "detector",
        "noisy: mean AUROC",
        "noisy: rank",
        "noisy: slides' rank",
        "structured: mean AUROC",
        "structured: rank",
        "structured: slides' rank",
    ]
    assert table.rows == [
        ["msp", 0.5, 4, 3, 0.625, 4, 3],
        ["knn", 0.75, 2, None, 0.75, 2, None],
        ["lc", 0.875, 1, 1, 0.75, 2, 2],  # equal AUROCs share a rank
        ["odin", 0.75, 2, 2, 0.875, 1, 1],
    ]
    assert table.notes[:3] == [
        "noisy: gaussian_noise, uniform_noise",
        "structured: lsun, svhn",
        "noisy, lc > odin: holds (lc 0.8750, odin 0.7500; true in 1 of 2 sets)",
    ]
    assert len(table.notes) == 2 + 6 + 1


def test_cells_of_kinds_without_sets_are_empty(tmp_path: Path) -> None:
    table = ranking_table({"knn": {"uniform_noise": 0.9}, "msp": {"uniform_noise": 0.8}}, NOISE)
    assert table.rows == [
        ["knn", 0.9, 1, None, None, None, None],
        ["msp", 0.8, 2, 3, None, None, 3],
    ]
    assert "structured: no set" in table.notes
    write_table(table, tmp_path, "ranking")
    assert (tmp_path / "ranking.csv").read_text().splitlines()[1:] == [
        "knn,0.9,1,,,,",
        "msp,0.8,2,3,,,3",
    ]
    assert (
        "- structured, lc > msp: not tested (no lc and no structured set)"
        in (tmp_path / "ranking.md").read_text()
    )
