"""Fans: what was forecast of the last test origins, and what happened."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from finscale.metrics.probabilistic import quantile_name
from finscale.reporting.chart import blank
from finscale.reporting.quantile_evidence import RAW, QuantileEvidence, interval_ends
from finscale.reporting.template import BAND, INK, PALETTE

__all__ = ["fan_chart"]

_MEDIAN = quantile_name(0.5)


def fan_chart(evidence: QuantileEvidence, *, horizon: int) -> go.Figure:
    """Draw the bands of the last test origins, in per cent of log return, against what happened."""
    own = evidence.stretch[evidence.stretch["horizon"] == horizon]
    judged = own[own["label"] == evidence.judged]
    ends = interval_ends(evidence.levels)
    widest = max(ends)
    figure = blank(
        f"Forecast and outcome, {horizon} bar{'' if horizon == 1 else 's'} ahead",
        x="origin",
        y="log return over the horizon (%)",
        caption=_caption(evidence, judged),
        note=_note(judged, widest, ends[widest]),
        height=340,
    )
    for percent in sorted(ends, reverse=True):
        for trace in _band(judged, ends[percent], percent):
            figure.add_trace(trace)
    if evidence.judged != RAW:
        for trace in _edges(own[own["label"] == RAW], ends[widest], widest):
            figure.add_trace(trace)
    if _MEDIAN in evidence.levels:
        line = {"color": PALETTE[0], "width": 1.5}
        figure.add_trace(_line(judged, _MEDIAN, name="median", line=line, mode="lines"))
    for trace in _outcomes(judged, ends[widest], widest):
        figure.add_trace(trace)
    return figure.update_xaxes(type="category", nticks=4, tickangle=0)


def _caption(evidence: QuantileEvidence, judged: pd.DataFrame) -> str:
    ends = interval_ends(evidence.levels)
    named = ", ".join(f"{percent}" for percent in sorted(ends))
    raw = "" if evidence.judged == RAW else f" Dashed: the raw ends of the {max(ends)} % band."
    return (
        f"Bands of {named} % ({evidence.judged} quantiles, one seed) for the last {len(judged)} test origins "
        "of one instrument, which no result chose; quantiles and outcomes times the trailing volatility at "
        f"the origin.{raw} A point stands at the origin of its forecast: neighbours over several bars share "
        "most of their outcome, so that they miss together."
    )


def _note(judged: pd.DataFrame, widest: int, ends: tuple[str, str]) -> str:
    inside = int(judged["target"].between(judged[ends[0]], judged[ends[1]]).sum())
    who = "".join(f" of {name}" for name in judged["instrument"].unique() if name)
    seed = f"seed {judged['seed'].iloc[0]}"
    return f"{inside} of {len(judged)} outcomes{who} lie inside the {widest} % band ({seed})."


def _band(judged: pd.DataFrame, ends: tuple[str, str], percent: int) -> tuple[go.Scatter, go.Scatter]:
    bare = {"mode": "lines", "line": {"width": 0}, "showlegend": False, "hoverinfo": "skip"}
    low = _line(judged, ends[0], name=f"{percent} % band", **bare)
    return low, _line(judged, ends[1], name=f"{percent} % band", fill="tonexty", fillcolor=BAND, **bare)


def _edges(raw: pd.DataFrame, ends: tuple[str, str], percent: int) -> tuple[go.Scatter, go.Scatter]:
    line = {"color": PALETTE[1], "width": 1, "dash": "dash"}
    low, high = (_line(raw, end, name=f"raw {percent} %", line=line, mode="lines") for end in ends)
    return low.update(showlegend=False), high


def _outcomes(judged: pd.DataFrame, ends: tuple[str, str], percent: int) -> tuple[go.Scatter, go.Scatter]:
    inside = judged["target"].between(judged[ends[0]], judged[ends[1]])
    found = []
    for is_in, colour, word in ((True, INK, "inside"), (False, PALETTE[1], "outside")):
        own = judged.assign(target=judged["target"].where(inside == is_in))
        marker = {"color": colour, "size": 5 if is_in else 7, "symbol": "circle" if is_in else "x"}
        found.append(_line(own, "target", name=f"{word} {percent} %", mode="markers", marker=marker))
    return found[0], found[1]


def _line(rows: pd.DataFrame, column: str, **style: object) -> go.Scatter:
    """One column in per cent of return, origin by origin."""
    return go.Scatter(x=_stamps(rows["at"]), y=100 * rows[column] * rows["volatility"], **style)


def _stamps(at: pd.Series) -> list[str]:
    """Days, and the time of day where a day has several origins."""
    stamps = pd.DatetimeIndex(at)
    is_daily = len(np.unique(stamps.normalize())) == len(stamps)
    return list(stamps.strftime("%Y-%m-%d" if is_daily else "%m-%d %H:%M"))
