"""The one entry point: config in, application run, exit status out (0 done, 1 failed, 2 the input was wrong).

    python -m netinv_lightning.run +experiment=cifar_invert

From here it is two hops to the training step: applications/invert.py, then inversion/module.py. Sweeps: runs/sweep.py.
Imports at the top are light: torch and lightning are loaded once the config is known to be right.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from netinv_lightning.applications.execution import run
from netinv_lightning.config.allowed_targets import named_code, only_allowed
from netinv_lightning.config.command_line import check_words
from netinv_lightning.config.error_messages import explain
from netinv_lightning.config.schema import CONF, register
from netinv_lightning.errors import InputError, Preempted, one_line, printable
from netinv_lightning.runs.resume import resumed_config
from netinv_lightning.runs.run_directory import RunDir, first_process
from netinv_lightning.runs.signals import SIGINT_STATUS, SIGPIPE_STATUS
from netinv_lightning.runs.sweep import (
    SIGTERM_STATUS,
    finish_sweep,
    retry_arguments,
    run_swept_job,
    set_device,
    sweeps_watched,
)

register()

COMMANDS = {
    "dashboard": "netinv_lightning.dashboard.workspace",
    "explore": "netinv_lightning.explorer.command",
    "report": "netinv_lightning.html_report.command",
}
"""What `netinv` does beside running: its first word, and the module whose `main` takes the others."""

_composed = False
"""Whether Hydra has made a config of the command line, so that what fails now is the run."""
_full_error = False
"""Whether the user asked for tracebacks, with Hydra's HYDRA_FULL_ERROR=1."""


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def job(cfg: DictConfig) -> float | None:
    """One job of Hydra's: a plain run, or one of a sweep, which gives its best metric to the sweeper."""
    global _composed
    _composed = True
    hydra_cfg = HydraConfig.get()
    job_dir = Path(hydra_cfg.runtime.output_dir)
    if hydra_cfg.mode != RunMode.RUN:
        with code_of_command(cfg):
            return run_swept_job(cfg, job_dir, run)
    try:
        with code_of_command(cfg):
            _run_or_resume(cfg, hydra_cfg, job_dir)
    except (InputError, OmegaConfBaseException) as error:
        RunDir(job_dir).discard()
        sys.exit(_refuse(error))
    except Exception as error:
        run_dir = job_dir if cfg.resume is None else Path(cfg.resume).absolute()
        RunDir(job_dir).discard()
        sys.exit(_fail(error, run_dir / "run.log"))
    return None


def _run_or_resume(cfg: DictConfig, hydra_cfg: Any, job_dir: Path) -> None:
    if "sweep" in hydra_cfg.runtime.choices:
        raise InputError(f"+sweep={hydra_cfg.runtime.choices['sweep']}: is a sweep; add -m")
    set_device(cfg)
    if cfg.resume is None:
        run(cfg, job_dir)
    else:
        RunDir(job_dir).discard()
        run(
            resumed_config(cfg, list(hydra_cfg.overrides.task)),
            Path(cfg.resume).absolute(),
            resuming=True,
        )


@contextmanager
def code_of_command(cfg: DictConfig) -> Iterator[None]:
    """Within the block files from outside may name the code that the command line names, and what its `trusted` names, and no other."""
    with only_allowed([*named_code(OmegaConf.to_container(cfg, resolve=True)), *cfg.trusted]):
        yield


class PrintableFormatter(logging.Formatter):
    """Shows text from files without characters that would control the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def main() -> None:
    """The `netinv` command."""
    if module := COMMANDS.get(" ".join(sys.argv[1:2])):
        sys.exit(import_module(module).main(sys.argv[2:]))
    if (
        here := os.getcwd()
    ) not in sys.path and "" not in sys.path:  # python -m has it; networks of your own lie there
        sys.path.append(here)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for (
        handler
    ) in logging.getLogger().handlers:  # a failure is one line here; its traceback is for run.log
        handler.setFormatter(PrintableFormatter("%(message)s"))
        handler.addFilter(
            lambda record: not (record.name == "netinv_lightning" and record.exc_info)
        )
    for stream in (
        sys.stdout,
        sys.stderr,
    ):  # names that the terminal's encoding does not have are escaped, not a failure
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    global _full_error
    _full_error = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Hydra then raises its errors instead of printing them, and each becomes one line here.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    with sweeps_watched() as the_sweep:
        status = _start()
        if sweep := the_sweep():
            status = finish_sweep(sweep, status)
            if status == SIGINT_STATUS:
                print(f"go on with netinv retry {sweep.path}", file=sys.stderr)
    sys.exit(status)


def _start() -> int:
    """Hands the command line to Hydra, which calls `job`; gives the exit status."""
    global _composed
    _composed = False
    try:
        if sys.argv[1:2] == ["retry"]:
            sys.argv[1:] = retry_arguments(sys.argv[2:])
        check_words(sys.argv[1:], [*COMMANDS, "retry"])
        job()
    except (InputError, HydraException, OmegaConfBaseException) as error:
        return _refuse(error)
    except BrokenPipeError:  # whoever read the help has seen enough
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # so that the interpreter's last flush does not fail as well
        return SIGPIPE_STATUS
    except OSError as error:  # Hydra makes the run's directory before the job starts
        return _refuse(
            InputError(
                f"output: the run directory cannot be made ({one_line(error)}); set output=FOLDER to one that can be written"
            )
        )
    except KeyboardInterrupt as interrupt:
        return _interrupted(interrupt)
    except SystemExit as end:
        if isinstance(
            end.__context__, KeyboardInterrupt
        ):  # in training Lightning makes exit(1) of it
            return _interrupted(end.__context__)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception as error:  # Hydra trips over some command lines without an error of its own
        return (
            _fail(error)
            if _composed
            else _refuse(
                InputError(
                    f"the command line cannot be read ({one_line(error)}); see netinv --help"
                )
            )
        )
    return 0


def _interrupted(interrupt: KeyboardInterrupt) -> int:
    print(str(interrupt) or "interrupted before anything was written", file=sys.stderr)
    return SIGINT_STATUS


def _refuse(error: BaseException) -> int:
    if first_process():
        print(f"error: {one_line(explain(error))}", file=sys.stderr)
    return 2


def _fail(error: Exception, log: Path | None = None) -> int:
    """One line for what nobody expected; the traceback is in run.log where there is one, and on stderr with HYDRA_FULL_ERROR=1."""
    if isinstance(error, Preempted):
        print(one_line(error), file=sys.stderr)
        return SIGTERM_STATUS
    told = "; ".join([str(error), *getattr(error, "__notes__", [])])
    if _full_error:
        traceback.print_exception(error)
    where = (
        f"traceback in {log}"
        if log is not None and log.is_file()
        else "HYDRA_FULL_ERROR=1 shows the traceback"
    )
    print(f"failed: {one_line(f'{type(error).__name__}: {told}')} ({where})", file=sys.stderr)
    return 1


if __name__ == "__main__":
    main()
