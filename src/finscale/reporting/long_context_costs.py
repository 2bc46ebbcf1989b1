"""Figures of what a long context costs, and of what an ablation changes."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from finscale.longcontext.rows import pool
from finscale.reporting.long_context import SHADES, finish, mode_styles

__all__ = ["ablation_grid", "cost_against_length", "streaming_against_length"]

_MIB = 2**20


def cost_against_length(rows: pd.DataFrame, *, title: str, provenance: str) -> go.Figure:
    """Return the tokens per second of answering, and accuracy against the seconds of one sequence."""
    figure = make_subplots(cols=2, subplot_titles=["speed of answering", "accuracy for its time"])
    timed = rows.assign(seconds=rows["runtime_s"], tokens=rows["length"] * rows["n"])
    for mode, style in mode_styles(list(dict.fromkeys(rows["mode"]))).items():
        sums = timed[timed["mode"] == mode].groupby("length")[["seconds", "tokens", "n"]].sum()
        accuracy = pool(rows[rows["mode"] == mode], ["length"])["acc"]
        shared = {"name": mode, "legendgroup": mode, "line": style}
        figure.add_trace(go.Scatter(x=sums.index, y=sums["tokens"] / sums["seconds"], **shared), row=1, col=1)
        figure.add_trace(
            go.Scatter(x=sums["seconds"] / sums["n"], y=accuracy, showlegend=False, **shared), row=1, col=2
        )
    figure.update_xaxes(type="log", title="length", col=1)
    figure.update_xaxes(type="log", title="seconds per sequence", col=2)
    figure.update_yaxes(title="tokens per second", rangemode="tozero", col=1)
    figure.update_yaxes(title="accuracy", range=[-0.02, 1.04], col=2)
    caption = (
        "Wall time of the answers on this machine; each point on the right is one length, over all tasks."
    )
    return finish(figure, title=f"{title}: cost", caption=caption, provenance=provenance, height=440)


def streaming_against_length(system: pd.DataFrame, *, title: str, provenance: str) -> go.Figure:
    """Return state, memory and speed against the symbols read in chunks."""
    memory = system["peak_bytes"].where(system["device"] == "cuda", system["rss_bytes"])
    panels = {
        "state (MiB)": system["state_bytes"] / _MIB,
        "memory (MiB)": memory / _MIB,
        "tokens per processor second": system["tokens_per_cpu_s"],
    }
    figure = make_subplots(cols=len(panels), subplot_titles=list(panels))
    for mode, style in mode_styles(list(dict.fromkeys(system["mode"]))).items():
        own = system["mode"] == mode
        for column, values in enumerate(panels.values(), start=1):
            shared = {"name": mode, "legendgroup": mode, "line": style, "showlegend": column == 1}
            figure.add_trace(
                go.Scatter(x=system.loc[own, "length"], y=values[own], **shared), row=1, col=column
            )
    figure.update_xaxes(type="log", title="symbols read")
    figure.update_yaxes(rangemode="tozero")
    caption = (
        "Each length is read in a fresh process; memory is what that holds at the end, on CUDA the peak."
    )
    return finish(
        figure, title=f"{title}: reading in chunks", caption=caption, provenance=provenance, height=420
    )


def ablation_grid(
    rows: pd.DataFrame, *, modes: Sequence[str], setting: str, title: str, provenance: str
) -> go.Figure:
    """Return accuracy of every value of an ablation (rows) by task and length (columns)."""
    pooled = pool(rows[rows["mode"].isin(list(modes))], ["mode", "task", "length"])
    pooled["place"] = pooled["task"] + " " + pooled["length"].astype(str)
    tasks = {task: i for i, task in enumerate(dict.fromkeys(rows["task"]))}
    order = pooled.assign(rank=pooled["task"].map(tasks)).sort_values(["rank", "length"])
    places = list(dict.fromkeys(order["place"]))
    table = pooled.pivot_table(index="mode", columns="place", values="acc")
    table = table.reindex(index=list(modes), columns=places)
    heat = go.Heatmap(
        z=table.to_numpy(), x=places, y=list(table.index), texttemplate="%{z:.2f}", zmin=0, zmax=1
    )
    figure = go.Figure(heat.update(colorscale=SHADES, colorbar={"title": "accuracy"}))
    figure.update_yaxes(title=setting, type="category", autorange="reversed")
    caption = f"Every row changes {setting} and nothing else; accuracy over depths and seeds."
    height = 240 + 44 * len(modes)
    return finish(figure, title=f"{title}: ablation", caption=caption, provenance=provenance, height=height)
