"""What a model predicts: one frozen record per head, joined in a tagged union. No torch here.

B batch, C classes or forecast channels, H horizons, Q quantile levels, X values the head reads.
"""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from finscale.core.config import Record
from finscale.core.errors import Fault, raise_faults

__all__ = [
    "ClassesHead",
    "ForecastHead",
    "HeadConfig",
    "LogitsHead",
    "QuantileHead",
    "RegressionHead",
    "head_width",
]

Level = Annotated[float, Field(gt=0, lt=1)]
NClasses = Annotated[int, Field(ge=2)]


class LogitsHead(Record):
    """``logits`` (B, C): C is the ``n_outputs`` of the model, 1 for a binary target."""

    kind: Literal["logits"] = "logits"


class ClassesHead(Record):
    """``classes`` (B, sum of C): the logits of several target columns side by side.

    Parameters
    ----------
    n_classes : tuple of int
        C of each target column, in order.
    """

    kind: Literal["classes"] = "classes"
    n_classes: Annotated[tuple[NClasses, ...], Field(min_length=1)]


class RegressionHead(Record):
    """``regression`` (B,): one number per window."""

    kind: Literal["regression"] = "regression"


class QuantileHead(Record):
    """``quantiles`` (B, H, Q) that never cross.

    Parameters
    ----------
    horizons : tuple of int
        Bars ahead, increasing.
    levels : tuple of float
        Quantile levels in (0, 1), increasing.
    """

    kind: Literal["quantiles"] = "quantiles"
    horizons: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    levels: Annotated[tuple[Level, ...], Field(min_length=1)] = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        named = {"head.horizons": self.horizons, "head.levels": self.levels}
        raise_faults([Fault(name, "increase", row) for name, row in named.items() if not _increases(row)])
        return self


class ForecastHead(Record):
    """``forecast`` (B, H, C): the next ``horizon`` bars of C channels.

    Parameters
    ----------
    horizon : int
        H, bars ahead.
    n_channels : int
        C, the columns that are forecast.
    columns : tuple of int or None
        Their places among the F features; all F in order when absent. Only a model that ties a forecast to
        its column's own past needs them (independent channels, instance_norm, dlinear, naive).
    """

    kind: Literal["forecast"] = "forecast"
    horizon: PositiveInt
    n_channels: PositiveInt
    columns: tuple[NonNegativeInt, ...] | None = None

    @model_validator(mode="after")
    def _columns_are_the_channels(self) -> Self:
        if self.columns is None:
            return self
        if len(self.columns) != self.n_channels or len(set(self.columns)) != self.n_channels:
            got = f"columns={list(self.columns)}, n_channels={self.n_channels}"
            raise Fault("head.columns", "name n_channels different features", got)
        return self

    def columns_of(self, n_features: int) -> tuple[int, ...]:
        """Return the place of every forecast channel among ``n_features``.

        Raises
        ------
        Fault
            When a column does not exist, or none are named and C is not F.
        """
        if self.columns is None and self.n_channels != n_features:
            got = f"n_channels={self.n_channels}, F={n_features}"
            raise Fault("head.n_channels", "be F unless head.columns are named", got, "name the columns")
        if self.columns is not None and max(self.columns) >= n_features:
            raise Fault("head.columns", f"be below F={n_features}", list(self.columns))
        return tuple(range(n_features)) if self.columns is None else self.columns


HeadConfig = Annotated[
    LogitsHead | ClassesHead | RegressionHead | QuantileHead | ForecastHead, Field(discriminator="kind")
]


def head_width(head: HeadConfig, *, n_outputs: int = 1) -> int:
    """Return how many numbers a head gives per window: the width of its last linear map.

    Raises
    ------
    Fault
        When ``n_outputs``, the classes of a logits head, is set for another head.

    Examples
    --------
    >>> head_width(QuantileHead(horizons=(3, 6), levels=(0.1, 0.5, 0.9)))
    6
    """
    if isinstance(head, LogitsHead):
        return n_outputs
    if n_outputs != 1:
        raise Fault("n_outputs", f"be left out under head.kind={head.kind}", n_outputs, "remove it")
    if isinstance(head, ClassesHead):
        return sum(head.n_classes)
    if isinstance(head, QuantileHead):
        return len(head.horizons) * len(head.levels)
    return head.horizon * head.n_channels if isinstance(head, ForecastHead) else 1


def _increases(row: tuple[float, ...]) -> bool:
    return all(low < high for low, high in pairwise(row))
