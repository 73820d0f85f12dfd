"""`trainer.devices=one_per_job`: each job of a sweep uses one GPU, or one CPU process."""

from __future__ import annotations

from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict


def set_device(cfg: DictConfig) -> None:
    """Replace `one_per_job` by one GPU, chosen by the job's number, or by one process."""
    if not _one_per_job(cfg):
        return
    hydra_cfg: Any = HydraConfig.instance().cfg  # None in a notebook
    number = (
        OmegaConf.select(hydra_cfg, "hydra.job.num", throw_on_missing=False) if hydra_cfg else None
    )
    gpus = _gpu_count()
    cfg.trainer.devices = [(number or 0) % gpus] if gpus else 1


def limit_workers(config: DictConfig) -> None:
    """Let joblib use as many workers as there are GPUs, unless the command sets their number."""
    if (
        _one_per_job(config)
        and config.hydra.launcher.get("n_jobs") == -1
        and (gpus := _gpu_count())
    ):
        with open_dict(config):
            config.hydra.launcher.n_jobs = gpus


def _one_per_job(cfg: DictConfig) -> bool:
    return bool(cfg.trainer.get("devices") == "one_per_job")


def _gpu_count() -> int:
    import torch

    return torch.cuda.device_count()
