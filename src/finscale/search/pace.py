"""How fast this machine trains the architectures of a cell: from trials that have ended, or from timed steps.

The time of a window is ``a + b L + c C``, with L layers and C operations: kernels of a deep, narrow model
are launched one after another however small they are. The three are fitted, none below zero, to timed steps
of the median architecture, of the one with the most operations and of the deepest.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState
from scipy.optimize import nnls

from finscale.core.config import Record

if TYPE_CHECKING:
    from finscale.training.step_times import StepTimes

__all__ = ["Pace", "flops_per_second", "pace_of_steps", "pace_of_trials", "to_be_timed"]

Coefficients = tuple[float, float, float]


class Pace(Record):
    """Seconds that a training takes.

    Parameters
    ----------
    source : str
        What it was read from, in words.
    window_s, scored_s : tuple of float
        Seconds of one window of an optimizer step and of one that is validated: constant, per layer, and per
        operation that the training of a window takes.
    start_s : float
        Seconds before the first step.
    """

    source: str
    window_s: Coefficients
    scored_s: Coefficients
    start_s: float

    def seconds(self, table: pd.DataFrame, *, n_windows: float, n_scored: float) -> pd.Series:
        """Return the seconds of a training of every candidate.

        Parameters
        ----------
        table : DataFrame
            Candidates.
        n_windows, n_scored : float
            Windows that are trained on and those that are validated, over all epochs.
        """
        shape = _shape(table)
        spent = shape @ np.array(self.window_s) * n_windows + shape @ np.array(self.scored_s) * n_scored
        return pd.Series(self.start_s + spent, index=table.index)


def pace_of_trials(trials: Sequence[FrozenTrial], table: pd.DataFrame) -> Pace | None:
    """Return the pace at which trials of a study ran, all that they did included; None before one ended."""
    speed, n_timed = flops_per_second(trials, table), len(_timed(trials, table))
    if not speed:
        return None
    source = f"{n_timed} finished trial{'s' * (n_timed > 1)}"
    return Pace(source=source, window_s=(0.0, 0.0, 1 / speed), scored_s=(0.0, 0.0, 0.0), start_s=0.0)


def flops_per_second(trials: Sequence[FrozenTrial], table: pd.DataFrame) -> float:
    """Return the training operations per second of trials that have finished; 0 where there is none."""
    costs = dict(zip(table["arch_id"], table["flops_training"], strict=True))
    timed = _timed(trials, table)
    seconds = sum(known["seconds"] for known in timed)
    return sum(_executed(known, costs[known["arch_id"]]) for known in timed) / seconds if timed else 0.0


def _timed(trials: Sequence[FrozenTrial], table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return what the study records of its complete trials of these candidates."""
    complete = [trial.user_attrs for trial in trials if trial.state == TrialState.COMPLETE]
    known = set(table["arch_id"])
    return [found for found in complete if found.get("seconds") and found["arch_id"] in known]


def to_be_timed(table: pd.DataFrame) -> list[int]:
    """Return the places of the median candidate, of the one with the most operations, and of the deepest."""
    flops, layers = table["flops_training"].to_numpy(), table["n_layers"].to_numpy()
    by_cost = np.lexsort((layers, flops))
    deepest = np.lexsort((flops, layers))[-1]
    return list(dict.fromkeys(map(int, (by_cost[(len(table) - 1) // 2], by_cost[-1], deepest))))


def pace_of_steps(rows: pd.DataFrame, timed: Iterable["StepTimes"], *, source: str) -> Pace:
    """Fit a pace to the timed steps of some candidates."""
    window_s, scored_s, start_s = (np.array(column) for column in zip(*timed, strict=True))
    shape = _shape(rows)
    return Pace(
        source=source,
        window_s=_fitted(shape, window_s),
        scored_s=_fitted(shape, scored_s),
        start_s=float(start_s.mean()),
    )


def _fitted(shape: NDArray[np.float64], seconds: NDArray[np.float64]) -> Coefficients:
    """Fit coefficients of which none is negative (Lawson and Hanson 1974), each column at its own scale."""
    scale = shape.max(axis=0)
    constant, layer, operation = nnls(shape / scale, seconds)[0] / scale
    return float(constant), float(layer), float(operation)


def _shape(table: pd.DataFrame) -> NDArray[np.float64]:
    """Return what the time of a window depends on, one row per candidate."""
    columns = (np.ones(len(table)), table["n_layers"], table["flops_training"])
    return np.column_stack(columns).astype(np.float64)


def _executed(known: Mapping[str, Any], flops: float) -> float:
    return float(flops * known.get("n_steps", 0) * known.get("effective_batch_size", 0))
