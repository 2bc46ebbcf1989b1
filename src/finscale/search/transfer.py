"""Carry optima up the ladder: power laws over the winners of smaller cells, proposed in the next one.

Of every numeric hyper-parameter x a law log x = a + b log N is fitted by least squares to the winners of the
finished cells with smaller budgets (same experiment and horizon). Its prediction at this cell's budget is
proposed as it is, and with the learning rate one octave lower and higher. What is constant stays; what has no
logarithm takes its mean; what is no number follows the largest cell.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState
from pydantic import Field

from finscale.archgrid.base import DIMENSIONS
from finscale.core.budgets import Cell
from finscale.core.config import Record
from finscale.core.errors import FinscaleError
from finscale.search.best import lowest
from finscale.search.bound_space import BoundSpace
from finscale.search.coordinates import COORDINATES, Coordinates
from finscale.search.dimensions import are_numbers, center, values_of
from finscale.search.proposals import Proposal, Proposer
from finscale.search.study import has_study, load_study
from finscale.search.trials import dimensions_of

__all__ = ["Optimum", "Prediction", "TransferReport", "admissible", "optima_below", "predict", "predict_cell"]
__all__ += ["report", "transferred", "with_octaves"]

MIN_CELLS = 2
KIND = "transfer"
_RATE = "learning_rate"
_LOGARITHMS = ("shape", "log2_heads")
"""Coordinates that are logarithms already."""


class Optimum(Record):
    """The winner of a finished cell.

    Parameters
    ----------
    cell : str
        Where it won.
    n_params : int
        Its true N.
    values : dict
        Coordinates of its architecture, and its training parameters.
    """

    cell: str
    n_params: int
    values: dict[str, Any]


class TransferReport(Record):
    """How transferred trials did beside searched ones of the same study.

    Parameters
    ----------
    cells : tuple of str
        Where the optima came from.
    n_transferred : int
        Finished trials of kind ``transfer``.
    best_transferred, best_searched : float or None
        Lowest losses of transferred and of all other searched trials.
    regret : float or None
        Of the former over the latter: negative where the transferred trials were the better ones.
    """

    cells: tuple[str, ...]
    n_transferred: int
    best_transferred: float | None
    best_searched: float | None
    regret: float | None


class Prediction(Record):
    """What the laws say of a cell; kept with its study, so that every session proposes the same.

    Parameters
    ----------
    cells : tuple of str
        Where the optima came from; empty where there were too few.
    values : dict
        Coordinates, training parameters and options by name.
    """

    cells: tuple[str, ...] = ()
    values: dict[str, Any] = Field(default_factory=dict)


def predict_cell(study_directory: Path, cell: Cell, *, experiment: str) -> Prediction:
    """Predict the optimum of a cell from the finished cells beside it; from fewer than two, nothing."""
    optima = optima_below(study_directory, cell, experiment=experiment)
    if len(optima) < MIN_CELLS:
        return Prediction()
    values = {**predict(optima, cell.n_budget), "size": 0.0}
    return Prediction(cells=tuple(optimum.cell for optimum in optima), values=values)


def optima_below(study_directory: Path, cell: Cell, *, experiment: str) -> list[Optimum]:
    """Return the winners of the finished cells beside this one, smallest N first.

    Parameters
    ----------
    study_directory : Path
        Of the cell; the other cells' lie beside it.
    experiment : str
        Hash of the experiment in their identities; a cell of another definition is left out.
    """
    found = (_optimum(path, cell, experiment) for path in study_directory.parent.glob(f"*_h{cell.horizon}"))
    return sorted(filter(None, found), key=lambda optimum: optimum.n_params)


def _optimum(directory: Path, cell: Cell, experiment: str) -> Optimum | None:
    try:
        below = Cell.from_id(directory.name)
    except FinscaleError:
        return None
    if below.n_budget >= cell.n_budget or not has_study(directory):
        return None
    study = load_study(directory)
    best = lowest(study.get_trials(deepcopy=False))
    is_same = study.user_attrs.get("identity", {}).get("experiment") == experiment
    if best is None or not is_same or study.user_attrs.get("ended") != "complete":
        return None
    known = {**best.user_attrs, **best.params}
    names = (*COORDINATES, *dimensions_of(study))
    values = {name: known[name] for name in names if name in known and name not in DIMENSIONS}
    return Optimum(cell=below.id, n_params=best.user_attrs["n_params"], values=values)


def predict(optima: Sequence[Optimum], n_params: int) -> dict[str, Any]:
    """Return what the laws of the hyper-parameters that every optimum has say at ``n_params``."""
    shared = [name for name in optima[0].values if all(name in optimum.values for optimum in optima)]
    sizes = np.log([optimum.n_params for optimum in optima])
    columns = {name: [optimum.values[name] for optimum in optima] for name in shared}
    return {name: _law(name, sizes, values, math.log(n_params)) for name, values in columns.items()}


def _law(name: str, log_sizes: np.ndarray, values: Sequence[Any], log_size: float) -> Any:
    if not are_numbers(values):
        return values[-1]
    if np.ptp(log_sizes) == 0 or (name not in _LOGARITHMS and min(values) <= 0):
        return float(np.mean(values))
    logs = values if name in _LOGARITHMS else np.log(values)
    slope, start = np.polyfit(log_sizes, logs, 1)
    predicted = float(start + slope * log_size)
    return predicted if name in _LOGARITHMS else math.exp(predicted)


def transferred(
    prediction: Prediction, *, table: pd.DataFrame, space: BoundSpace, proposer: Proposer
) -> list[Proposal]:
    """Return what is proposed of a prediction: at the nearest candidate, clamped to the space."""
    if not prediction.cells:
        return []
    row = _nearest(table, prediction.values)
    marks = {"source": " ".join(prediction.cells)}
    found = []
    for values in with_octaves(prediction.values):
        point = {
            name: admissible(free, values[name]) if name in values else center(free)
            for name, free in space.free.items()
        }
        training = space.training(row, space.active(row, point))
        found.append(proposer.named(KIND, row, training, marks))
    return found


def _nearest(table: pd.DataFrame, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the candidate nearest to predicted coordinates, among those with the predicted options."""
    for name in (name for name in values if name in table.columns):
        agrees = table[table[name].map(lambda value, wanted=values[name]: value == wanted)]
        table = agrees if len(agrees) else table
    coordinates = Coordinates.of(table)
    middle = np.median(coordinates.points, axis=0)
    target = [values.get(name, middle[k]) for k, name in enumerate(COORDINATES)]
    row = table.iloc[coordinates.nearest(np.array(target))]
    return {str(name): value for name, value in row.to_dict().items()}


def with_octaves(prediction: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the prediction, and the same with half and twice its learning rate where it has one."""
    yield dict(prediction)
    if _RATE in prediction:
        for factor in (0.5, 2.0):
            yield {**prediction, _RATE: factor * prediction[_RATE]}


def admissible(found: BaseDistribution, value: Any) -> Any:
    """Return the value of a distribution nearest to a prediction: by ratio, where all is positive."""
    values = values_of(found)
    if values is None:
        return min(max(value, found.low), found.high)
    if not are_numbers(values):
        return value if value in values else values[0]
    return min(values, key=lambda choice: _distance(choice, value))


def _distance(choice: float, value: float) -> float:
    return abs(math.log(choice / value)) if min(choice, value) > 0 else abs(choice - value)


def report(trials: Sequence[FrozenTrial], *, cells: Sequence[str]) -> TransferReport:
    """Compare the transferred trials of a study with those that it searched itself."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    transferred = [trial.value for trial in complete if trial.user_attrs["kind"] == KIND]
    searched = [trial.value for trial in complete if trial.user_attrs["kind"] not in (KIND, "supplemental")]
    best, other = min(transferred, default=None), min(searched, default=None)
    return TransferReport(
        cells=tuple(cells),
        n_transferred=len(transferred),
        best_transferred=best,
        best_searched=other,
        regret=None if best is None or other is None else best - other,
    )
