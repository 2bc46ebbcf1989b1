"""Whether the study of a cell is what a finished search leaves behind."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from finscale.core.config import Record
from finscale.core.errors import Fault, FinscaleError
from finscale.core.files import read_json
from finscale.search.best import BEST_FILE, lowest
from finscale.search.driver import trial_directory
from finscale.search.extremes import forced_rows
from finscale.search.proposals import has_result
from finscale.search.study import load_study

__all__ = ["Verification", "verify_study"]

_REMEDY = "run the same search again: it goes on where it stopped"


class Verification(Record):
    """What was found.

    Parameters
    ----------
    states, kinds : dict
        Number of trials by state, and of those with a result by kind.
    n_extremes, n_extremes_tried : int
        Forced extremes of the candidates, and how many have a result.
    """

    states: dict[str, int]
    kinds: dict[str, int]
    n_extremes: int
    n_extremes_tried: int


def verify_study(
    directory: Path, table: pd.DataFrame, *, forces_extremes: bool
) -> tuple[Verification, tuple[Fault, ...]]:
    """Look through the study in ``directory``; return what is there, and what is wrong with it.

    Parameters
    ----------
    table : DataFrame
        Candidates of the cell.
    forces_extremes : bool
        Whether the search begins with them.

    Raises
    ------
    Fault
        When there is no study.
    """
    trials = load_study(directory).get_trials(deepcopy=False)
    forced = forced_rows(table) if forces_extremes else ()
    counted = [trial for trial in trials if has_result(trial)]
    tried = {trial.user_attrs.get("arch_id") for trial in counted}
    found = Verification(
        states=dict(Counter(trial.state.name for trial in trials)),
        kinds=dict(Counter(str(trial.user_attrs.get("kind")) for trial in counted)),
        n_extremes=len(forced),
        n_extremes_tried=len(tried & set(forced)),
    )
    untried = [arch_id for arch_id in forced if arch_id not in tried]
    return found, tuple(_faults(directory, table, trials, untried))


def _faults(
    directory: Path, table: pd.DataFrame, trials: Sequence[FrozenTrial], untried: Sequence[str]
) -> Iterator[Fault]:
    if untried:
        yield Fault("the study", "have tried every extreme", f"none of {', '.join(untried)}", _REMEDY)
    known = set(table["arch_id"])
    for number, trial in enumerate(trials):
        yield from _trial_faults(trial, number, directory, known)
    yield from _best_faults(directory / BEST_FILE, trials)


def _trial_faults(trial: FrozenTrial, number: int, directory: Path, known: set[str]) -> Iterator[Fault]:
    name, attributes = f"trial {trial.number}", trial.user_attrs
    if trial.number != number:
        yield Fault(name, f"have the number {number}, the next one", trial.number)
    if trial.state == TrialState.RUNNING:
        yield Fault(name, "have ended", "RUNNING", _REMEDY)
    if trial.state == TrialState.COMPLETE and (trial.value is None or not math.isfinite(trial.value)):
        yield Fault(name, "have a finite value", trial.value)
    if attributes.get("arch_id") not in known and attributes.get("kind") != "supplemental":
        yield Fault(name, "have an arch_id of the candidates", attributes.get("arch_id"))
    file = trial_directory(directory, trial.number).with_suffix(".yaml")
    if not file.exists() and not attributes.get("recovered"):
        yield Fault(name, "have its file", f"no {file.name}", "its run cannot be repeated")


def _best_faults(path: Path, trials: Sequence[FrozenTrial]) -> Iterator[Fault]:
    best = lowest(trials)
    if best is None:
        yield Fault("the study", "have a complete trial", "none", _REMEDY)
        return
    try:
        written = read_json(path)["trial_number"]
    except (FinscaleError, KeyError, TypeError):
        written = "no such file, or a broken one"
    if written != best.number:
        yield Fault(path.name, f"be of trial {best.number}, the best", written, _REMEDY)
