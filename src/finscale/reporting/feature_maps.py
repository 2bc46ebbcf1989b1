"""Two maps of the features: which move together, and what a model sees at one origin."""

from itertools import groupby

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from finscale.reporting.chart import blank
from finscale.reporting.families import FeatureLabel, by_family
from finscale.reporting.template import INK
from finscale.windows.data import WindowData

__all__ = ["correlation_figure", "window_figure"]

# Both ends of the palette around a ground that is pale on white and on dark.
_DIVERGING = [[0, "#0072b2"], [0.25, "#7fb8d8"], [0.5, "#f4f5f7"], [0.75, "#eaae7f"], [1, "#d55e00"]]
_MAX_ROWS = 20_000
_N_SIGMA = 3.0


def correlation_figure(features: pd.DataFrame) -> go.Figure:
    """Draw the rank correlations of the features, ordered by family.

    Parameters
    ----------
    features : DataFrame
        One column per feature. At most 20,000 evenly spaced rows are read.
    """
    labels = by_family([str(name) for name in features.columns])
    names = [label.name for label in labels]
    thinned = features.iloc[:: -(-len(features) // _MAX_ROWS)]
    correlations = thinned[names].corr(method="spearman").to_numpy().round(3)
    figure = blank(
        "Which features move together",
        x="",
        y="",
        caption="Spearman's rank correlation over all rows, features in the order of their families. A block "
        "of one colour is one piece of information told many times. Levels that rise with the market all "
        "correlate; that says little of their changes.",
        height=150 + 17 * len(names),
    )
    figure.add_trace(_map(correlations, x=names, y=names, limit=1.0, hover="%{y} and %{x}: %{z:.2f}"))
    _add_families(figure, labels)
    figure.update_xaxes(tickangle=-90, **_LIST)
    figure.update_yaxes(autorange="reversed", **_LIST)
    return figure.update_layout(margin={"l": 90, "t": 64, "r": 80, "b": 90}, title_pad_l=12)


def _add_families(figure: go.Figure, labels: tuple[FeatureLabel, ...]) -> None:
    """Name each family at the right of its rows, and rule it off from the next."""
    families = [label.family for label in labels]
    side = {"x": 1, "xref": "x domain", "xanchor": "left", "xshift": 4, "showarrow": False}
    for family, rows in groupby(range(len(families)), key=families.__getitem__):
        first, *_, last = [*rows] * 2
        figure.add_annotation(text=family, y=(first + last) / 2, font={"size": 11, "color": INK}, **side)
        if first > 0:
            rule = {"type": "line", "line": {"color": INK, "width": 0.8}}
            figure.add_shape(**rule, x0=first - 0.5, x1=first - 0.5, y0=0, y1=1, yref="y domain")
            figure.add_shape(**rule, y0=first - 0.5, y1=first - 0.5, x0=0, x1=1, xref="x domain")


def window_figure(windows: WindowData, origin: int) -> go.Figure:
    """Draw the standardised values (T, F) that a model reads at one origin, and the label it is asked for.

    Parameters
    ----------
    windows : WindowData
    origin : int
        Row at which the window ends; steps that it may not show are left blank.
    """
    spec = windows.spec
    labels = by_family(spec.features)
    rows = np.arange(origin - spec.context_length + 1, origin + 1)
    shown = rows >= windows.context_starts[origin]
    columns = [spec.features.index(label.name) for label in labels]
    values = windows.values[np.maximum(rows, 0)][:, columns].astype(np.float64)
    values[~shown] = np.nan
    figure = blank(
        f"What the model sees at {_instant(windows, origin)}<br>{_asked(windows, origin)}",
        x="bars before the origin",
        y="",
        caption=f"One window, {spec.context_length} bars of {len(labels)} features, standardised by the mean "
        f"and deviation of training; colours end at {_N_SIGMA:g} deviations. Nothing right of 0 is known.",
        height=170 + 17 * len(labels),
    )
    steps = (rows - origin).tolist()
    names = [label.name for label in labels]
    hover = "%{y}, %{x} bars: %{z:.2f} deviations"
    figure.add_trace(_map(values.T.round(3), x=steps, y=names, limit=_N_SIGMA, hover=hover))
    figure.update_yaxes(autorange="reversed", **_LIST)
    return figure.update_layout(margin={"l": 90, "t": 96}, title_pad_l=12)


_LIST = {"tickmode": "linear", "showgrid": False, "tickfont": {"size": 10}}


def _map(
    values: np.ndarray, *, x: list[int] | list[str], y: list[str], limit: float, hover: str
) -> go.Heatmap:
    bar = {"orientation": "h", "thickness": 8, "outlinewidth": 0, "len": 0.35, "tickvals": [-limit, 0, limit]}
    bar |= {"x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom", "tickfont": {"size": 10}}
    colours = {"colorscale": _DIVERGING, "zmin": -limit, "zmax": limit, "colorbar": bar}
    cells = [[None if np.isnan(value) else float(value) for value in row] for row in values]
    return go.Heatmap(z=cells, x=x, y=y, hovertemplate=f"{hover}<extra></extra>", **colours)


def _instant(windows: WindowData, origin: int) -> str:
    written = pd.Timestamp(windows.dates[origin])
    time = written.strftime("%Y-%m-%d" if written == written.normalize() else "%Y-%m-%d %H:%M UTC")
    names = windows.spec.instruments
    return f"{time} ({names[windows.instruments[origin]]})" if len(names) > 1 else time


def _asked(windows: WindowData, origin: int) -> str:
    """Tell the task and its answer; a forecast's answer is the rows that follow."""
    spec = windows.spec
    values = ", ".join(f"{value:g}" for value in np.atleast_1d(windows.targets[origin]).round(3))
    bars = "bar" if spec.horizon == 1 else "bars"
    return f"{spec.task}, {spec.horizon} {bars} ahead" + (f": {values}" if values else "")
