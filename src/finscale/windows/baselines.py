"""What any model has to beat, on the same rows and from the same past.

t origin row, h horizon. Every probability at t uses training rows, or labels known at t.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from finscale.features.indicators import atr
from finscale.metrics.classification import log_loss, log_loss_rows, scores
from finscale.windows.data import WindowData
from finscale.windows.standardize import Standardizer

__all__ = ["BASELINES", "baseline_scores", "baseline_table", "volatilities"]

Vector = NDArray[np.float64]

TRAILING_LABELS = 252
EWMA_DECAY = 0.94
_EVALUATED = ("val_select", "val_score", "test")
_TINY = 1e-8
_MAX_TREES = 200
_TREE_STEP = 10
_TAIL = 0.2


def baseline_table(data: WindowData, bars: pd.DataFrame) -> pd.DataFrame:
    """Forecast every origin of val_select, val_score and test by each baseline.

    Parameters
    ----------
    data : WindowData
    bars : DataFrame
        The validated bars that the windows were built from.

    Returns
    -------
    DataFrame
        Columns date, split, baseline, probability, target, log_loss; one row per origin and baseline.
    """
    rows = bars.loc[pd.DatetimeIndex(data.dates)]
    inputs = volatilities(bars).loc[rows.index].to_numpy()
    parts = [
        _rows(data, name, split, probabilities[data.origins[split]])
        for name, baseline in BASELINES.items()
        for probabilities in [baseline(data, inputs)]
        for split in _EVALUATED
    ]
    return pd.concat(parts, ignore_index=True)


def baseline_scores(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per split and baseline: split, baseline, and the scores of `metrics.classification`."""
    rows = [
        {"split": split, "baseline": baseline, **scores(group["target"], group["probability"])}
        for (split, baseline), group in table.groupby(["split", "baseline"], sort=False)
    ]
    return pd.DataFrame(rows).sort_values("split", key=_split_order, kind="stable", ignore_index=True)


def volatilities(bars: pd.DataFrame) -> pd.DataFrame:
    """Return three measures of volatility of each bar: log EWMA, ATR / close, five-bar realised.

    The EWMA of squared log returns decays by 0.94 a bar (RiskMetrics 1996).
    """
    returns = np.log(bars["close"]).diff()
    ewma = returns.pow(2).ewm(alpha=1 - EWMA_DECAY, adjust=False).mean().pow(0.5)
    return pd.DataFrame(
        {
            "log_ewma": np.log(ewma.clip(lower=_TINY)),
            "atr_14": atr(bars, period=14) / bars["close"],
            "rv_5": returns.pow(2).rolling(5).sum().pow(0.5),
        }
    )


def _base_rate(data: WindowData, _inputs: Vector) -> Vector:
    return np.full(len(data.targets), data.base_rate)


def _trailing_base_rate(data: WindowData, _inputs: Vector) -> Vector:
    """Share of positives among the last year of labels that ended by t, with half a count of each class."""
    known = pd.Series(data.targets, dtype=np.float64).shift(data.spec.horizon)
    recent = known.rolling(TRAILING_LABELS, min_periods=0)
    return ((recent.sum() + 0.5) / (recent.count() + 1)).to_numpy()


def _logistic(data: WindowData, inputs: Vector) -> Vector:
    train = _defined(data.origins["train"], inputs)
    standardizer = Standardizer.fit(inputs[train])
    model = LogisticRegression().fit(standardizer.transform(inputs[train]), data.targets[train])
    return _where_defined(inputs, lambda rows: model.predict_proba(standardizer.transform(rows))[:, 1])


def _boosting(data: WindowData, _inputs: Vector) -> Vector:
    """Trees on the newest row of features; their number is chosen on the last fifth of the training rows."""
    train = data.origins["train"]
    n_tail = max(1, round(len(train) * _TAIL))
    head, tail = train[: max(1, len(train) - n_tail - data.spec.horizon)], train[-n_tail:]
    n_trees = _best_number_of_trees(data, head, tail)
    if n_trees == 0:
        return np.full(len(data.targets), data.base_rate)
    return _trees(data, train, n_trees).predict_proba(data.values)[:, 1]


def _best_number_of_trees(data: WindowData, head: NDArray[np.int64], tail: NDArray[np.int64]) -> int:
    if len(np.unique(data.targets[head])) < 2:
        return 0
    model = _trees(data, head, _MAX_TREES)
    constant = np.full(len(tail), float(data.targets[head].mean()))
    losses = [log_loss(data.targets[tail], constant)]
    for stage, p in enumerate(model.staged_predict_proba(data.values[tail]), start=1):
        if stage % _TREE_STEP == 0:
            losses.append(log_loss(data.targets[tail], p[:, 1]))
    return int(np.argmin(losses)) * _TREE_STEP


def _trees(data: WindowData, rows: NDArray[np.int64], n_trees: int) -> HistGradientBoostingClassifier:
    model = HistGradientBoostingClassifier(
        max_iter=n_trees, learning_rate=0.05, max_leaf_nodes=15, early_stopping=False, random_state=0
    )
    return model.fit(data.values[rows], data.targets[rows])


def _defined(origins: NDArray[np.int64], inputs: Vector) -> NDArray[np.int64]:
    return origins[np.isfinite(inputs[origins]).all(axis=1)]


def _where_defined(inputs: Vector, forecast: Callable[[Vector], Vector]) -> Vector:
    probabilities = np.full(len(inputs), np.nan)
    defined = np.isfinite(inputs).all(axis=1)
    probabilities[defined] = forecast(inputs[defined])
    return probabilities


def _rows(data: WindowData, baseline: str, split: str, probabilities: Vector) -> pd.DataFrame:
    labels = data.targets_at(split).astype(np.float64)
    columns = {
        "probability": probabilities,
        "target": labels,
        "log_loss": log_loss_rows(labels, probabilities),
    }
    return pd.DataFrame({"date": data.dates_at(split), "split": split, "baseline": baseline, **columns})


def _split_order(splits: pd.Series) -> pd.Series:
    return splits.map(_EVALUATED.index)


BASELINES: dict[str, Callable[[WindowData, Vector], Vector]] = {
    "base_rate": _base_rate,
    "trailing_base_rate": _trailing_base_rate,
    "logistic": _logistic,
    "hist_gradient_boosting": _boosting,
}
