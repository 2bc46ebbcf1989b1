"""Which weights a search keeps on disk: those of its best trials, and what a running one resumes from."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from finscale.search.driver import trial_directory

__all__ = ["keep_best_weights"]


def keep_best_weights(trials: Sequence[FrozenTrial], directory: Path, *, top_k: int) -> None:
    """Delete what trials that ended left to resume from, and the weights of all but the best.

    Parameters
    ----------
    trials : sequence of FrozenTrial
        All trials of the study.
    directory : Path
        Of the study.
    top_k : int
        Complete trials of lowest loss, the earliest among equals, whose ``best.safetensors`` stays.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    best = sorted(complete, key=lambda trial: (trial.value, trial.number))[:top_k]
    kept = {trial.number for trial in best}
    for trial in trials:
        if trial.state.is_finished():
            folder = trial_directory(directory, trial.number)
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            if trial.number not in kept:
                (folder / "best.safetensors").unlink(missing_ok=True)
