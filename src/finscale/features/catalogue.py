"""The catalogue of features: one row each; a feature set is a list of their names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd

from finscale.core.errors import Fault, raise_faults, suggest
from finscale.features import indicators as ta
from finscale.features.bars import BAR_COLUMNS

__all__ = ["CATALOGUE", "FeatureSpec", "feature_names", "known_features"]


@dataclass(frozen=True)
class FeatureSpec:
    """One feature.

    Attributes
    ----------
    name : str
    function : callable
        From the bars to a float64 vector (n_rows,) that at row t reads rows 0..t only.
    lookback : int
        Steps of ``clock`` before the first defined value (TA-Lib's convention: 14 for rsi_14).
    family, source : str
        What it measures; where it comes from.
    reads : tuple of str
        Columns of the bars it needs.
    clock : str
        ``bar``, or ``week`` for indicators of completed weeks.
    """

    name: str
    function: ta.Indicator
    lookback: int
    family: str
    source: str
    reads: tuple[str, ...] = ("close",)
    clock: Literal["bar", "week"] = "bar"

    def warm_up(self, sessions: pd.DatetimeIndex) -> int:
        """Return how many of these sessions come before the first defined value."""
        if self.clock == "bar":
            return min(self.lookback, len(sessions))
        return int(np.searchsorted(ta.week_numbers(sessions), self.lookback + 1))


def _column(name: str) -> FeatureSpec:
    family = "volume" if name == "volume" else "price"
    return FeatureSpec(name, partial(ta.bar_column, column=name), 0, family, "the bar itself", (name,))


def _dema(period: int) -> FeatureSpec:
    return FeatureSpec(
        f"dema_{period}", partial(ta.dema, period=period), 2 * (period - 1), "trend", "Mulloy 1994"
    )


def _sma(period: int) -> FeatureSpec:
    return FeatureSpec(
        f"sma_{period}", partial(ta.sma, period=period), period - 1, "trend", "moving average of closes"
    )


_RSI = partial(ta.rsi, period=14)
_STOCHRSI = partial(ta.stochrsi, period=14, window=5)
_HLC = ("high", "low", "close")
_HLCV = (*_HLC, "volume")

_ROWS = (
    *(_column(name) for name in BAR_COLUMNS),
    *(_dema(period) for period in (9, 10, 20, 25, 90)),
    *(_sma(period) for period in (12, 50, 100, 200)),
    FeatureSpec("rsi_14", _RSI, 14, "momentum", "Wilder 1978"),
    FeatureSpec(
        "rsi_14_weekly",
        partial(ta.on_completed_weeks, indicator=_RSI),
        14,
        "momentum",
        "Wilder 1978, on completed weeks",
        clock="week",
    ),
    FeatureSpec("stochrsi", _STOCHRSI, 18, "momentum", "Chande and Kroll 1994, %K of RSI 14 over 5"),
    FeatureSpec(
        "stochrsi_weekly",
        partial(ta.on_completed_weeks, indicator=_STOCHRSI),
        18,
        "momentum",
        "Chande and Kroll 1994, on completed weeks",
        clock="week",
    ),
    FeatureSpec("macd_line", partial(ta.macd_line, fast=12, slow=26), 25, "trend", "Appel 1979"),
    FeatureSpec("obv", ta.obv, 0, "volume", "Granville 1963", ("close", "volume")),
    FeatureSpec("adosc", partial(ta.adosc, fast=3, slow=10), 9, "volume", "Chaikin", _HLCV),
    FeatureSpec("atr_14", partial(ta.atr, period=14), 14, "volatility", "Wilder 1978", _HLC),
    FeatureSpec("adx_14", partial(ta.adx, period=14), 27, "trend", "Wilder 1978", _HLC),
    FeatureSpec(
        "bb_percent_b", partial(ta.bb_percent_b, period=20, n_sigma=2.0), 19, "volatility", "Bollinger 2001"
    ),
    FeatureSpec("vwap_20", partial(ta.vwap, period=20), 19, "volume", "volume-weighted typical price", _HLCV),
)

CATALOGUE: dict[str, FeatureSpec] = {row.name: row for row in _ROWS}


def known_features(names: Sequence[str]) -> tuple[FeatureSpec, ...]:
    """Look up features by name, in order.

    Raises
    ------
    FinscaleError
        For an empty list, repeated names, and every unknown name with its nearest match.
    """
    if not names:
        raise Fault("feature_set", "name at least one feature", list(names), "try feature_set: a25")
    faults = [
        Fault("feature", "be in the catalogue", name, suggest(name, CATALOGUE))
        for name in names
        if name not in CATALOGUE
    ]
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    if repeated:
        faults.append(Fault("feature_set", "name each feature once", repeated, "remove the repeats"))
    raise_faults(faults)
    return tuple(CATALOGUE[name] for name in names)


def feature_names(feature_sets: Mapping[str, Sequence[str]], feature_set: str) -> tuple[str, ...]:
    """Return the features of a named set, each of them known.

    Raises
    ------
    FinscaleError
        For an unknown set or an unknown feature in it.
    """
    if feature_set not in feature_sets:
        remedy = suggest(feature_set, feature_sets)
        raise Fault("data.feature_set", "be a set listed under feature_sets", feature_set, remedy)
    return tuple(spec.name for spec in known_features(feature_sets[feature_set]))
