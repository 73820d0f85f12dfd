"""Check the keys of `monitor`. Imports are light."""

from __future__ import annotations

from omegaconf import DictConfig

from netinv_lightning.config.application_schema import INVERSIONS
from netinv_lightning.config.method_schema import trains_generator
from netinv_lightning.errors import InputError


def check_monitor(cfg: DictConfig) -> None:
    """Refuse keys of `monitor` that have no effect.

    Raises:
        InputError: naming the key.
    """
    monitor, app = cfg.monitor, cfg.application
    if monitor.metric is None:
        for key, used in (("patience", monitor.patience), ("keep_best", monitor.keep_best)):
            if used:
                raise InputError(
                    f"monitor.{key}={str(used).lower()}: needs the name of a metric. Set "
                    "monitor.metric=inversion/accuracy_train"
                )
        return
    key = f"monitor.metric={monitor.metric}"
    if monitor.patience is None and not monitor.keep_best:
        raise InputError(
            f"{key}: has no effect. Set monitor.patience=N or monitor.keep_best=true, or leave it "
            "out"
        )
    if app.name in INVERSIONS:
        if not trains_generator(cfg):
            raise InputError(
                f"{key}: method={cfg.method.name} trains no generator. Leave it out, or set "
                "method=generator"
            )
        if app.round_steps is not None:
            raise InputError(
                f"{key}: cannot be combined with application.round_steps={app.round_steps}, whose "
                "last generators are untrained before the last round. Leave one of them out"
            )
        if monitor.every < app.log_every:
            raise InputError(
                f"monitor.every={monitor.every}: must be application.log_every={app.log_every} or "
                "more, because metrics are logged at these steps"
            )
    elif app.name != "train_classifier":
        raise InputError(
            f"{key}: application={app.name} does not use it. Leave it out; it is for "
            f"application={', '.join(INVERSIONS)} and train_classifier"
        )
