"""Figures of a long-context evaluation: accuracy by length, by depth and by task."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from finscale.core.errors import Fault
from finscale.longcontext.rows import pool
from finscale.reporting.template import MUTED, PALETTE, TEMPLATE

__all__ = [
    "SHADES",
    "accuracy_against_length",
    "accuracy_by_depth",
    "accuracy_by_task",
    "finish",
    "mode_styles",
]

SHADES = [[0, "#eef3f8"], [0.5, PALETTE[0]], [1, "#08284a"]]
"""From 0 to 1, of every heat-map."""

_TITLES = {
    "needle": "needle: the key is written once",
    "latest": "latest: the last of several writes",
    "dense": "dense: every repeat of a key",
    "far": "far: every key is written once, and queried",
    "overwrite": "overwrite: half of the keys written again",
}
_DASHES = ("solid", "dash", "dot")
_ROW_HEIGHT, _CELL_HEIGHT = 330, 118


def mode_styles(modes: Sequence[str]) -> dict[str, dict[str, str]]:
    """Give each mode a colour, and a dash once the colours are used up.

    Raises
    ------
    Fault
        When there are more modes than that can tell apart.
    """
    most = len(PALETTE) * len(_DASHES)
    if len(modes) > most:
        raise Fault("modes", f"be at most {most} in one figure", len(modes), "draw fewer")
    return {
        mode: {"color": PALETTE[i % len(PALETTE)], "dash": _DASHES[i // len(PALETTE)]}
        for i, mode in enumerate(modes)
    }


def accuracy_against_length(
    rows: pd.DataFrame,
    *,
    title: str,
    chances: Mapping[str, float],
    longest_trained: int | None,
    provenance: str,
) -> go.Figure:
    """Return accuracy against sequence length, one panel per task and one line per mode.

    Parameters
    ----------
    rows : DataFrame
        One row per task, length, depth, mode and seed (`finscale.longcontext.rows`).
    title : str
        Of the experiment.
    chances : mapping
        By task, what guessing scores, where that is known.
    longest_trained : int or None
        Longest training sequence; all beyond it is length extrapolation.
    provenance : str
        Written under the figure.
    """
    tasks, styles = _unique(rows["task"]), mode_styles(_unique(rows["mode"]))
    n_columns, n_rows = min(2, len(tasks)), math.ceil(len(tasks) / 2)
    titles = [_TITLES.get(task, task) for task in tasks]
    figure = make_subplots(
        n_rows, n_columns, shared_yaxes=True, subplot_titles=titles, vertical_spacing=0.32 / n_rows
    )
    for i, task in enumerate(tasks):
        place, of_task = {"row": i // 2 + 1, "col": i % 2 + 1}, rows[rows["task"] == task]
        for mode, style in styles.items():
            for trace in _lines(of_task[of_task["mode"] == mode], mode, style, legend=i == 0):
                figure.add_trace(trace, **place)
        if task in chances:
            figure.add_hline(chances[task], line={"dash": "dot", "color": MUTED}, **place)
        if longest_trained is not None:
            figure.add_vline(longest_trained, line={"dash": "dash", "color": MUTED}, **place)
    _length_axes(figure, rows)
    figure.update_yaxes(range=[-0.02, 1.04])
    figure.update_yaxes(title="accuracy", col=1)
    caption = (
        "Accuracy over depths and seeds with 95 % Wilson intervals (error of sampling questions); "
        "faint points are single seeds. Dotted: chance. Dashed: longest training sequence."
    )
    size = {"height": 140 + _ROW_HEIGHT * n_rows}
    return finish(
        figure, title=f"{title}: accuracy against length", caption=caption, provenance=provenance, **size
    )


def accuracy_by_depth(rows: pd.DataFrame, *, title: str, provenance: str) -> go.Figure:
    """Return heat-maps of accuracy over length and depth: a row of them per mode, a column per task."""
    placed = rows[rows["depth"].notna()]
    tasks, modes = _unique(placed["task"]), _unique(placed["mode"])
    titles = [f"{mode}, {task}" for mode in modes for task in tasks]
    n_rows = max(1, len(modes))
    figure = make_subplots(
        n_rows,
        max(1, len(tasks)),
        shared_yaxes=True,
        shared_xaxes=True,
        subplot_titles=titles,
        vertical_spacing=min(0.2, 0.3 / n_rows),
    )
    pooled = pool(placed, ["task", "mode", "length", "depth"])
    for row, mode in enumerate(modes, start=1):
        for column, task in enumerate(tasks, start=1):
            own = pooled[(pooled["task"] == task) & (pooled["mode"] == mode)]
            table = own.pivot_table(index="depth", columns="length", values="acc")
            figure.add_trace(_heat_map(table), row=row, col=column)
    figure.update_xaxes(type="category")
    figure.update_xaxes(title="length", row=n_rows)
    figure.update_yaxes(type="category", autorange="reversed")
    figure.update_yaxes(title="depth", col=1)
    bar = {"title": "accuracy", "len": min(1.0, 4 / n_rows), "y": 1, "yanchor": "top"}
    figure.update_layout(coloraxis={"cmin": 0, "cmax": 1, "colorscale": SHADES, "colorbar": bar})
    caption = "Accuracy by sequence length and by the depth of the answer's last write; 0 is the oldest."
    size = {"height": 180 + _CELL_HEIGHT * n_rows}
    return finish(
        figure, title=f"{title}: accuracy by length and depth", caption=caption, provenance=provenance, **size
    )


def accuracy_by_task(rows: pd.DataFrame, *, title: str, provenance: str) -> go.Figure:
    """Return one radar per mode over all tasks, at the longest length that every task was asked at."""
    asked = rows.groupby("task")["length"].agg(set)
    shared = set.intersection(*asked)
    if not shared:
        raise Fault("rows", "have a length that every task was asked at", sorted(set(rows["length"])))
    length = max(shared)
    pooled = pool(rows[rows["length"] == length], ["task", "mode"])
    figure, tasks = go.Figure(), _unique(rows["task"])
    for mode, style in mode_styles(_unique(rows["mode"])).items():
        own = pooled[pooled["mode"] == mode].set_index("task")["acc"].reindex(tasks)
        closed = [*own.tolist(), own.iloc[0]]
        figure.add_trace(go.Scatterpolar(r=closed, theta=[*tasks, tasks[0]], name=mode, line=style))
    figure.update_layout(polar={"radialaxis": {"range": [0, 1], "tickvals": [0, 0.5, 1]}})
    caption = f"Accuracy of every task at length {length}, over depths and seeds."
    return finish(
        figure, title=f"{title}: accuracy by task", caption=caption, provenance=provenance, height=560
    )


def finish(go_figure: go.Figure, *, title: str, caption: str, provenance: str, height: int) -> go.Figure:
    """Return the figure in the house style, with caption and provenance beside it."""
    go_figure.update_layout(template=TEMPLATE, title=title, height=height, margin={"t": 84, "b": 60})
    go_figure.update_layout(legend={"y": -70 / height})
    return go_figure.update_layout(meta={"caption": caption, "provenance": provenance, "note": ""})


def _lines(rows: pd.DataFrame, mode: str, style: dict[str, str], *, legend: bool) -> list[go.Scatter]:
    """Return the pooled line with its intervals, and each seed's own points where there are several."""
    pooled, single = pool(rows, ["length"]), pool(rows, ["length", "seed"])
    error = {"array": pooled["high"] - pooled["acc"], "arrayminus": pooled["acc"] - pooled["low"], "width": 2}
    shared = {"name": mode, "legendgroup": mode}
    line = go.Scatter(
        x=pooled["length"], y=pooled["acc"], error_y=error, line=style, showlegend=legend, **shared
    )
    if single["seed"].nunique() < 2:
        return [line]
    hover, faint = (
        [f"seed {seed}" for seed in single["seed"]],
        {"color": style["color"], "opacity": 0.35, "size": 4},
    )
    points = {"mode": "markers", "marker": faint, "text": hover, "showlegend": False}
    return [go.Scatter(x=single["length"], y=single["acc"], **points, **shared), line]


def _heat_map(table: pd.DataFrame) -> go.Heatmap:
    return go.Heatmap(
        z=table.to_numpy(),
        x=[str(length) for length in table.columns],
        y=[str(depth) for depth in table.index],
        texttemplate="%{z:.2f}",
        coloraxis="coloraxis",
    )


def _length_axes(figure: go.Figure, rows: pd.DataFrame) -> None:
    lengths = sorted(int(length) for length in rows["length"].unique())
    ticks = {"tickvals": lengths, "ticktext": [str(length) for length in lengths]}
    figure.update_xaxes(type="log", **ticks, title="length")


def _unique(column: pd.Series) -> list[str]:
    return list(dict.fromkeys(column))
