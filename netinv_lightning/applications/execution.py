"""One run: check the config, create the application, run it in its directory, store the metrics."""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig

from netinv_lightning.applications import make_application
from netinv_lightning.applications.input_check import check_inputs
from netinv_lightning.config.launch_environment import check_environment
from netinv_lightning.config.validate import check
from netinv_lightning.errors import printable
from netinv_lightning.runs.notices import notices_of_a_run
from netinv_lightning.runs.peers import first_process
from netinv_lightning.runs.run_directory import RunDir


def run(cfg: DictConfig, job_dir: Path, resuming: bool = False) -> dict[str, float]:
    """Run the application that `cfg` describes in `job_dir` and return its metrics.

    Raises:
        InputError: if the input is wrong; nothing has been written yet.
    """
    check(cfg)
    check_environment(cfg)
    check_inputs(cfg)
    run_dir = RunDir(job_dir, resuming)
    run_dir.check_usable()

    if "torch" not in sys.modules and first_process():
        print(loading_line(cfg), file=sys.stderr, flush=True)
    # Imports torch, which is slow, so only after the config was checked.
    from netinv_lightning.training.trainer import resolve_trainer

    chosen = resolve_trainer(cfg)
    with notices_of_a_run():
        application = make_application(cfg)
    classifier = application.classifier
    with run_dir.open(cfg, None if classifier is None else classifier.record()):
        for line in chosen if first_process() else ():
            print(line, flush=True)
        metrics = application.run(run_dir)
        run_dir.write_summary(metrics)
        run_dir.record(
            best_metric=metrics.get(application.ranked_by),
            best_metric_name=application.ranked_by,
        )
    if first_process():
        print(run_dir.path, flush=True)
    return metrics


def loading_line(cfg: DictConfig) -> str:
    """Return the first line of a run, which says what takes the first seconds."""
    classifier, run_dir = cfg.classifier, cfg.application.get("run")
    network = str((classifier.network or {}).get("_target_", "")).rpartition(".")[2]
    named = run_dir or classifier.path or classifier.zoo or classifier.callable or network
    what = f" and {named}" if named else ""
    return printable(f"{cfg.application.name}: loading torch{what} ...")
