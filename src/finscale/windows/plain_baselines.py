"""Baselines without a model of the market: rates, means, quantiles, and fits on three volatilities.

t origin row, n evaluated origins, H trained horizons, Q quantile levels, C target columns.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression, LogisticRegression

from finscale.windows.data import WindowData
from finscale.windows.past import Forecast, Past
from finscale.windows.standardize import Standardizer

__all__ = [
    "TRAILING_LABELS",
    "base_rate",
    "class_rates",
    "last_row",
    "linear",
    "logistic",
    "mean_row",
    "no_change",
    "return_climatologies",
    "return_climatology",
    "scaled_climatologies",
    "scaled_climatology",
    "target_columns",
    "trailing_base_rate",
    "training_mean",
]

Vector = NDArray[np.float64]
Array = NDArray[np.float64]
RowNumbers = NDArray[np.int64]
Inputs = NDArray[np.float32]

TRAILING_LABELS = 252
"""Newest labels, a year of daily ones, that the trailing base rate counts."""


def base_rate(past: Past) -> Forecast:
    """Share of positives among the training origins."""
    return Forecast(np.full(len(past.origins), past.data.base_rate))


def class_rates(past: Past) -> Forecast:
    """Share of each label among the training origins, column by column (n, sum of C)."""
    return Forecast(np.tile(past.data.class_rates, (len(past.origins), 1)))


def trailing_base_rate(past: Past) -> Forecast:
    """Share of positives among an instrument's newest labels that ended by t, half a count for each class."""
    data = past.data
    # the last h labels of an instrument are unknown, so none is carried into the next
    known = pd.Series(data.targets, dtype=np.float64).shift(data.spec.horizon)
    recent = known.groupby(data.instruments).rolling(TRAILING_LABELS, min_periods=0)
    share = (recent.sum() + 0.5) / (recent.count() + 1)
    return Forecast(np.asarray(share.droplevel(0).sort_index())[past.origins])


def logistic(past: Past) -> Forecast:
    """Logistic regression on the three volatilities."""

    def fit(inputs: Inputs, targets: Vector) -> Callable[[Inputs], Vector]:
        model = LogisticRegression().fit(inputs, targets)
        return lambda rows: model.predict_proba(rows)[:, 1]

    return _on_volatilities(past, fit, otherwise=past.data.base_rate)


def linear(past: Past) -> Forecast:
    """Least squares on the three volatilities."""

    def fit(inputs: Inputs, targets: Vector) -> Callable[[Inputs], Vector]:
        return LinearRegression().fit(inputs, targets).predict

    return _on_volatilities(past, fit, otherwise=float(past.train_targets.mean()))


def _on_volatilities(
    past: Past, fit: Callable[[Inputs, Vector], Callable[[Inputs], Vector]], *, otherwise: float
) -> Forecast:
    """Fit on the three volatilities; a constant stands in where a segment is too young to have them."""
    defined = np.isfinite(past.volatility.sum(axis=1))
    train, asked = past.train[defined[past.train]], defined[past.origins]
    values = np.full(len(past.origins), otherwise)
    if len(np.unique(past.scored(train))) < 2:
        return Forecast(values, "no two different labels with volatilities to train on: a constant stands in")
    inputs = Standardizer.fit(past.volatility[train]).transform(past.volatility)
    predict = fit(inputs[train], past.scored(train))
    if asked.any():
        values[asked] = predict(inputs[past.origins[asked]])
    n_young = int((~asked).sum())
    young = f"{n_young} of {len(asked)} origins are too young for volatilities: a constant stands in"
    return Forecast(values, young if n_young else "")


def training_mean(past: Past) -> Forecast:
    """The mean scaled return of training."""
    return Forecast(np.full(len(past.origins), past.train_targets.mean()))


def no_change(past: Past) -> Forecast:
    """The last price again: a return of 0."""
    return Forecast(np.zeros(len(past.origins)))


def return_climatology(past: Past) -> Forecast:
    """Quantiles of the plain training returns, in the units of the volatility at t."""
    return Forecast(_scored(past, return_climatologies(past.data, past.origins)))


def scaled_climatology(past: Past) -> Forecast:
    """Quantiles of the scaled training returns: the volatility at t with a shape that never changes."""
    return Forecast(_scored(past, scaled_climatologies(past.data, past.origins)))


def return_climatologies(data: WindowData, rows: RowNumbers) -> Array:
    """Return the quantiles (n, H, Q) of `return_climatology` at ``rows``, at every trained horizon."""
    scale = data.scale.astype(np.float64)
    plain = data.targets_at("train").astype(np.float64) * scale[data.origins["train"], None]
    return _climatology(plain, data) / scale[rows, None, None]


def scaled_climatologies(data: WindowData, rows: RowNumbers) -> Array:
    """Return the quantiles (n, H, Q) of `scaled_climatology` at ``rows``, at every trained horizon."""
    found = _climatology(data.targets_at("train").astype(np.float64), data)
    return np.broadcast_to(found, (len(rows), *found.shape))


def _climatology(returns: Array, data: WindowData) -> Array:
    """Quantiles (H, Q) of returns (n, H)."""
    return np.quantile(returns, data.spec.quantile_levels, axis=0).T


def _scored(past: Past, quantiles: Array) -> Array:
    """Those (n, Q) of the scored horizon."""
    return quantiles[:, past.data.spec.horizons.index(past.data.spec.horizon)]


def last_row(past: Past) -> Forecast:
    """The newest value of each target column (n, C), for every step."""
    return Forecast(past.data.values[np.ix_(past.origins, target_columns(past.data))].astype(np.float64))


def mean_row(past: Past) -> Forecast:
    """The mean (n, C) of each column over the training origins, for every step."""
    columns = target_columns(past.data)
    rows = past.data.values[np.ix_(past.train, columns)]
    return Forecast(np.tile(rows.mean(axis=0, dtype=np.float64), (len(past.origins), 1)))


def target_columns(data: WindowData) -> NDArray[np.int64]:
    """Return the places (C,) of the forecast columns among the features."""
    return np.array([data.spec.features.index(name) for name in data.spec.target_columns], dtype=np.int64)
