"""Entry point: compose the config, run the application, return the exit status.

    python -m netinv_lightning.run +experiment=cifar_invert

The exit status is 0 for done, 1 for failed, 2 for invalid input and 3 for a leak with
`application.fail_if=leak`. To find the training step, read applications/invert.py, then
inversion/module.py. Sweeps are in runs/sweep_launcher.py. Torch and Lightning are imported only
after the config has been checked.
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

from netinv_lightning import __version__
from netinv_lightning.applications.execution import run
from netinv_lightning.config.allowed_targets import only_allowed
from netinv_lightning.config.command_line import adapted_hydra, check_words, prints_info
from netinv_lightning.config.description_check import named_code
from netinv_lightning.config.error_messages import explain, explain_refusal
from netinv_lightning.config.registration import CONF, register
from netinv_lightning.errors import InputError, Preempted, exit_status, one_line, printable
from netinv_lightning.metric_names import AUDIT_LEAK
from netinv_lightning.runs import run_directory
from netinv_lightning.runs.job_device import set_device
from netinv_lightning.runs.peers import first_process
from netinv_lightning.runs.resume import resumed_config
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.runs.signals import SIGINT_STATUS, SIGPIPE_STATUS, SIGTERM_STATUS
from netinv_lightning.runs.sweep_job import run_swept_job
from netinv_lightning.runs.sweep_launcher import record_sweep
from netinv_lightning.runs.sweep_preview import DRY_RUN, check_preview
from netinv_lightning.runs.sweep_retry import RETRY_USAGE, retry_arguments
from netinv_lightning.runs.sweep_table import finish_sweep

register()

COMMANDS = {
    "dashboard": "netinv_lightning.dashboard.command",
    "explore": "netinv_lightning.explorer.command",
    "help": "netinv_lightning.manual.help_command",
    "list": "netinv_lightning.manual.list_command",
    "report": "netinv_lightning.html_report.command",
}
"""Further commands: the first word, and the module whose `main` gets the remaining words."""

LEAK_STATUS = 3
"""Exit status of an audit that finds a leak, with application.fail_if=leak."""
_composed = False
"""Whether Hydra has composed the config, so that later errors are errors of the run."""
_full_error = False
"""Whether tracebacks are printed (HYDRA_FULL_ERROR=1)."""


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def job(cfg: DictConfig) -> float | None:
    """Run one job of Hydra: a single run, or a job of a sweep, which returns its best metric."""
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
        _hand_over(cfg, job_dir, run(cfg, job_dir))
    else:
        RunDir(job_dir).discard()
        cfg, run_dir = (
            resumed_config(cfg, list(hydra_cfg.overrides.task)),
            Path(cfg.resume).absolute(),
        )
        _hand_over(cfg, run_dir, run(cfg, run_dir, resuming=True))


def _hand_over(cfg: DictConfig, run_dir: Path, metrics: dict[str, float]) -> None:
    """Write the report of a finished audit; exit with status 3 if the user asks for it."""
    if cfg.application.name != "audit":
        return
    from netinv_lightning.html_report.command import write_report  # slow, and only needed here

    try:
        write_report(run_dir)
    except (InputError, OSError) as error:  # the run itself is done
        print(f"warning: the report was not written: {one_line(error)}", file=sys.stderr)
    if cfg.application.fail_if == "leak" and metrics[AUDIT_LEAK]:
        print("application.fail_if=leak: training images leak", file=sys.stderr)
        sys.exit(LEAK_STATUS)


@contextmanager
def code_of_command(cfg: DictConfig) -> Iterator[None]:
    """Context in which files may only name code that the command line or `trusted` also names."""
    with only_allowed([*named_code(OmegaConf.to_container(cfg, resolve=True)), *cfg.trusted]):
        yield


class PrintableFormatter(logging.Formatter):
    """Formatter that escapes control characters in text from files."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def main() -> None:
    """The `netinv` command."""
    if "--version" in sys.argv[1:]:
        print(f"netinv_lightning {__version__}")
        sys.exit(0)
    if module := COMMANDS.get(" ".join(sys.argv[1:2])):
        try:
            status = import_module(module).main(sys.argv[2:])
            sys.stdout.flush()
        except BrokenPipeError:
            status = _closed_output()
        sys.exit(status)
    if (here := os.getcwd()) not in sys.path and "" not in sys.path:
        sys.path.append(here)  # for the user's own networks, as with python -m
    if not prints_info(sys.argv[1:]):  # Hydra prints it with a log handler of its own
        logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(PrintableFormatter("%(message)s"))
        # How a run ended is logged by its directory, and is printed here at the end.
        handler.addFilter(lambda record: record.name != run_directory.__name__)
        handler.addFilter(
            lambda record: not (record.name == "netinv_lightning" and record.exc_info)
        )
    for stream in (sys.stdout, sys.stderr):  # escape names that the terminal cannot encode
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    global _full_error
    _full_error = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # With this setting Hydra raises its errors, so that this module can print them in one line.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    dry_run = DRY_RUN in sys.argv[1:]
    sys.argv[1:] = [word for word in sys.argv[1:] if word != DRY_RUN]
    with record_sweep(dry_run) as started_sweep:
        status = _start(dry_run)
        if sweep := started_sweep():
            status = finish_sweep(sweep, status)
            if status == SIGINT_STATUS:
                print(f"to continue: netinv retry {sweep.path}", file=sys.stderr)
    try:
        sys.stdout.flush()  # so that a closed output is not first noticed by the interpreter's end
    except BrokenPipeError:
        status = _closed_output()
    sys.exit(status)


def _start(dry_run: bool) -> int:
    """Pass the command line to Hydra, which calls `job`, and return the exit status."""
    global _composed
    _composed = False
    try:
        if sys.argv[1:2] == ["retry"]:
            if {"-h", "--help"} & set(sys.argv[2:]):
                print(RETRY_USAGE)
                return 0
            sys.argv[1:] = retry_arguments(sys.argv[2:])
        check_words(sys.argv[1:], [*COMMANDS, "retry"])
        if dry_run:
            check_preview(sys.argv[1:])
        with adapted_hydra():
            job()
    except (InputError, HydraException, OmegaConfBaseException) as error:
        return _refuse(error)
    except BrokenPipeError:
        return _closed_output()
    except OSError as error:  # Hydra creates the run directory before the job starts
        return _refuse(
            InputError(
                f"output: the run directory cannot be created ({one_line(error)}). "
                "Set output=FOLDER to a writable folder"
            )
        )
    except KeyboardInterrupt as interrupt:
        return _interrupted(interrupt)
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # Lightning turns it into exit(1)
            return _interrupted(end.__context__)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception as error:  # for some command lines Hydra raises other errors
        return (
            _fail(error) if _composed else _refuse(InputError(explain_refusal(error, sys.argv[1:])))
        )
    return 0


def _interrupted(interrupt: KeyboardInterrupt) -> int:
    print(str(interrupt) or "interrupted before anything was written", file=sys.stderr)
    return SIGINT_STATUS


def _closed_output() -> int:
    """Return the status if the reader of the output has closed it, as `head` does."""
    # The interpreter's last flush must not fail as well.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return SIGPIPE_STATUS


def _refuse(error: BaseException) -> int:
    return exit_status(InputError(explain(error))) if first_process() else 2


def _fail(error: Exception, log: Path | None = None) -> int:
    """Print one line about an unexpected error; its traceback is in run.log, if there is one."""
    if isinstance(error, Preempted):
        print(one_line(error), file=sys.stderr)
        return SIGTERM_STATUS
    message = "; ".join([str(error), *getattr(error, "__notes__", [])])
    if _full_error:
        traceback.print_exception(error)
    where = (
        f"traceback in {log}"
        if log is not None and log.is_file()
        else "set HYDRA_FULL_ERROR=1 for the traceback"
    )
    print(f"failed: {one_line(f'{type(error).__name__}: {message}')} ({where})", file=sys.stderr)
    return 1


if __name__ == "__main__":
    main()
