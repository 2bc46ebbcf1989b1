"""Figures of forecast quantiles: against what happened, level by level, and by horizon and volatility.

Every number drawn is one of `finscale.reporting.quantile_evidence.QuantileEvidence`, or of the scores in it.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from finscale.metrics.probabilistic import N_PIT_BINS, quantile_level
from finscale.reporting.chart import blank
from finscale.reporting.quantile_evidence import ALL, CALIBRATED, RAW, REFERENCE, QuantileEvidence
from finscale.reporting.quantile_fan import fan_chart
from finscale.reporting.template import BAND, INK, MUTED, PALETTE
from finscale.windows.regimes import REGIMES

__all__ = ["quantile_figures"]

_STYLES = {
    RAW: {"color": PALETTE[1], "symbol": "diamond-open"},
    CALIBRATED: {"color": PALETTE[0], "symbol": "circle"},
    REFERENCE: {"color": MUTED, "symbol": "square-open"},
}
_DODGE = {RAW: -0.5, CALIBRATED: 0.0, REFERENCE: 0.5}
_Z = 1.96
_BARS = (
    "Bars: 95 %, by blocks of dates at least twice the horizon long, so that outcomes that overlap stay "
    "together; seeds are averaged first; no bar where there are fewer than four such blocks, or where all "
    "outcomes agree."
)


def quantile_figures(evidence: QuantileEvidence, *, name: str) -> dict[str, go.Figure]:
    """Return every figure of one cell, in reading order, under names that end on ``name`` and the horizon.

    Figures that need an interval or a second level are left out where the levels have none.
    """
    found: dict[str, go.Figure] = {}
    if evidence.intervals:
        found |= {f"quantile_fan_{name}_h{h}": fan_chart(evidence, horizon=h) for h in evidence.horizons}
    found |= {f"reliability_{name}_h{h}": _reliability(evidence, h) for h in evidence.horizons}
    if len(evidence.levels) > 1:
        found |= {f"pit_{name}_h{h}": _pit(evidence, h) for h in evidence.horizons}
    if evidence.intervals:
        found |= {f"coverage_{name}": _coverage(evidence), f"width_{name}": _width(evidence)}
        found |= {f"regimes_{name}_h{h}": _regimes(evidence, h) for h in evidence.horizons}
    return found


def _reliability(evidence: QuantileEvidence, horizon: int) -> go.Figure:
    figure = blank(
        f"Reliability, {_ahead(horizon)}",
        x="level (%)",
        y="share less level (points)",
        caption="Share of test outcomes at or below each forecast quantile, less its level: 0 is calibrated. "
        f"Above 0 at low levels and below it at high ones, intervals are too narrow. {_BARS}",
        height=320,
    )
    shares = evidence.of("share", horizon=horizon)
    figure.add_hline(0, line={"color": MUTED, "dash": "dot", "width": 1})
    for label, style in _shown(evidence).items():
        own = shares[shares["label"] == label]
        less = own[["value", "low", "high"]].sub(own["at"], axis=0).mul(100)
        x = 100 * own["at"] + 3 * _DODGE[label]
        figure.add_trace(_points(x, less, label, style, customdata=own["value"]))
    return figure.update_xaxes(range=[0, 100], dtick=25)


def _coverage(evidence: QuantileEvidence) -> go.Figure:
    table = evidence.of("coverage").assign(group=lambda rows: rows["horizon"])
    return _covered(
        evidence,
        table,
        evidence.horizons,
        title="Coverage by horizon",
        x="horizon (bars)",
        caption=f"Share of test outcomes inside the central intervals; dotted: what they name. {_BARS}",
    )


def _regimes(evidence: QuantileEvidence, horizon: int) -> go.Figure:
    tables = [evidence.of("coverage", horizon=horizon, regime=name).assign(group=name) for name in REGIMES]
    present = [name for name, table in zip(REGIMES, tables, strict=True) if len(table)]
    return _covered(
        evidence,
        pd.concat(tables, ignore_index=True),
        present,
        title=f"Coverage by volatility, {_ahead(horizon)}",
        x="trailing volatility at the origin, third of training",
        caption="Coverage of the central intervals by the volatility at the origin, in thirds whose borders "
        "training set: later rows may all be in one. Intervals that are right on average may miss where it "
        f"matters. {_BARS}",
    )


def _covered(
    evidence: QuantileEvidence,
    table: pd.DataFrame,
    groups: Sequence[object],
    *,
    title: str,
    x: str,
    caption: str,
) -> go.Figure:
    """Coverage of every interval, a place on the x axis per group."""
    figure = blank(title, x=x, y="coverage (%)", caption=caption, height=340)
    for percent in evidence.intervals:
        figure.add_hline(percent, line={"color": INK, "dash": "dot", "width": 1})
    places = {group: place for place, group in enumerate(groups)}
    for label, style in _shown(evidence).items():
        own = table[table["label"] == label]
        x_at = own["group"].map(places) + 0.28 * _DODGE[label]
        shares = own[["value", "low", "high"]].mul(100)
        figure.add_trace(_points(x_at, shares, label, style, customdata=own["at"]))
    ticks = {"tickvals": list(places.values()), "ticktext": list(map(str, groups))}
    figure.update_xaxes(**ticks, range=[-0.5, len(places) - 0.5])
    return figure.update_yaxes(tickvals=[*evidence.intervals, 0, 20, 100])


def _width(evidence: QuantileEvidence) -> go.Figure:
    figure = blank(
        "Width by horizon",
        x="horizon (bars)",
        y="mean width / √horizon (σ)",
        caption="Mean width of the central intervals over the root of the horizon, in σ, the trailing "
        "volatility of one bar; seeds' mean. Flat lines grow as a random walk spreads. Narrow is good only "
        "where the coverage beside it holds.",
        height=340,
    )
    scores = evidence.scores[evidence.scores["regime"] == ALL]
    places = {horizon: place for place, horizon in enumerate(evidence.horizons)}
    for label, style in _shown(evidence).items():
        own = scores[scores["label"] == label].groupby("horizon").mean(numeric_only=True)
        for i, percent in enumerate(evidence.intervals):
            y = own[f"width_{percent}"] / np.sqrt(own.index.to_numpy(dtype=float))
            x = np.array([places[horizon] for horizon in own.index]) + 0.28 * _DODGE[label]
            line = {"color": style["color"], "width": 1}
            trace = go.Scatter(x=x, y=y, mode="lines+markers", line=line, marker=_marker(style))
            figure.add_trace(trace.update(name=label, legendgroup=label, showlegend=i == 0))
            if label == evidence.judged:
                text = {"text": f"{percent} %", "font": {"color": MUTED, "size": 11}, "showarrow": False}
                figure.add_annotation(x=len(places) - 1, y=y.iloc[-1], xshift=90, **text)
    figure.update_xaxes(tickvals=list(places.values()), ticktext=list(map(str, places)))
    return figure.update_yaxes(rangemode="tozero").update_xaxes(range=[-0.5, len(places) - 0.3])


def _pit(evidence: QuantileEvidence, horizon: int) -> go.Figure:
    scores = evidence.scores
    own = scores[(scores["horizon"] == horizon) & (scores["regime"] == ALL)]
    mean = own.groupby("label").mean(numeric_only=True)
    n_apart, n_bins = evidence.n_apart[horizon], N_PIT_BINS
    figure = blank(
        f"PIT, {_ahead(horizon)}",
        x="forecast probability at or below the outcome",
        y="share over a calibrated one",
        caption="Probability integral transform, where outcomes fall in their own forecast: flat at 1 is "
        "calibrated, a U is too narrow, a hump too wide, a slope biased. Triangles: outcomes beyond the "
        "outermost quantiles, over the share these leave there. Band: 95 % of each bin, binomial, of a "
        "calibrated forecast over as many windows as do not overlap; that between two quantiles a forecast "
        "is read as a line moves a bin by a few per cent more.",
        note=_tail_note(evidence, mean, horizon),
        height=320,
    )
    half = _Z * np.sqrt((n_bins - 1) / n_apart)
    figure.add_hrect(max(0.0, 1 - half), 1 + half, fillcolor=BAND, line_width=0)
    figure.add_hline(1, line={"color": MUTED, "dash": "dot", "width": 1})
    bins = [f"pit_{number}" for number in range(n_bins)]
    edges = np.arange(n_bins + 1) / n_bins
    for label, style in _shown(evidence).items():
        shape = {"color": style["color"], "shape": "hv", "width": 2 if label == evidence.judged else 1}
        y = n_bins * mean.loc[label, [*bins, bins[-1]]].astype(float)
        figure.add_trace(go.Scatter(x=edges, y=y, line=shape, mode="lines", name=label))
        figure.add_trace(_tails(evidence, mean, label, style))
    highest = max(1 + half, *(max(trace.y) for trace in figure.data))
    return figure.update_yaxes(range=[0, 1.05 * highest]).update_xaxes(range=[-0.02, 1.02])


def _tail_shares(evidence: QuantileEvidence, mean: pd.DataFrame, label: str) -> list[tuple[float, float]]:
    """Both tails: the share of outcomes beyond the outermost quantile, and the share it leaves there."""
    low, high = (quantile_level(evidence.levels[end]) for end in (0, -1))
    shares = mean[["n_under", "n_over"]].div(mean["n"], axis=0).to_dict()
    return [(shares["n_under"][label], low), (shares["n_over"][label], 1 - high)]


def _tails(evidence: QuantileEvidence, mean: pd.DataFrame, label: str, style: dict[str, str]) -> go.Scatter:
    shares = _tail_shares(evidence, mean, label)
    marker = {"color": style["color"], "size": 9, "symbol": ["triangle-left", "triangle-right"]}
    y = [share / left for share, left in shares]
    return go.Scatter(x=[0.0, 1.0], y=y, mode="markers", marker=marker, name=label, showlegend=False)


def _tail_note(evidence: QuantileEvidence, mean: pd.DataFrame, horizon: int) -> str:
    tails = _tail_shares(evidence, mean, evidence.judged)
    said = [
        f"{100 * share:.1f} % of outcomes {side} {column} ({100 * left:g} % expected)"
        for (share, left), side, column in zip(
            tails, ("below", "above"), (evidence.levels[0], evidence.levels[-1]), strict=True
        )
    ]
    return f"{evidence.judged}: {'; '.join(said)}. {evidence.n_apart[horizon]} windows do not overlap."


def _points(
    x: pd.Series, ends: pd.DataFrame, label: str, style: dict[str, str], *, customdata: pd.Series
) -> go.Scatter:
    """Values with their intervals."""
    bars = {
        "symmetric": False,
        "array": ends["high"] - ends["value"],
        "arrayminus": ends["value"] - ends["low"],
        "thickness": 1,
        "width": 3,
    }
    return go.Scatter(
        x=x,
        y=ends["value"],
        error_y=bars,
        mode="markers",
        marker=_marker(style),
        name=label,
        customdata=customdata,
    )


def _marker(style: dict[str, str]) -> dict[str, object]:
    return {**style, "size": 7}


def _shown(evidence: QuantileEvidence) -> dict[str, dict[str, str]]:
    return {label: style for label, style in _STYLES.items() if label in evidence.labels}


def _ahead(horizon: int) -> str:
    return f"{horizon} bar{'' if horizon == 1 else 's'} ahead"
