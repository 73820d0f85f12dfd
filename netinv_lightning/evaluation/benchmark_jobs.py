"""The jobs of `application=benchmark`: one config per combination and seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from omegaconf import DictConfig, OmegaConf

from netinv_lightning.config.application_schema import BenchmarkConfig
from netinv_lightning.config.compose import compose
from netinv_lightning.errors import InputError
from netinv_lightning.runs.sweep_check import check_job


@dataclass(frozen=True)
class Job:
    """One inversion."""

    experiment: str
    method: str
    conditioning: str
    seed: int
    cfg: DictConfig

    @property
    def combination(self) -> tuple[str, str, str]:
        return self.experiment, self.method, self.conditioning

    @property
    def name(self) -> str:
        return f"{'-'.join(self.combination)}-seed{self.seed}"


def benchmark_jobs(options: BenchmarkConfig, shared: Mapping[str, Any]) -> Iterator[Job]:
    """Yield every combination with its config.

    Args:
        options: The keys of the application.
        shared: Keys and values that all jobs take from the benchmark.

    Raises:
        InputError: if a combination is no inversion, or a key is wrong.
    """
    for combination in product(options.experiments, options.methods, options.conditionings):
        experiment, method, conditioning = combination
        chosen = [f"+experiment={experiment}", f"method={method}"]
        cfg = compose([*chosen, f"conditioning={conditioning}", *options.overrides])
        if cfg.application.name != "invert":
            raise InputError(
                f"application.experiments={experiment}: has application={cfg.application.name}"
                ". Choose experiments with application=invert"
            )
        for key, value in shared.items():
            OmegaConf.update(cfg, key, value, merge=False)
        cfg.measure.controls = []  # `_baselines` measures them once for all jobs
        check_job(cfg)
        for seed in options.seeds:
            of_seed = cfg.copy()
            of_seed.seed = seed
            yield Job(*combination, seed, of_seed)
