"""Continue a search with Optuna (`+sweep=loss_weights`) that was interrupted."""

from __future__ import annotations

import warnings

from omegaconf import DictConfig, OmegaConf, open_dict


def continue_study(config: DictConfig) -> None:
    """Enqueue the interrupted trials of a stored study, and run only the trials that are left.

    A trial that is repeated has the same parameters, hence the same overrides, hence the same
    directory.
    """
    sweeper = config.hydra.sweeper
    if not sweeper.get("storage"):
        return
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    directions = sweeper.direction if OmegaConf.is_list(sweeper.direction) else [sweeper.direction]
    study = optuna.create_study(
        study_name=sweeper.study_name,
        storage=sweeper.storage,
        directions=[getattr(direction, "name", direction) for direction in directions],
        load_if_exists=True,
    )
    states = optuna.trial.TrialState
    trials = study.trials
    settled = [
        trial.params or trial.system_attrs.get("fixed_params")
        for trial in trials
        if trial.state in (states.COMPLETE, states.WAITING)
    ]
    for trial in trials:
        if trial.state == states.RUNNING:
            study.tell(trial.number, state=states.FAIL)
        interrupted = trial.state in (states.RUNNING, states.FAIL)
        if interrupted and trial.params and trial.params not in settled:
            study.enqueue_trial(trial.params)
            settled.append(trial.params)
    complete = sum(trial.state == states.COMPLETE for trial in trials)
    with open_dict(config):
        sweeper.n_trials = max(sweeper.n_trials - complete, 0)
