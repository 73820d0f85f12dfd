"""Check environment variables: update old values, remove empty ones, refuse leftover ranks.

Lightning reads ranks when it is imported. This module imports neither torch nor Lightning, so that
it can check the ranks earlier.
"""

from __future__ import annotations

import os

from omegaconf import DictConfig, OmegaConf

from netinv_lightning.errors import InputError

EMPTY_IS_UNSET = (
    "NETINV_DATA",
    "NETINV_CLASSIFIERS",
    "WANDB_MODE",
    "WANDB_PROJECT",
    "WANDB_ENTITY",
    "WANDB_DISABLED",
)
"""Variables for which an empty value means unset."""
LEGACY_MODES = {"dryrun": "offline", "run": "online"}
"""Older values of WANDB_MODE and the current ones."""
WHOLE = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "NODE_RANK",
    "GROUP_RANK",
    "MASTER_PORT",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_NTASKS",
)
"""Variables that Lightning reads as whole numbers of 0 or more."""
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables that torchrun sets besides TORCHELASTIC_RUN_ID."""


def tidy_environment() -> None:
    """Remove empty variables and translate legacy values of W&B."""
    for name in EMPTY_IS_UNSET:
        if os.environ.get(name) == "":
            del os.environ[name]
    mode = os.environ.get("WANDB_MODE", "")
    if mode in LEGACY_MODES:
        os.environ["WANDB_MODE"] = LEGACY_MODES[mode]
    if os.environ.pop("WANDB_DISABLED", "").lower() in ("1", "true", "yes", "on"):
        os.environ.setdefault("WANDB_MODE", "disabled")


def check_environment(cfg: DictConfig) -> None:
    """Refuse ranks that no launcher of this run has set. A process of rank 1 would write nothing.

    A real launcher sets WORLD_SIZE and MASTER_ADDR (torchrun, Lightning) or SLURM_NTASKS (srun)
    besides the rank, and `trainer.devices` is more than one.

    Raises:
        InputError: naming the variable. The ranks are removed from the environment, because a
            process of rank 1 would not print the message.
    """
    try:
        _check_launch(cfg)
    except InputError:
        for name in RANKS:
            os.environ.pop(name, None)
        raise


def _check_launch(cfg: DictConfig) -> None:
    for name in WHOLE:
        if (value := os.environ.get(name)) is not None and not value.isdecimal():
            raise InputError(
                f"{name}={value}: this environment variable must be a whole number of 0 or more. "
                f"Unset {name}"
            )
    if "TORCHELASTIC_RUN_ID" in os.environ and (
        missing := [name for name in TORCHRUN if name not in os.environ]
    ):
        raise InputError(
            f"TORCHELASTIC_RUN_ID={os.environ['TORCHELASTIC_RUN_ID']}: torchrun also sets "
            f"{', '.join(missing)}, so this variable is left over from another run. "
            "Unset TORCHELASTIC_RUN_ID"
        )
    for name, world, partners in (
        ("RANK", "WORLD_SIZE", ("MASTER_ADDR",)),
        ("LOCAL_RANK", "WORLD_SIZE", ("MASTER_ADDR",)),
        ("SLURM_PROCID", "SLURM_NTASKS", ()),
    ):
        if int(os.environ.get(name, "0")) > 0:
            _check_rank(cfg, name, world, partners)
            return


def _check_rank(cfg: DictConfig, name: str, world: str, partners: tuple[str, ...]) -> None:
    rank = int(os.environ[name])
    if missing := [partner for partner in (world, *partners) if partner not in os.environ]:
        raise InputError(
            f"{name}={rank}: is left over from another launcher ({', '.join(missing)} is not set). "
            f"Unset {name}"
        )
    if rank >= int(os.environ[world]):
        raise InputError(
            f"{name}={rank}: must be below {world}={os.environ[world]}. Unset both if they are "
            "left over from another launcher"
        )
    if one_process(cfg):
        raise InputError(
            f"{name}={rank}: the environment has {os.environ[world]} processes, but "
            f"trainer.devices is 1. Unset {name} if it is left over from another launcher, or set "
            f"trainer=ddp trainer.devices={os.environ[world]}"
        )


def one_process(cfg: DictConfig) -> bool:
    """Return whether `trainer` describes a run in one process."""
    devices = cfg.trainer.get("devices", 1)
    one = len(devices) == 1 if OmegaConf.is_list(devices) else str(devices) in ("1", "one_per_job")
    return one and cfg.trainer.get("num_nodes", 1) == 1
