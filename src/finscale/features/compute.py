"""Bars to features: compute, drop the warm-up once, and refuse anything that is not finite."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from finscale.core.errors import Fault, raise_faults
from finscale.core.hashing import content_hash
from finscale.features.catalogue import CATALOGUE, FeatureSpec, known_features

__all__ = ["FeatureTable", "compute_features", "data_hash", "warm_up_of"]


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Features of every bar on which all of them are defined.

    Attributes
    ----------
    frame : DataFrame
        float64, indexed by ``session``, one column per feature in the order asked for.
    n_warm_up : int
        First bars that were dropped.
    slowest : str
        The feature whose lookback decided that number.
    """

    frame: pd.DataFrame
    n_warm_up: int
    slowest: str


def compute_features(bars: pd.DataFrame, names: Sequence[str]) -> FeatureTable:
    """Compute the named features of validated bars.

    Raises
    ------
    FinscaleError
        When a feature is unknown, reads a column the bars lack, is not finite after the warm-up, or
        when the warm-up leaves no bar.
    """
    specs = known_features(names)
    n_warm_up, slowest = warm_up_of(bars, names)
    frame = pd.DataFrame({spec.name: spec.function(bars) for spec in specs}, index=bars.index)
    frame = frame.iloc[n_warm_up:]
    raise_faults(_not_finite(frame))
    return FeatureTable(frame=frame, n_warm_up=n_warm_up, slowest=slowest)


def warm_up_of(bars: pd.DataFrame, names: Sequence[str]) -> tuple[int, str]:
    """Return the rows that the named features lose at the start, and the feature that decides it.

    Raises
    ------
    FinscaleError
        When a feature is unknown, reads a column the bars lack, or when no bar would be left.
    """
    specs = known_features(names)
    _refuse_missing_columns(specs, bars)
    warm_ups = [spec.warm_up(pd.DatetimeIndex(bars.index)) for spec in specs]
    n_warm_up = max(warm_ups)
    slowest = specs[warm_ups.index(n_warm_up)].name
    if n_warm_up >= len(bars):
        remedy = f"give more bars, or a feature set without {slowest}"
        rule = f"have more rows than the warm-up of {slowest} ({n_warm_up})"
        raise Fault("bars", rule, f"{len(bars)} rows", remedy)
    return n_warm_up, slowest


def data_hash(bars: pd.DataFrame, names: Sequence[str]) -> str:
    """Return the identity of a feature table: the bars and the ordered feature list it comes from."""
    return content_hash(bars, list(names))


def _refuse_missing_columns(specs: Sequence[FeatureSpec], bars: pd.DataFrame) -> None:
    needy = [spec.name for spec in specs if not set(spec.reads) <= set(bars.columns)]
    if not needy:
        return
    missing = sorted({column for name in needy for column in CATALOGUE[name].reads} - set(bars.columns))
    rule = f"have the column {', '.join(missing)} that {', '.join(needy)} read"
    remedy = "use data that has it, or a feature set without these features"
    raise Fault("bars", rule, f"only {', '.join(bars.columns)}", remedy)


def _not_finite(frame: pd.DataFrame) -> list[Fault]:
    bad = ~np.isfinite(frame)
    return [
        Fault(
            f"feature {name}",
            "be finite after the warm-up",
            f"{bad[name].sum()} bad rows, the first on {frame.index[bad[name]][0].date()}",
            "look at these bars (no volume for weeks?), or leave the feature out",
        )
        for name in frame.columns
        if bad[name].any()
    ]
