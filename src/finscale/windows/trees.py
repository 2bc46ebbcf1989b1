"""Gradient boosting on the newest row of features, with as many trees as the end of training asks for.

h horizon; n training rows.
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from finscale.metrics.classification import log_loss
from finscale.windows.data import WindowData
from finscale.windows.past import Forecast, Past

__all__ = ["MAX_ROWS", "boosted_mean", "boosted_probability"]

Vector = NDArray[np.float64]
RowNumbers = NDArray[np.int64]

MAX_ROWS = 100_000
"""Newest training rows that the trees read."""

_MAX_TREES = 200
_TREE_STEP = 10
_TAIL = 0.2


def boosted_probability(past: Past) -> Forecast:
    """Forecast a binary task; the base rate where no tree helped."""
    data, train = past.data, _newest(past)
    n_trees = _number_of_trees(past, train, _classifier_losses)
    if n_trees == 0:
        return Forecast(np.full(len(past.origins), data.base_rate), _note(past, n_trees))
    model = _classifier(n_trees).fit(data.values[train], past.scored(train))
    return Forecast(model.predict_proba(data.values[past.origins])[:, 1], _note(past, n_trees))


def boosted_mean(past: Past) -> Forecast:
    """Forecast a scaled return; the training mean where no tree helped."""
    data, train = past.data, _newest(past)
    n_trees = _number_of_trees(past, train, _regressor_losses)
    if n_trees == 0:
        return Forecast(np.full(len(past.origins), past.train_targets.mean()), _note(past, n_trees))
    model = _regressor(n_trees).fit(data.values[train], past.scored(train))
    return Forecast(model.predict(data.values[past.origins]), _note(past, n_trees))


def _newest(past: Past) -> RowNumbers:
    order = np.argsort(past.data.dates[past.train], kind="stable")
    return past.train[order][-MAX_ROWS:]


def _number_of_trees(
    past: Past, train: RowNumbers, losses: Callable[[Past, RowNumbers, RowNumbers], Iterable[float]]
) -> int:
    """Choose on the last fifth of the training rows, from trees grown on those that had ended before it."""
    head, tail = _head_and_tail(past.data, train)
    if len(np.unique(past.scored(head))) < 2:
        return 0
    return int(np.argmin(list(losses(past, head, tail)))) * _TREE_STEP


def _head_and_tail(data: WindowData, train: RowNumbers) -> tuple[RowNumbers, RowNumbers]:
    """Cut rows in order of time between two dates; the labels of the head end before the tail begins."""
    dates = data.dates[train]
    first = dates[-max(1, round(len(train) * _TAIL))]
    return train[data.dates[train + data.spec.horizon] < first], train[dates >= first]


def _classifier_losses(past: Past, head: RowNumbers, tail: RowNumbers) -> Iterable[float]:
    y, values = past.scored(tail), past.data.values[tail]
    yield log_loss(y, np.full(len(tail), past.scored(head).mean()))
    model = _classifier(_MAX_TREES).fit(past.data.values[head], past.scored(head))
    for stage, p in enumerate(model.staged_predict_proba(values), start=1):
        if stage % _TREE_STEP == 0:
            yield log_loss(y, p[:, 1])


def _regressor_losses(past: Past, head: RowNumbers, tail: RowNumbers) -> Iterable[float]:
    y, values = past.scored(tail), past.data.values[tail]
    yield float(np.square(y - past.scored(head).mean()).mean())
    model = _regressor(_MAX_TREES).fit(past.data.values[head], past.scored(head))
    for stage, found in enumerate(model.staged_predict(values), start=1):
        if stage % _TREE_STEP == 0:
            yield float(np.square(y - found).mean())


def _classifier(n_trees: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(
        max_iter=n_trees, learning_rate=0.05, max_leaf_nodes=15, early_stopping=False, random_state=0
    )


def _regressor(n_trees: int) -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(
        max_iter=n_trees, learning_rate=0.05, max_leaf_nodes=15, early_stopping=False, random_state=0
    )


def _note(past: Past, n_trees: int) -> str:
    facts = [] if n_trees else ["no tree helped on the last fifth of training: a constant stands in"]
    if len(past.train) > MAX_ROWS:
        facts.append(f"trained on the newest {MAX_ROWS:,} of {len(past.train):,} training rows")
    return "; ".join(facts)
