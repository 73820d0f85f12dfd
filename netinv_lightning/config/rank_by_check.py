"""Check the metric by which a sweep ranks its jobs (`application.rank_by`), before a run starts."""

from __future__ import annotations

from omegaconf import DictConfig

from netinv_lightning import metric_names as names
from netinv_lightning.config.metric_descriptions import describe, descriptions
from netinv_lightning.errors import InputError, nearest

KEY = "application.rank_by"
SUBJECTS = ("Inversion", "Transfer", "Diversity", "Fidelity", "Memorisation", "Objective", "Cost")
"""Subjects of `config/metric_descriptions.txt` whose metrics every inversion has."""
RECONSTRUCTION = "Reconstruction"
DIRECTIONS = ("minimize", "maximize")
QUICK = (
    names.TRANSFER_TOP5,
    names.INTRA_CLASS_COSINE,
    names.INTER_CLASS_COSINE,
)
FULL = (
    names.INVERSION_MARGIN,
    names.TRANSFER_CEILING,
    names.TRANSFER_MIXTURES,
    "stability/",
    "diversity/",
    "fidelity/",
    "memorisation/",
)
"""Metrics, and beginnings of them, that need `measure=full`, except those of `QUICK`."""


def lower_is_better(metric: str) -> bool:
    of = describe(metric)
    return of is not None and of.better == "lower"


def check_rank_by(cfg: DictConfig) -> None:
    """Check that the run measures the metric of `application.rank_by`.

    Raises:
        InputError: if there is no such metric, it has no direction, or the run does not measure it.
    """
    if (metric := cfg.application.get("rank_by")) is None:
        return
    subjects = SUBJECTS + ((RECONSTRUCTION,) if cfg.application.name == "reconstruct" else ())
    of = describe(metric)
    if of is None or of.subject not in subjects or "<" in metric:
        known = [each.name for each in descriptions() if each.subject in subjects]
        plain = [name for name in known if "<" not in name]
        raise InputError(
            f"{KEY}={metric}: is not a metric of application={cfg.application.name}; "
            f"{nearest(metric, plain, 'docs/metrics.md lists all')}"
        )
    if not of.better:
        raise InputError(
            f"{KEY}={metric}: neither higher nor lower values are better. Choose a metric with a "
            "direction; docs/metrics.md lists all"
        )
    of_verifiers = "<verifier>" in of.name or of.subject == "Transfer"
    if of_verifiers and not cfg.application.get("verifiers"):
        raise InputError(f"{KEY}={metric}: needs other networks. Set application.verifiers")
    if metric not in QUICK and metric.startswith(FULL) and not cfg.measure.full:
        raise InputError(f"{KEY}={metric}: is not measured by this run. Set measure=full")


def check_direction(cfg: DictConfig, sweeper: DictConfig) -> None:
    """Check that a search with Optuna optimises the metric in its direction.

    Raises:
        InputError: naming `hydra.sweeper.direction`.
    """
    metric, given = cfg.application.get("rank_by"), sweeper.get("direction")
    direction = getattr(given, "name", given)  # a word, an enum of the plug-in, or a list
    if metric is None or direction not in DIRECTIONS:
        return
    if direction != (wanted := DIRECTIONS[not lower_is_better(metric)]):
        better = "lower" if wanted == "minimize" else "higher"
        raise InputError(
            f"hydra.sweeper.direction={direction}: {better} values of {KEY}={metric} are better. "
            f"Set hydra.sweeper.direction={wanted}"
        )
