"""What a model has said at every origin, and how good it was, by the kind of the task. No torch.

n origins, y targets and a answers in float64; H trained horizons, Q levels, h steps, C target columns.
The columns are those of `finscale.windows.baselines.baseline_table`, so that models and baselines compare.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from finscale.metrics import classification, probabilistic, regression
from finscale.metrics.probabilistic import quantile_level, quantile_name
from finscale.windows.data import WindowData
from finscale.windows.spec import WindowSpec
from finscale.windows.tasks import TaskKind, parse_task

__all__ = ["SCORINGS", "Rows", "Scoring", "join_rows", "scoring_of"]

Array = NDArray[np.float64]
Vector = NDArray[np.float64]

_QUANTILE = re.compile(r"q\d+(\.\d+)?")


@dataclass(frozen=True, eq=False)
class Rows:
    """One row per origin.

    Attributes
    ----------
    columns : dict of float64 array (n,)
        What is written down: forecast, target and the loss that is compared, see `Scoring.loss_name`.
    loss : float64 array (n,)
        The loss that is trained; of quantiles the mean over all horizons, of every other kind that column.
    """

    columns: dict[str, Vector]
    loss: Vector

    @property
    def value(self) -> float:
        """The mean trained loss: what chooses the best epoch."""
        return float(self.loss.mean())


def join_rows(parts: Sequence[Rows]) -> Rows:
    """Lay the rows of consecutive origins end to end."""
    names = parts[0].columns
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in names}
    return Rows(columns, np.concatenate([part.loss for part in parts]))


class Scoring(ABC):
    """How answers to a task of one kind are written down and scored.

    Parameters
    ----------
    spec : WindowSpec
        Of the windows that are answered.

    Attributes
    ----------
    loss_name : str
        The column, and the score, that runs are compared by.
    score_names : tuple of str
        Further scores that belong in a table of runs; NaN where there is none.
    """

    loss_name: ClassVar[str]
    score_names: ClassVar[tuple[str, ...]]

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
    @abstractmethod
    def scores(rows: pd.DataFrame) -> dict[str, float]:
        """Return every score of the columns that `rows` wrote."""

    def reference_rows(self, data: WindowData, y: Array) -> Rows:
        """Write down the reference for n targets."""
        said = self.reference(data)
        return self.rows(np.broadcast_to(said, (len(y), *self._shape(y, said))), y)

    def _shape(self, y: Array, said: Array) -> tuple[int, ...]:
        return y.shape[1:]


class _Binary(Scoring):
    loss_name = "log_loss"
    score_names = ("auc", "brier", "ece")

    def answer(self, raw: Array) -> Array:
        return expit(raw)

    def rows(self, answer: Array, y: Array) -> Rows:
        losses = classification.log_loss_rows(y, answer)
        return Rows({"probability": answer, "target": y, "log_loss": losses}, losses)

    def reference(self, data: WindowData) -> Array:
        return np.asarray(data.base_rate)

    @staticmethod
    def scores(rows: pd.DataFrame) -> dict[str, float]:
        return classification.scores(rows["target"], rows["probability"])


class _Regression(Scoring):
    loss_name = "squared_error"
    score_names = ("absolute_error", "bias", "correlation")

    def rows(self, answer: Array, y: Array) -> Rows:
        losses = regression.squared_error_rows(y, answer)
        return Rows({"prediction": answer, "target": y, "squared_error": losses}, losses)

    def reference(self, data: WindowData) -> Array:
        return data.targets_at("train").mean(dtype=np.float64)

    @staticmethod
    def scores(rows: pd.DataFrame) -> dict[str, float]:
        return regression.scores(rows["target"], rows["prediction"])


class _Quantile(Scoring):
    """Written down and compared at the scored horizon; trained, and validated, on all of them."""

    loss_name = "pinball_loss"
    score_names = (
        "crps",
        *(f"{what}_{share}" for share in probabilistic.INTERVALS for what in ("coverage", "width")),
    )

    def rows(self, answer: Array, y: Array) -> Rows:
        levels, at = self.spec.quantile_levels, self.spec.horizons.index(self.spec.horizon)
        by_horizon = [
            probabilistic.pinball_rows(y[:, place], answer[:, place], levels).mean(axis=1)
            for place in range(y.shape[1])
        ]
        named = {quantile_name(tau): answer[:, at, place] for place, tau in enumerate(levels)}
        columns = {**named, "target": y[:, at], "pinball_loss": by_horizon[at]}
        return Rows(columns, np.mean(by_horizon, axis=0))

    def reference(self, data: WindowData) -> Array:
        y = data.targets_at("train").astype(np.float64)
        return np.quantile(y, self.spec.quantile_levels, axis=0).T

    def _shape(self, y: Array, said: Array) -> tuple[int, ...]:
        return said.shape

    @staticmethod
    def scores(rows: pd.DataFrame) -> dict[str, float]:
        names = [name for name in rows.columns if _QUANTILE.fullmatch(name)]
        levels = [quantile_level(name) for name in names]
        return probabilistic.scores(rows["target"], rows[names].to_numpy(), levels)


class _Forecast(Scoring):
    """Only errors are kept: the h x C numbers of every origin would outgrow the windows."""

    loss_name = "squared_error"
    score_names = ("absolute_error",)

    def rows(self, answer: Array, y: Array) -> Rows:
        errors = answer - y
        squared, absolute = np.square(errors).mean(axis=(1, 2)), np.abs(errors).mean(axis=(1, 2))
        return Rows({"squared_error": squared, "absolute_error": absolute}, squared)

    def reference(self, data: WindowData) -> Array:
        columns = np.array([data.spec.features.index(name) for name in data.spec.target_columns])
        return data.values[np.ix_(data.origins["train"], columns)].mean(axis=0, dtype=np.float64)

    @staticmethod
    def scores(rows: pd.DataFrame) -> dict[str, float]:
        losses = {name: float(rows[name].mean()) for name in ("squared_error", "absolute_error")}
        return {**losses, "n": float(len(rows))}


SCORINGS: Final[dict[TaskKind, type[Scoring]]] = {
    "binary": _Binary,
    "regression": _Regression,
    "quantile": _Quantile,
    "forecast": _Forecast,
}


def scoring_of(spec: WindowSpec) -> Scoring:
    """Return how answers to windows are scored."""
    return SCORINGS[parse_task(spec.task).kind](spec)
