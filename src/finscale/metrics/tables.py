"""Forecasts written down, one row per origin, and scored: the same columns for models and for baselines.

n origins; y targets in float64; Q quantile levels, h steps, K target columns. The columns of a table say of
which kind its forecasts are.
"""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.metrics import classes, classification, probabilistic, regression
from finscale.metrics.probabilistic import quantile_level, quantile_name

__all__ = [
    "Columns",
    "binary_columns",
    "classes_columns",
    "error_columns",
    "is_quantile",
    "quantile_columns",
    "quantile_matrix",
    "regression_columns",
    "scores",
]

Vector = NDArray[np.float64]
Columns = dict[str, Vector]

_QUANTILE = re.compile(r"q\d+(\.\d+)?")
_MEANS = re.compile(r"log_loss(_.+)?|accuracy|squared_error|absolute_error")


def binary_columns(y: Vector, p: Vector) -> Columns:
    """Return probability, target, log_loss of yes-or-no forecasts (n,)."""
    return {"probability": p, "target": y, "log_loss": classification.log_loss_rows(y, p)}


def regression_columns(y: Vector, prediction: Vector) -> Columns:
    """Return prediction, target, squared_error of point forecasts (n,)."""
    losses = regression.squared_error_rows(y, prediction)
    return {"prediction": prediction, "target": y, "squared_error": losses}


def quantile_columns(y: Vector, quantiles: NDArray[np.float64], levels: Sequence[float]) -> Columns:
    """Return q05 ..., target, pinball_loss (mean over the levels) of quantiles (n, Q)."""
    losses = probabilistic.pinball_rows(y, quantiles, levels).mean(axis=1)
    named = {quantile_name(level): column for level, column in zip(levels, quantiles.T, strict=True)}
    return {**named, "target": y, "pinball_loss": losses}


def quantile_matrix(columns: Columns | pd.DataFrame, levels: Sequence[float]) -> NDArray[np.float64]:
    """Return the quantiles (n, Q) that `quantile_columns` wrote down."""
    return np.stack([np.asarray(columns[quantile_name(level)]) for level in levels], axis=1)


def is_quantile(name: str) -> bool:
    """Return whether a column holds the quantiles of one level."""
    return _QUANTILE.fullmatch(name) is not None


def classes_columns(
    y: NDArray[np.float64], p: NDArray[np.float64], *, names: Sequence[str], n_classes: Sequence[int]
) -> Columns:
    """Return log_loss_<name> of each target column, log_loss (their plain mean), accuracy (of all columns).

    Parameters
    ----------
    y, p : float64 array (n, K), (n, sum of C)
        Codes, and probabilities side by side.
    names, n_classes : sequence (K,)
    """
    losses = classes.log_loss_rows(y, p, n_classes)
    named = {f"log_loss_{name}": column for name, column in zip(names, losses.T, strict=True)}
    accuracy = classes.hit_rows(y, p, n_classes).mean(axis=1)
    return {**named, "log_loss": losses.mean(axis=1), "accuracy": accuracy}


def error_columns(errors: NDArray[np.float64]) -> Columns:
    """Return squared_error, absolute_error, means over the steps and columns of errors (n, h, K).

    Only they are kept: the numbers of every origin would outgrow the windows.
    """
    squared, absolute = np.square(errors).mean(axis=(1, 2)), np.abs(errors).mean(axis=(1, 2))
    return {"squared_error": squared, "absolute_error": absolute}


def scores(rows: pd.DataFrame) -> dict[str, float]:
    """Return every score of forecasts that one of these functions wrote down."""
    if "probability" in rows:
        return classification.scores(rows["target"], rows["probability"])
    if "prediction" in rows:
        return regression.scores(rows["target"], rows["prediction"])
    if "pinball_loss" in rows:
        names = [name for name in rows.columns if is_quantile(name)]
        levels = [quantile_level(name) for name in names]
        return probabilistic.scores(rows["target"], rows[names].to_numpy(), levels)
    means = [name for name in rows.columns if _MEANS.fullmatch(name)]
    return {**{name: float(rows[name].mean()) for name in means}, "n": float(len(rows))}
