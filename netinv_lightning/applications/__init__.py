"""What a user asks for, one file each; `application=<name>` chooses.

An application is made from the config and then run. Making it reads and checks everything that the user named, and
raises InputError before anything is written; running it fills the run directory and gives the metrics.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

from omegaconf import DictConfig

from netinv_lightning.errors import InputError, nearest
from netinv_lightning.runs.run_directory import RunDir

APPLICATIONS = {
    "invert": "netinv_lightning.applications.invert:InvertApplication",
    "reconstruct": "netinv_lightning.applications.reconstruct:ReconstructApplication",
    "audit": "netinv_lightning.applications.audit:AuditApplication",
    "measure": "netinv_lightning.applications.measure:MeasureApplication",
    "approach": "netinv_lightning.applications.approach:ApproachApplication",
    "interpret": "netinv_lightning.applications.interpret:InterpretApplication",
    "detect_ood": "netinv_lightning.applications.detect_ood:DetectOodApplication",
    "distill": "netinv_lightning.applications.distill:DistillApplication",
    "counterfeit": "netinv_lightning.applications.counterfeit:CounterfeitApplication",
    "finetune": "netinv_lightning.applications.finetune:FinetuneApplication",
    "benchmark": "netinv_lightning.applications.benchmark:BenchmarkApplication",
    "train_classifier": "netinv_lightning.applications.train_classifier:TrainClassifierApplication",
}


class Application(Protocol):
    best_metric: str
    """Name of the metric that tells how well a run went."""

    def __init__(self, cfg: DictConfig) -> None: ...

    def run(self, run_dir: RunDir) -> dict[str, float]: ...


def make_application(cfg: DictConfig) -> Application:
    name = cfg.application.name
    if name not in APPLICATIONS:
        raise InputError(f"application.name={name}: {nearest(name, APPLICATIONS)}")
    module, cls = APPLICATIONS[name].split(":")
    application: Application = getattr(import_module(module), cls)(cfg)
    return application
