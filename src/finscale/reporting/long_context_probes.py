"""Figures of what trained decoders look at, and of what an answer costs at which distance."""

import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from finscale.longcontext.attention_probe import N_PARTS
from finscale.longcontext.distance_probe import pooled_losses
from finscale.reporting.long_context import SHADES, finish, mode_styles
from finscale.reporting.template import MUTED

__all__ = ["attention_along_the_haystack", "attention_at_the_needle", "loss_against_distance"]

_COLUMNS = 3
_DECODER = ["mode", "seed"]


def attention_at_the_needle(table: pd.DataFrame, *, title: str, provenance: str) -> go.Figure:
    """Return the weight that the query gives the needle: a panel per mode, layer.head by task and length.

    Parameters
    ----------
    table : DataFrame
        Of `finscale.longcontext.attention_probe.attention_table`.
    title, provenance : str
        Of the experiment; written under the figure.
    """
    ranked, modes = _ranked(table), list(dict.fromkeys(table["mode"]))
    n_rows, n_heads = math.ceil(len(modes) / _COLUMNS), ranked["head"].nunique()
    spacing = {"vertical_spacing": 0.34 / n_rows, "horizontal_spacing": 0.06}
    figure = make_subplots(n_rows, _COLUMNS, subplot_titles=modes, shared_yaxes=True, **spacing)
    for i, mode in enumerate(modes):
        heat = _weights(ranked[ranked["mode"] == mode])
        figure.add_trace(heat, row=i // _COLUMNS + 1, col=i % _COLUMNS + 1)
    _shade(figure, n_rows)
    figure.update_yaxes(type="category", autorange="reversed")
    figure.update_yaxes(title="layer.head", col=1)
    caption = (
        "Mean attention weight from the query to the slot of the needle (latest: of the last write), over "
        "depths and seeds; all of a head's weights add up to 1. The heads of a layer stand in the order of "
        "what they give the needle at the shorter length, in each seed anew. Hovering shows the interval "
        "(95 %, error of the sequences) and what goes to earlier writes of the same key."
    )
    height = 150 + n_rows * (110 + 26 * n_heads)
    heading = f"{title}: attention at the needle"
    return finish(figure, title=heading, caption=caption, provenance=provenance, height=height)


def attention_along_the_haystack(table: pd.DataFrame, *, title: str, provenance: str) -> go.Figure:
    """Return where the query looks over the whole sequence, by depth of the needle: modes by length."""
    own = table[table["task"] == ("needle" if "needle" in set(table["task"]) else "latest")]
    modes, lengths = list(dict.fromkeys(own["mode"])), sorted(own["length"].unique())
    titles = [f"{mode}, length {length}" for mode in modes for length in lengths]
    n_rows = len(modes)
    shared = {"shared_xaxes": True, "shared_yaxes": True, "vertical_spacing": min(0.2, 0.3 / n_rows)}
    figure = make_subplots(n_rows, len(lengths), subplot_titles=titles, **shared)
    strongest = _strongest(own)
    for row, mode in enumerate(modes, start=1):
        for column, length in enumerate(lengths, start=1):
            here = strongest[(strongest["mode"] == mode) & (strongest["length"] == length)]
            figure.add_trace(_profiles(here), row=row, col=column)
    _shade(figure, n_rows)
    figure.update_xaxes(title="part of the haystack, oldest first", row=n_rows)
    figure.update_yaxes(type="category", autorange="reversed")
    figure.update_yaxes(title="depth", col=1)
    caption = (
        "Attention of the query over ten parts of the haystack and itself (?), by depth of the needle: a "
        "diagonal looks at the needle wherever it stands. Of each decoder the one head that gives the needle "
        "most at the shorter length; means over sequences and seeds."
    )
    heading, height = f"{title}: where the query looks", 190 + 125 * n_rows
    return finish(figure, title=heading, caption=caption, provenance=provenance, height=height)


def loss_against_distance(table: pd.DataFrame, *, n_active: int, title: str, provenance: str) -> go.Figure:
    """Return the loss of the right answers against the distance to their write, one line per mode.

    Parameters
    ----------
    table : DataFrame
        Of `finscale.longcontext.distance_probe.distance_table`.
    n_active : int
        Values to guess from, of a reader who knows only what was written.
    title, provenance : str
        As above.
    """
    pooled = pooled_losses(table)
    panels = list(pooled[["task", "length"]].drop_duplicates().itertuples(index=False, name=None))
    n_rows = math.ceil(len(panels) / 2)
    titles = [f"{task}, length {length}" for task, length in panels]
    figure = make_subplots(n_rows, 2, shared_yaxes=True, subplot_titles=titles, vertical_spacing=0.3 / n_rows)
    for i, (task, length) in enumerate(panels):
        place = {"row": i // 2 + 1, "col": i % 2 + 1}
        here = pooled[(pooled["task"] == task) & (pooled["length"] == length)]
        for mode, style in mode_styles(list(dict.fromkeys(table["mode"]))).items():
            line = _loss_line(here[here["mode"] == mode], mode, style)
            figure.add_trace(line.update(showlegend=i == 0), **place)
        if task == "far":
            figure.add_hline(math.log(n_active), line={"dash": "dot", "color": MUTED}, **place)
    octaves = sorted(pooled["distance"].unique())
    figure.update_xaxes(type="log", tickvals=octaves, ticktext=[str(x) for x in octaves])
    figure.update_xaxes(title="symbols back to the last write", row=n_rows)
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title="cross-entropy (nats)", col=1)
    caption = (
        "Mean cross-entropy of the right answer by octave of the distance between query and last write, over "
        "seeds, with 95 % intervals by sequences (1.96 standard errors, from 0 upwards; none where one "
        "sequence is all). Dotted: guessing one of the values that were written. Under overwrite a last "
        "write that lies far back is mostly the only one of its key."
    )
    heading, height = f"{title}: loss against distance", 150 + 310 * n_rows
    return finish(figure, title=heading, caption=caption, provenance=provenance, height=height)


def _ranked(table: pd.DataFrame) -> pd.DataFrame:
    """Number the heads of a layer, in each decoder, by what they give the needle at the shorter length."""
    near = table[(table["task"] == table["task"].iloc[0]) & (table["length"] == table["length"].min())]
    given = near.groupby([*_DECODER, "layer", "head"])["weight"].mean()
    rank = given.groupby([*_DECODER, "layer"]).rank(ascending=False, method="first").astype(int)
    ranked = table.join(rank.rename("rank"), on=[*_DECODER, "layer", "head"])
    return ranked.assign(head=(ranked["layer"] + 1).astype(str) + "." + ranked["rank"].astype(str))


def _strongest(table: pd.DataFrame) -> pd.DataFrame:
    """Keep of each decoder the head that gives the needle most at the shorter length."""
    near = table[table["length"] == table["length"].min()]
    given = near.groupby([*_DECODER, "layer", "head"], as_index=False)["weight"].mean()
    most = given.loc[given.groupby(_DECODER)["weight"].idxmax(), [*_DECODER, "layer", "head"]]
    return table.merge(most, on=[*_DECODER, "layer", "head"])


def _weights(own: pd.DataFrame) -> go.Heatmap:
    place = own["task"] + "<br>" + own["length"].astype(str)
    grouped = own.assign(place=place, spread=own["stderr"] ** 2).groupby(["head", "place"])
    mean = grouped[["weight", "earlier"]].mean()
    half = 1.96 * np.sqrt(grouped["spread"].sum(min_count=1)) / grouped.size()
    columns = list(dict.fromkeys(place))
    tables = [x.unstack()[columns] for x in (mean["weight"], half, mean["earlier"])]
    return go.Heatmap(
        z=tables[0].to_numpy(),
        x=columns,
        y=list(tables[0].index),
        customdata=np.dstack([part.to_numpy() for part in tables[1:]]),
        hovertemplate="%{z:.3f} ± %{customdata[0]:.3f}, earlier writes %{customdata[1]:.3f}<extra></extra>",
        texttemplate="%{z:.2f}",
        coloraxis="coloraxis",
    )


def _profiles(own: pd.DataFrame) -> go.Heatmap:
    depths = sorted(own["depth"].unique())
    rows = [np.mean(np.stack(own.loc[own["depth"] == depth, "profile"]), axis=0) for depth in depths]
    parts = [f"{i / N_PARTS:.1f}" for i in range(N_PARTS)]
    labels = [str(depth) for depth in depths]
    return go.Heatmap(
        z=rows, x=[*parts, "?"], y=labels, coloraxis="coloraxis", hovertemplate="%{z:.3f}<extra></extra>"
    )


def _shade(figure: go.Figure, n_rows: int) -> None:
    bar = {"title": "weight", "len": min(1.0, 4 / n_rows), "y": 1, "yanchor": "top"}
    figure.update_layout(coloraxis={"cmin": 0, "cmax": 1, "colorscale": SHADES, "colorbar": bar})
    figure.update_xaxes(type="category", tickangle=0, tickfont={"size": 10})


def _loss_line(own: pd.DataFrame, mode: str, style: dict[str, str]) -> go.Scatter:
    low = own["low"].clip(lower=0)
    error = {"array": own["high"] - own["loss"], "arrayminus": own["loss"] - low, "width": 2}
    hover = [f"{n:.0f} answers" for n in own["n"]]
    middle = own["distance"] * math.sqrt(2)
    return go.Scatter(
        x=middle,
        y=own["loss"],
        error_y=error,
        text=hover,
        line=style,
        name=mode,
        legendgroup=mode,
        mode="lines+markers",
    )
