"""What is drawn on a page of features: curves, distributions by split, and the bands of time behind them.

Letters: x and y are the axes of the feature over time, x2 and y2 of the price above it, x3 the shares of its
distribution at the right, on the same y.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from finscale.reporting.feature_view import FeatureView, Stretch
from finscale.reporting.template import INK, MUTED, PALETTE
from finscale.reporting.thinning import kept_rows, rounded, time_strings

__all__ = [
    "GROUP_COLOURS",
    "SPLIT_COLOURS",
    "band_names",
    "bands",
    "closed_gaps",
    "curve",
    "distribution",
    "n_windows",
    "price_column",
    "price_curve",
]

SPLIT_COLOURS = {"train": PALETTE[0], "val_select": "#b07a00", "val_score": PALETTE[1], "test": PALETTE[2]}
GROUP_COLOURS = {"train": PALETTE[0], "validation": PALETTE[1], "test": PALETTE[2]}
_GROUPS = {"train": ("train",), "validation": ("val_select", "val_score"), "test": ("test",)}
_PANELS = (("x", "y"), ("x2", "y2"))
_N_BINS = 30
# Shares of the time axis: below the first a name stands upright, below the second a warm-up has none.
_NARROW, _THIN = 0.12, 0.02


def price_column(view: FeatureView) -> str:
    """Return what the upper panel shows: the close, or the last column of a table without one.

    The tables of the forecasting benchmarks keep their target last.
    """
    return "close" if "close" in view.bars.columns else str(view.bars.columns[-1])


def price_curve(view: FeatureView) -> go.Scatter:
    """Draw the upper panel's curve; it belongs to no feature, so no choice hides it."""
    column = price_column(view)
    return _line(view, view.bars[column], group="", width=1.3, xaxis="x2", yaxis="y2")


def curve(view: FeatureView, name: str) -> go.Scatter:
    """Draw one feature over time."""
    return _line(view, view.features[name], group=name, width=1.1, xaxis="x", yaxis="y")


def _line(
    view: FeatureView, series: pd.Series, *, group: str, width: float, xaxis: str, yaxis: str
) -> go.Scatter:
    values = series.to_numpy(dtype=np.float64)
    rows = kept_rows(values)
    times = series.index.to_numpy(dtype="datetime64[ns]")[rows]
    # nothing is drawn through months without a bar
    gaps = np.searchsorted(times, [last for last, _ in view.interruptions], side="right")
    x, y = time_strings(times), rounded(values[rows], span=float(np.ptp(values)))
    for gap in reversed(gaps[(gaps > 0) & (gaps < len(times))]):
        x[gap:gap], y[gap:gap] = [x[gap]], [None]
    return go.Scatter(
        x=x,
        y=y,
        mode="lines",
        name=str(series.name),
        legendgroup=group,
        line={"color": INK, "width": width},
        hovertemplate=f"%{{x}}<br>{series.name} %{{y}}<extra></extra>",
        xaxis=xaxis,
        yaxis=yaxis,
    )


def distribution(view: FeatureView, name: str) -> list[go.Scatter]:
    """Draw the share of a split's windows in each of 30 steps of the feature, the same for every split."""
    values = view.features[name].to_numpy(dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    edges = np.linspace(low, high, _N_BINS + 1) if high > low else np.array([low - 0.5, low + 0.5])
    rows = {group: _rows(view, group) for group in _GROUPS}
    return [
        _steps(np.histogram(values[at], edges)[0] / len(at), edges, name=name, group=group)
        for group, at in rows.items()
        if len(at)
    ]


def n_windows(view: FeatureView) -> dict[str, int]:
    """Count the windows behind each distribution, without those that have none."""
    counts = {group: len(_rows(view, group)) for group in _GROUPS}
    return {group: n for group, n in counts.items() if n}


def _rows(view: FeatureView, group: str) -> NDArray[np.int64]:
    parts = [view.origins[split] for split in _GROUPS[group] if split in view.origins]
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])


def _steps(shares: NDArray[np.float64], edges: NDArray[np.float64], *, name: str, group: str) -> go.Scatter:
    colour = GROUP_COLOURS[group]
    return go.Scatter(
        x=[0.0, *np.round(shares, 5).tolist(), 0.0],
        y=rounded(np.append(edges, edges[-1]), span=float(np.ptp(edges))),
        mode="lines",
        name=group,
        legendgroup=name,
        line={"color": colour, "width": 1.4, "shape": "hv"},
        fill="tozerox",
        fillcolor=_faint(colour, 0.13),
        hovertemplate=f"{group}: %{{x:.1%}} of windows near %{{y}}<extra></extra>",
        xaxis="x3",
        yaxis="y",
    )


def bands(view: FeatureView) -> list[dict[str, Any]]:
    """Shade every stretch in both panels, from its first to its last row."""
    return [_band(stretch, x, y) for stretch in (*view.warm_ups, *view.splits) for x, y in _PANELS]


def closed_gaps(view: FeatureView) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Take the months without a bar out of the time axis: its settings, and a dotted line at each gap."""
    edges = [time_strings(np.array(gap)) for gap in view.interruptions]
    line = {"type": "line", "name": "gap", "line": {"color": MUTED, "width": 1, "dash": "dot"}}
    lines = [
        {**line, "xref": x, "yref": f"{y} domain", "x0": last, "x1": last, "y0": 0, "y1": 1}
        for last, _ in edges
        for x, y in _PANELS
    ]
    breaks = [{"bounds": [last, first]} for last, first in edges]
    return ({"rangebreaks": breaks, **_ticks(view)} if edges else {}), lines


def _ticks(view: FeatureView) -> dict[str, Any]:
    """Date the first bar of each stretch; plotly would spread its ticks over the months left out too."""
    times = pd.DatetimeIndex([view.bars.index[0], *(first for _, first in view.interruptions)])
    texts = [str(day) for day in times.strftime("%Y-%m-%d")]
    return {"tickvals": time_strings(times.to_numpy(dtype="datetime64[ns]")), "ticktext": texts}


def _band(stretch: Stretch, x: str, y: str) -> dict[str, Any]:
    first, last = _ends(stretch)
    colour = _faint(SPLIT_COLOURS.get(stretch.name, MUTED), 0.14)
    look = {"type": "rect", "layer": "below", "line": {"width": 0}, "fillcolor": colour}
    place = {"xref": x, "yref": f"{y} domain", "x0": first, "x1": last, "y0": 0, "y1": 1}
    return {"name": stretch.name, **look, **place}


def band_names(view: FeatureView) -> list[dict[str, Any]]:
    """Name every band, upright where it is narrow, a warm-up only where there is room; the hover dates it."""
    warm_ups = [stretch for stretch in view.warm_ups if view.shown_share(stretch) > _THIN]
    return [
        _name(stretch, narrow=view.shown_share(stretch) < _NARROW) for stretch in (*warm_ups, *view.splits)
    ]


def _name(stretch: Stretch, *, narrow: bool) -> dict[str, Any]:
    first, last = _ends(stretch)
    unit = "windows" if stretch.name in SPLIT_COLOURS else "bars"
    middle = time_strings(np.array([stretch.first + (stretch.last - stretch.first) // 2]))[0]
    return {
        "text": stretch.name,
        "hovertext": f"{stretch.name}: {stretch.n_rows:,} {unit}, {first} to {last}",
        "font": {"size": 11, "color": SPLIT_COLOURS.get(stretch.name, MUTED)},
        "textangle": -90 if narrow else 0,
        "showarrow": False,
        "x": middle,
        "xref": "x2",
        "y": 0,
        "yref": "y2 domain",
        "yanchor": "bottom",
    }


def _ends(stretch: Stretch) -> Sequence[str]:
    return time_strings(np.array([stretch.first, stretch.last]))


def _faint(colour: str, alpha: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"
