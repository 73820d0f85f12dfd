"""The one entry point: config in, application run, exit status out (0 done, 1 failed, 2 the input was wrong).

    python -m netinv_lightning.run +experiment=cifar_invert

From here it is two hops to the training step: applications/invert.py, then inversion/module.py.
Imports at the top are light: torch and lightning are loaded once the config is known to be right.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from netinv_lightning.config import CONF, check, register
from netinv_lightning.config_errors import explain
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.resume import resumed_config
from netinv_lightning.run_dir import RunDir

register()


def run(cfg: DictConfig, job_dir: Path, resuming: bool = False) -> dict[str, float]:
    """Runs the application that `cfg` describes in `job_dir` and gives its metrics.

    Raises:
        InputError: if the input is wrong; then nothing was written.
    """
    check(cfg)
    run_dir = RunDir(job_dir, resuming)
    run_dir.check_usable()

    from netinv_lightning.applications import make_application

    application = make_application(cfg)
    with run_dir.open(cfg):
        metrics = application.run(run_dir)
        run_dir.write_summary(metrics)
        run_dir.record(best_metric=metrics.get(application.best_metric))
    print(run_dir.path, flush=True)
    return metrics


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def job(cfg: DictConfig) -> None:
    """One job of Hydra's: a plain run, or one of a multirun."""
    hydra_cfg = HydraConfig.get()
    job_dir = Path(hydra_cfg.runtime.output_dir)
    alone = hydra_cfg.mode == RunMode.RUN
    try:
        if cfg.resume is None:
            run(cfg, job_dir)
        else:
            RunDir(job_dir).discard()
            run(resumed_config(cfg, list(hydra_cfg.overrides.task)), Path(cfg.resume).absolute(), resuming=True)
    except (InputError, OmegaConfBaseException) as error:
        if alone:
            RunDir(job_dir).discard()
            sys.exit(_refuse(error))
        RunDir(job_dir).record_refusal(cfg, explain(error))
        raise
    except Exception as error:
        if alone:
            sys.exit(_fail(error))
        raise


def main() -> None:
    """The `netinv` command."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    # Hydra then raises its errors instead of printing them, and each becomes one line here.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        job()
    except (InputError, HydraException, OmegaConfBaseException) as error:
        sys.exit(_refuse(error))
    except OSError as error:  # Hydra makes the run's directory before the job starts
        sys.exit(
            _refuse(
                InputError(f"output: the run directory cannot be made ({one_line(error)}); set output=FOLDER to one that can be written")
            )
        )
    except KeyboardInterrupt:
        print("interrupted; continue with resume=RUN_DIRECTORY", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        sys.exit(_fail(error))


def _refuse(error: BaseException) -> int:
    print(f"error: {explain(error)}", file=sys.stderr)
    return 2


def _fail(error: BaseException) -> int:
    print(f"failed: {one_line(f'{type(error).__name__}: {error}')} (traceback in run.log)", file=sys.stderr)
    return 1


if __name__ == "__main__":
    main()
