"""Figures of a long-context evaluation: accuracy against length, and where in the haystack it is lost."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from finscale.core.errors import Fault
from finscale.longcontext.rows import pool
from finscale.reporting.template import MUTED, PALETTE, TEMPLATE

__all__ = ["accuracy_against_length", "accuracy_by_depth"]

_SHADES = [[0, "#eef3f8"], [0.5, PALETTE[0]], [1, "#08284a"]]
_TITLES = {"needle": "needle: the key is written once", "latest": "latest: the last of several writes"}


def accuracy_against_length(
    rows: pd.DataFrame, *, title: str, n_active: int, n_overwrites: int, longest_trained: int, provenance: str
) -> go.Figure:
    """Return accuracy against sequence length, one panel per task and one line per encoding.

    Parameters
    ----------
    rows : DataFrame
        One row per task, length, depth, mode and seed (`finscale.longcontext.rows`).
    title : str
        Of the experiment.
    n_active, n_overwrites : int
        They set the chance lines: 1 / n_active for any value of the sequence, 1 / n_overwrites for any value
        of the queried key.
    longest_trained : int
        Longest training sequence; all beyond it is length extrapolation.
    provenance : str
        Written under the figure.
    """
    tasks, modes = _tasks(rows), _modes(rows)
    figure = make_subplots(cols=len(tasks), shared_yaxes=True, subplot_titles=[_TITLES[t] for t in tasks])
    chances = {"needle": 1 / n_active, "latest": 1 / n_overwrites}
    for column, task in enumerate(tasks, start=1):
        of_task = rows[rows["task"] == task]
        for colour, mode in zip(PALETTE, modes, strict=False):
            for trace in _lines(of_task[of_task["mode"] == mode], mode, colour, legend=column == 1):
                figure.add_trace(trace, row=1, col=column)
        figure.add_hline(chances[task], line={"dash": "dot", "color": MUTED}, row=1, col=column)
        figure.add_vline(longest_trained, line={"dash": "dash", "color": MUTED}, row=1, col=column)
    lengths = sorted(int(length) for length in rows["length"].unique())
    figure.update_xaxes(
        type="log", tickvals=lengths, ticktext=[str(length) for length in lengths], title="length (symbols)"
    )
    figure.update_yaxes(range=[0, 1.02])
    figure.update_yaxes(title="accuracy", col=1)
    caption = (
        "Accuracy over depths and seeds with 95 % Wilson intervals (error of sampling questions); "
        "faint points are single seeds. Dotted: chance. Dashed: longest training sequence."
    )
    return _finish(figure, title=f"{title}: accuracy against length", caption=caption, provenance=provenance)


def accuracy_by_depth(rows: pd.DataFrame, *, title: str, provenance: str) -> go.Figure:
    """Return heat-maps of accuracy over length and depth, one per task and encoding."""
    panels = [(task, mode) for task in _tasks(rows) for mode in _modes(rows)]
    titles = [f"{task}, {mode}" for task, mode in panels]
    figure = make_subplots(cols=len(panels), shared_yaxes=True, subplot_titles=titles)
    pooled = pool(rows, ["task", "mode", "length", "depth"])
    for column, (task, mode) in enumerate(panels, start=1):
        of_panel = pooled[(pooled["task"] == task) & (pooled["mode"] == mode)]
        figure.add_trace(
            _heat_map(of_panel.pivot_table(index="depth", columns="length", values="acc")), row=1, col=column
        )
    figure.update_xaxes(title="length (symbols)", type="category")
    figure.update_yaxes(type="category", autorange="reversed")
    figure.update_yaxes(title="depth (0: oldest)", col=1)
    figure.update_layout(
        coloraxis={"cmin": 0, "cmax": 1, "colorscale": _SHADES, "colorbar": {"title": "accuracy"}}
    )
    caption = "Accuracy by sequence length and by the depth at which the answer was last written."
    return _finish(
        figure, title=f"{title}: accuracy by length and depth", caption=caption, provenance=provenance
    )


def _lines(rows: pd.DataFrame, mode: str, colour: str, *, legend: bool) -> list[go.Scatter]:
    """Return the pooled line with its intervals, and each seed's own points."""
    pooled, single = pool(rows, ["length"]), pool(rows, ["length", "seed"])
    error = {"array": pooled["high"] - pooled["acc"], "arrayminus": pooled["acc"] - pooled["low"]}
    style = {"line": {"color": colour}, "name": mode, "legendgroup": mode}
    faint = {"color": colour, "opacity": 0.5, "size": 5}
    hover = [f"seed {seed}" for seed in single["seed"]]
    points = {"mode": "markers", "marker": faint, "text": hover, "name": mode, "legendgroup": mode}
    return [
        go.Scatter(x=single["length"], y=single["acc"], showlegend=False, **points),
        go.Scatter(x=pooled["length"], y=pooled["acc"], error_y=error, showlegend=legend, **style),
    ]


def _heat_map(table: pd.DataFrame) -> go.Heatmap:
    return go.Heatmap(
        z=table.to_numpy(),
        x=[str(length) for length in table.columns],
        y=[str(depth) for depth in table.index],
        texttemplate="%{z:.2f}",
        coloraxis="coloraxis",
    )


def _finish(figure: go.Figure, *, title: str, caption: str, provenance: str) -> go.Figure:
    figure.update_layout(template=TEMPLATE, title=title, height=460, margin={"t": 84, "b": 110})
    figure.update_layout(legend={"x": 1, "xanchor": "right", "y": 1.22, "yanchor": "top"})
    figure.update_layout(meta={"caption": caption, "provenance": provenance})
    place = {"xref": "paper", "yref": "paper", "x": 0, "y": 0, "xanchor": "left", "yanchor": "top"}
    text = f"{caption}<br>{provenance}"
    small = {"size": 10, "color": MUTED}
    return figure.add_annotation(text=text, yshift=-70, showarrow=False, align="left", font=small, **place)


def _tasks(rows: pd.DataFrame) -> list[str]:
    return [task for task in _TITLES if task in set(rows["task"])]


def _modes(rows: pd.DataFrame) -> list[str]:
    modes = list(rows["mode"].unique())
    if len(modes) > len(PALETTE):
        raise Fault("modes", f"be at most {len(PALETTE)} in one figure", len(modes), "draw fewer")
    return modes
