"""What a model has said at every origin, and how good it was, by the kind of the task. No torch.

n origins, y targets and a answers in float64; H trained horizons, Q levels, h steps, C target columns.
The columns are those of `finscale.windows.baselines.baseline_table`, so that models and baselines compare.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, softmax

from finscale.metrics import tables
from finscale.metrics.classes import class_blocks
from finscale.metrics.tables import Columns
from finscale.windows.data import WindowData
from finscale.windows.measures import MEASURES, Measure
from finscale.windows.spec import WindowSpec
from finscale.windows.tasks import TaskKind, parse_task

__all__ = ["SCORINGS", "Rows", "Scoring", "join_rows", "scoring_of"]

Array = NDArray[np.float64]
Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rows:
    """One row per origin.

    Attributes
    ----------
    columns : dict of float64 array (n,)
        What is written down: forecast, target and the loss that is compared, see `Scoring.measure`.
    loss : float64 array (n,)
        The loss that is trained; of quantiles the mean over all horizons, of every other kind that column.
    by_horizon : tuple of Columns (H,)
        Of quantiles what is written down at each trained horizon, the scored one among them; else empty.
    """

    columns: Columns
    loss: Vector
    by_horizon: tuple[Columns, ...] = ()

    @property
    def value(self) -> float:
        """The mean trained loss: what chooses the best epoch."""
        return float(self.loss.mean())


def join_rows(parts: Sequence[Rows]) -> Rows:
    """Lay the rows of consecutive origins end to end."""
    by_horizon = zip(*(part.by_horizon for part in parts), strict=True)
    return Rows(
        _end_to_end([part.columns for part in parts]),
        np.concatenate([part.loss for part in parts]),
        tuple(_end_to_end(columns) for columns in by_horizon),
    )


def _end_to_end(parts: Sequence[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class Scoring(ABC):
    """How answers to a task of one kind are written down and scored.

    Parameters
    ----------
    spec : WindowSpec
        Of the windows that are answered.

    Attributes
    ----------
    measure : Measure
        Its ``column`` is the score that runs are compared by; its ``scores`` belong in a table of runs, NaN
        where there is none.
    """

    measure: ClassVar[Measure]

    def __init__(self, spec: WindowSpec) -> None:
        self.spec = spec

    def answer(self, raw: Array) -> Array:
        """Return the answer to what the head says."""
        return raw

    @abstractmethod
    def rows(self, answer: Array, y: Array) -> Rows:
        """Write down answers to n targets."""

    @abstractmethod
    def reference(self, data: WindowData) -> Array:
        """Return the one answer that needs no model, fitted on training: base rate or climatology."""

    @staticmethod
    def scores(rows: pd.DataFrame) -> dict[str, float]:
        """Return every score of the columns that `rows` wrote."""
        return tables.scores(rows)

    def reference_rows(self, data: WindowData, y: Array) -> Rows:
        """Write down the reference for n targets."""
        said = self.reference(data)
        return self.rows(np.broadcast_to(said, (len(y), *self._shape(y, said))), y)

    def _shape(self, y: Array, said: Array) -> tuple[int, ...]:
        return y.shape[1:]


class _Binary(Scoring):
    measure = MEASURES["binary"]

    def answer(self, raw: Array) -> Array:
        return expit(raw)

    def rows(self, answer: Array, y: Array) -> Rows:
        return _compared(tables.binary_columns(y, answer), self.measure.column)

    def reference(self, data: WindowData) -> Array:
        return np.asarray(data.base_rate)


class _Regression(Scoring):
    measure = MEASURES["regression"]

    def rows(self, answer: Array, y: Array) -> Rows:
        return _compared(tables.regression_columns(y, answer), self.measure.column)

    def reference(self, data: WindowData) -> Array:
        return data.targets_at("train").mean(dtype=np.float64)


class _Quantile(Scoring):
    """Written down and compared at the scored horizon; trained, and validated, on all of them."""

    measure = MEASURES["quantile"]

    def rows(self, answer: Array, y: Array) -> Rows:
        levels, at = self.spec.quantile_levels, self.spec.horizons.index(self.spec.horizon)
        by_horizon = [
            tables.quantile_columns(y[:, place], answer[:, place], levels) for place in range(y.shape[1])
        ]
        losses = np.mean([columns[self.measure.column] for columns in by_horizon], axis=0)
        return Rows(by_horizon[at], losses, tuple(by_horizon))

    def reference(self, data: WindowData) -> Array:
        y = data.targets_at("train").astype(np.float64)
        return np.quantile(y, self.spec.quantile_levels, axis=0).T

    def _shape(self, y: Array, said: Array) -> tuple[int, ...]:
        return said.shape


class _Forecast(Scoring):
    measure = MEASURES["forecast"]

    def rows(self, answer: Array, y: Array) -> Rows:
        return _compared(tables.error_columns(answer - y), self.measure.column)

    def reference(self, data: WindowData) -> Array:
        columns = np.array([data.spec.features.index(name) for name in data.spec.target_columns])
        return data.values[np.ix_(data.origins["train"], columns)].mean(axis=0, dtype=np.float64)


class _Classes(Scoring):
    """Written down column by column; trained weights of columns or classes do not enter."""

    measure = MEASURES["classes"]

    def answer(self, raw: Array) -> Array:
        blocks = class_blocks(raw, self.spec.n_classes)
        return np.concatenate([softmax(block, axis=1) for block in blocks], axis=1)

    def rows(self, answer: Array, y: Array) -> Rows:
        names, n_classes = self.spec.target_columns, self.spec.n_classes
        columns = tables.classes_columns(y, answer, names=names, n_classes=n_classes)
        return _compared(columns, self.measure.column)

    def reference(self, data: WindowData) -> Array:
        return data.class_rates

    def _shape(self, y: Array, said: Array) -> tuple[int, ...]:
        return said.shape


def _compared(columns: Columns, loss_name: str) -> Rows:
    """Rows whose trained loss is the one that is compared."""
    return Rows(columns, columns[loss_name])


SCORINGS: Final[dict[TaskKind, type[Scoring]]] = {
    "binary": _Binary,
    "regression": _Regression,
    "quantile": _Quantile,
    "forecast": _Forecast,
    "classes": _Classes,
}


def scoring_of(spec: WindowSpec) -> Scoring:
    """Return how answers to windows are scored."""
    return SCORINGS[parse_task(spec.task).kind](spec)
