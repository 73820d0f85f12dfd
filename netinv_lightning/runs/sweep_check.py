"""Check the values of a sweep before anything is written or started."""

from __future__ import annotations

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from netinv_lightning.config.rank_by_check import check_direction, check_rank_by
from netinv_lightning.errors import InputError


def check_sweep(config: DictConfig, hydra_context: HydraContext) -> None:
    """Compose and check a config with each value of each swept key once.

    Raises:
        InputError: if a key has no value, or a job cannot be part of a sweep.
        omegaconf.errors.OmegaConfBaseException: if a key or value is wrong.
        hydra.errors.HydraException: if a choice does not exist.
    """
    loader = hydra_context.config_loader
    values = _values_of_keys(config, hydra_context)
    first = {key: options[0] for key, options in values.items()}
    others = ({**first, key: option} for key, options in values.items() for option in options[1:])
    for job in (first, *others):
        overrides = [f"{key}={value}" for key, value in job.items()]
        cfg = loader.load_sweep_config(config, overrides)
        check_job(cfg)
        check_direction(cfg, config.hydra.sweeper)


def _values_of_keys(config: DictConfig, hydra_context: HydraContext) -> dict[str, list[str]]:
    """Return the values of each key, or the start of an interval of Optuna.

    Raises:
        InputError: if a key has no value.
    """
    space = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    parser = OverridesParser.create(config_loader=hydra_context.config_loader)
    values: dict[str, list[str]] = {}
    for override in parser.parse_overrides([*space, *config.hydra.overrides.task]):
        key = override.get_key_element()
        if not override.is_sweep_override():
            values[key] = [override.get_value_element_as_str()]
        elif override.is_discrete_sweep():
            values[key] = list(override.sweep_string_iterator())
        else:
            values[key] = [str(getattr(override.value(), "start", None))]
        if not values[key]:
            raise InputError(f"{override.input_line}: has no value, so the sweep has no job")
    return values


def check_job(cfg: DictConfig) -> None:
    """Refuse a config that cannot be part of a sweep.

    Raises:
        InputError: naming the remedy.
    """
    check_rank_by(cfg)
    if cfg.application.get("fail_if") is not None:
        raise InputError(
            f"application.fail_if={cfg.application.fail_if}: applies to a single run, without -m; "
            "read audit.json of each job of a sweep instead"
        )
    if cfg.resume is not None:
        raise InputError(
            f"resume={cfg.resume}: continues a single run, without -m; continue a sweep with "
            "netinv retry SWEEP_DIRECTORY"
        )
    strategy, devices = str(cfg.trainer.get("strategy", "")), cfg.trainer.get("devices", "auto")
    by_script = strategy.startswith("ddp") and not any(
        kind in strategy for kind in ("spawn", "fork", "notebook")
    )
    one_device = str(devices) in ("1", "one_per_job") or (
        OmegaConf.is_list(devices) and len(devices) == 1
    )
    if by_script and not one_device:
        raise InputError(
            f"trainer.strategy={strategy}: would start the whole sweep again in every process; use "
            "trainer.strategy=ddp_spawn, or trainer.devices=one_per_job with hydra/launcher=joblib"
        )
