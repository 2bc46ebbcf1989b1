"""The features of an experiment to look at: one at a time over the years, and all of them by their drift."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from finscale.features.drift import DRIFT_LIMITS
from finscale.reporting import feature_marks as marks
from finscale.reporting.chart import blank
from finscale.reporting.families import FeatureLabel, by_family
from finscale.reporting.feature_view import FeatureView, feature_view
from finscale.reporting.template import INK, MUTED

__all__ = ["drift_figure", "feature_page"]

# These read on white and on kedro viz's dark ground; a menu brings its own ground, so its ink stays.
_GRID, _EDGE = "rgba(128,136,148,0.18)", "rgba(128,136,148,0.55)"
_MENU_GROUND, _MENU_INK = "#f6f8fa", "#2b3544"
_TOP, _BOTTOM, _LEFT, _RIGHT = [0.6, 1.0], [0.0, 0.44], [0.0, 0.77], [0.8, 1.0]
_TITLE_WIDTH = 46
_LEAST_PSI = 0.01


def feature_page(
    features: pd.DataFrame,
    bars: pd.DataFrame,
    origins: Mapping[str, NDArray[np.int64]],
    *,
    title: str,
    instrument: str | None = None,
) -> go.Figure:
    """Draw the close and, below it, the feature chosen in a menu, with its distribution by split.

    Parameters
    ----------
    features : DataFrame
        One column per feature, the warm-up dropped.
    bars : DataFrame
        The bars they were computed from; a table without ``close`` shows its last column on top.
    origins : mapping of int64 array
        Rows of ``features`` at which windows end, by split (``WindowData.origins``).
    title : str
        Of the experiment.
    instrument : str, optional
        Of a panel; the first where none is named.

    Returns
    -------
    Figure
        Self-contained; ``layout.meta`` holds ``caption`` and ``note``.

    Raises
    ------
    Fault
        For an instrument that the panel does not have.
    """
    view = feature_view(features, bars, origins, instrument=instrument)
    labels = by_family([str(name) for name in features.columns])
    shown = next((i for i, label in enumerate(labels) if label.family != "price"), 0)
    figure = _empty_page(view, title)
    figure.add_trace(marks.price_curve(view))
    for i, label in enumerate(labels):
        traces = [marks.curve(view, label.name), *marks.distribution(view, label.name)]
        figure.add_traces([trace.update(visible=i == shown) for trace in traces])
    notes = [_about(labels[shown]), _counts(view), *marks.band_names(view)]
    without_gaps, gaps = marks.closed_gaps(view)
    figure.update_layout(shapes=[*marks.bands(view), *gaps], annotations=notes)
    figure.update_xaxes(**without_gaps, selector={"type": "date"})
    return figure.update_layout(updatemenus=[_menu(figure, labels, shown)])


def _empty_page(view: FeatureView, title: str) -> go.Figure:
    lines = textwrap.wrap(f"{title}: {view.instrument}" if view.instrument else title, _TITLE_WIDTH)
    figure = blank(
        "<br>".join(lines),
        x="",
        y="",
        caption="Top: the close on a log axis. Below: the feature that the menu names, and at its right the "
        "share of windows by value in training, validation and test. Shaded: the splits, from the first to "
        "the last window; grey: the warm-up, where the slowest feature is not defined yet; dotted: months "
        "without a bar, left out. A feature whose validation or test lies where training never was asks the "
        "model to extrapolate.",
        note=f"Instrument {view.instrument} of a panel." if view.instrument else "",
        height=560,
    )
    margin = {"l": 52, "r": 12, "t": 32 + 19 * len(lines), "b": 40}
    return figure.update_layout(showlegend=False, title_pad_l=12, margin=margin, **_axes(view))


def _axes(view: FeatureView) -> dict[str, Any]:
    """Lay the panels out; kedro viz writes its look over x and y, so these are the ones with the dates."""
    price = marks.price_column(view)
    times = pd.DatetimeIndex(view.bars.index)
    at_midnight = bool((times == times.normalize()).all())
    return {
        "xaxis": _axis(domain=_LEFT, type="date", title_text="" if at_midnight else "UTC"),
        "yaxis": _axis(domain=_BOTTOM, minexponent=5),
        "xaxis2": _axis(domain=_LEFT, anchor="y2", type="date", matches="x", showticklabels=False),
        "yaxis2": _axis(
            domain=_TOP, anchor="x2", title_text=price, type="log" if price == "close" else "linear"
        ),
        "xaxis3": _axis(
            domain=_RIGHT, tickformat=".0%", nticks=3, tickangle=0, tickfont_size=10, rangemode="tozero"
        ),
    }


def _axis(**settings: Any) -> dict[str, Any]:
    ticks = {"nticks": 6, "tickfont_size": 11, "tickcolor": _EDGE}
    return {"gridcolor": _GRID, "linecolor": _EDGE, **ticks, **settings}


def _about(label: FeatureLabel) -> dict[str, Any]:
    """Tell the source and lookback of the feature shown; always the first annotation."""
    return _text(label.line, x=0, y=_BOTTOM[1], anchors=("left", "bottom"), yshift=3)


def _counts(view: FeatureView) -> dict[str, Any]:
    """Count the windows of each distribution in its colour: the legend of the panel below."""
    lines = [
        f'<span style="color:{marks.GROUP_COLOURS[group]}">{group} {n:,}</span>'
        for group, n in marks.n_windows(view).items()
    ]
    text = "<br>".join(["windows", *lines])
    return _text(text, x=1, y=1, anchors=("right", "top"), align="right")


def _text(text: str, *, x: float, y: float, anchors: tuple[str, str], **more: Any) -> dict[str, Any]:
    place = {"xref": "paper", "yref": "paper", "x": x, "y": y, "xanchor": anchors[0], "yanchor": anchors[1]}
    return {"text": text, "showarrow": False, "font": {"size": 11, "color": INK}, **place, **more}


def _menu(figure: go.Figure, labels: Sequence[FeatureLabel], shown: int) -> dict[str, Any]:
    groups = [trace.legendgroup for trace in figure.data]
    buttons = [
        {
            "label": label.entry,
            "method": "update",
            "args": [
                {"visible": [group in {"", label.name} for group in groups]},
                {"annotations[0].text": label.line},
            ],
        }
        for label in labels
    ]
    place = {"x": 0, "xanchor": "left", "y": _TOP[0] - 0.015, "yanchor": "top", "direction": "down"}
    look = {"bgcolor": _MENU_GROUND, "bordercolor": _EDGE, "font": {"size": 11, "color": _MENU_INK}}
    return {"buttons": buttons, "active": shown, "showactive": True, **place, **look}


def drift_figure(report: pd.DataFrame) -> go.Figure:
    """Draw every feature's population stability index in each later split, the most drifted on top.

    Parameters
    ----------
    report : DataFrame
        Of `finscale.features.drift.drift_report`: feature, split, psi, ks, drift.
    """
    worst = report.groupby("feature", sort=False)["psi"].max().sort_values(kind="stable")
    figure = blank(
        "Drift of the features since training",
        x="population stability index (log scale)",
        y="",
        caption="How far each feature's distribution in validation and test lies from that of training. "
        "Lines at 0.1 and 0.25 separate stable, moderate and large drift. Levels of a rising market drift "
        "by construction; a ratio that does deserves a look.",
        note=f"Values below {_LEAST_PSI} are drawn there.",
        height=150 + 18 * len(worst),
    )
    figure.add_trace(_spans(report, worst.index))
    for split, rows in report.groupby("split", sort=False):
        figure.add_trace(_dots(str(split), rows))
    for _, limit in DRIFT_LIMITS:
        figure.add_vline(limit, line={"color": MUTED, "width": 1, "dash": "dot"}, layer="below")
        place = {"x": np.log10(limit), "y": 1, "yref": "paper", "yanchor": "bottom", "showarrow": False}
        figure.add_annotation(text=f"{limit:g}", font={"size": 11, "color": MUTED}, **place)
    return _drift_axes(figure, worst)


def _spans(report: pd.DataFrame, names: pd.Index) -> go.Scatter:
    """Join the dots of a feature."""
    drawn = report.assign(psi=report["psi"].clip(lower=_LEAST_PSI)).groupby("feature")["psi"]
    low, high = drawn.min(), drawn.max()
    return go.Scatter(
        x=[x for name in names for x in (low[name], high[name], None)],
        y=[y for name in names for y in (name, name, None)],
        mode="lines",
        line={"color": _EDGE, "width": 1.5},
        hoverinfo="skip",
        showlegend=False,
    )


def _dots(split: str, rows: pd.DataFrame) -> go.Scatter:
    return go.Scatter(
        x=rows["psi"].clip(lower=_LEAST_PSI).tolist(),
        y=rows["feature"].tolist(),
        mode="markers",
        name=split,
        marker={"size": 9, "color": marks.SPLIT_COLOURS.get(split, MUTED)},
        customdata=rows[["psi", "ks", "drift"]].to_numpy().tolist(),
        hovertemplate=f"%{{y}}, {split}: PSI %{{customdata[0]:.3f}}, KS %{{customdata[1]:.2f}}, "
        "%{customdata[2]} drift<extra></extra>",
    )


def _drift_axes(figure: go.Figure, worst: pd.Series) -> go.Figure:
    high = np.log10(max(worst.max(), 2 * DRIFT_LIMITS[-1][1]))
    low = np.log10(_LEAST_PSI)
    margin = 0.04 * (high - low)
    ticks = {
        "tickvals": [0.01, 0.03, 0.1, 0.3, 1, 3, 10],
        "ticktext": ["0.01", "0.03", "0.1", "0.3", "1", "3", "10"],
    }
    figure.update_xaxes(**_axis(type="log", range=[low - margin, high + margin], **ticks), showgrid=False)
    order = {"categoryorder": "array", "categoryarray": worst.index.tolist(), "tickmode": "linear"}
    figure.update_yaxes(**_axis(type="category", range=[-0.7, len(worst) - 0.3], **order))
    # the least drifted lie lowest, so this corner is free
    legend = {"orientation": "v", "x": 1, "xanchor": "right", "y": 0, "yanchor": "bottom"}
    return figure.update_layout(margin={"t": 72, "l": 90}, title_pad_l=12, legend=legend)
