"""What a search varied, as numbers that can be drawn and compared.

Architectures are described by what tells them apart at one budget: their shape, size, heads and feed-forward
ratio; everything else by its own value.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.search.trials import TRIAL_COLUMNS

__all__ = ["ABSENT", "Varied", "finite_trials", "searched", "varied", "within_reach"]

ABSENT = "-"
_TRAINING = (
    *("learning_rate", "epochs", "weight_decay", "warmup_steps", "dropout"),
    *("optimizer", "schedule", "effective_batch_size"),
)
_PLACE = ("budget", "n_budget", "horizon")
_DECADES = 0.7
_REACH = 3.0


@dataclass(frozen=True)
class Varied:
    """A dimension with more than one value among some trials.

    Attributes
    ----------
    values : float array, (n_trials,)
        Logarithms (base 10) where ``is_log``, places in ``words`` where that has any; the median where a
        trial did not use the dimension.
    words : tuple of str
        Of a dimension that is no number; the first may be `ABSENT`.
    """

    name: str
    values: NDArray[np.float64]
    is_log: bool = False
    words: tuple[str, ...] = ()


def varied(trials: pd.DataFrame) -> tuple[Varied, ...]:
    """Return what varies among trials of one cell.

    Parameters
    ----------
    trials : DataFrame
        With d_model, n_layers, n_heads, d_ff, n_params; training parameters and further dimensions
        where known.
    """
    columns = {**_architecture(trials), **{name: trials[name] for name in searched(trials)}}
    found = [_read(name, values) for name, values in columns.items()]
    return tuple(dimension for dimension in found if np.ptp(dimension.values) > 0)


def finite_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials that ended with a loss, which is a float."""
    values = pd.to_numeric(trials["value"], errors="coerce").astype(float)
    return trials.assign(value=values)[np.isfinite(values) & (trials["state"].astype(str) == "COMPLETE")]


def within_reach(values: NDArray[np.float64]) -> float:
    """Return the highest loss worth drawing: a few disasters must not flatten the rest."""
    low, upper_quartile, high = values.min(), np.quantile(values, 0.75), values.max()
    return float(min(high, upper_quartile + _REACH * max(upper_quartile - low, 1e-4)))


def _architecture(trials: pd.DataFrame) -> dict[str, pd.Series]:
    return {
        "width / depth": trials["d_model"] / trials["n_layers"],
        "N": trials["n_params"],
        "heads": trials["n_heads"],
        "d_ff / d_model": trials["d_ff"] / trials["d_model"],
    }


def searched(trials: pd.DataFrame) -> list[str]:
    """Return the names of what may vary beside architectures.

    Training parameters, and whatever a study's table has beside the columns of every study.
    """
    known = [name for name in _TRAINING if name in trials.columns]
    return known + [str(name) for name in trials.columns if name not in (*TRIAL_COLUMNS, *_PLACE)]


def _read(name: str, column: pd.Series) -> Varied:
    shown = name if "/" in name else name.replace("_", " ")
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    if pd.api.types.is_bool_dtype(column) or (numbers.isna() & column.notna()).any() or column.isna().all():
        return _as_words(shown, column)
    numbers = numbers.fillna(numbers.median())
    low, high = float(numbers.min()), float(numbers.max())
    is_log = low > 0 and math.log10(high / low) > _DECADES
    values = np.asarray(numbers, dtype=np.float64)
    return Varied(shown, np.asarray(np.log10(values)) if is_log else values, is_log)


def _as_words(name: str, column: pd.Series) -> Varied:
    words = column.map(str, na_action="ignore").fillna(ABSENT)
    order = tuple(sorted(set(words), key=lambda word: (word != ABSENT, word)))
    return Varied(name, words.map(order.index).to_numpy(dtype=np.float64), words=order)
