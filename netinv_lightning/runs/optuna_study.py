"""Searches with Optuna (`+sweep=loss_weights`) that survive a kill."""

from __future__ import annotations

import warnings

from omegaconf import DictConfig, OmegaConf, open_dict


def continue_study(config: DictConfig) -> None:
    """An Optuna study in storage goes on: trials that did not end well are asked again, then those that are left.

    Asked again, a trial has the same parameters, so the same overrides, so its old place.
    """
    sweeper = config.hydra.sweeper
    if not sweeper.get("storage"):
        return
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    directions = [
        getattr(one, "name", one)
        for one in (
            sweeper.direction if OmegaConf.is_list(sweeper.direction) else [sweeper.direction]
        )
    ]
    study = optuna.create_study(
        study_name=sweeper.study_name,
        storage=sweeper.storage,
        directions=directions,
        load_if_exists=True,
    )
    states = optuna.trial.TrialState
    trials = study.trials
    kept = [
        trial.params or trial.system_attrs.get("fixed_params")
        for trial in trials
        if trial.state in (states.COMPLETE, states.WAITING)
    ]
    for trial in trials:
        if trial.state == states.RUNNING:
            study.tell(trial.number, state=states.FAIL)
        if (
            trial.state in (states.RUNNING, states.FAIL)
            and trial.params
            and trial.params not in kept
        ):
            study.enqueue_trial(trial.params)
            kept.append(trial.params)
    with open_dict(config):
        sweeper.n_trials = max(
            sweeper.n_trials - sum(trial.state == states.COMPLETE for trial in trials), 0
        )
