"""What the searches did: tuning curves, optimisation histories, and the architectures on offer."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from finscale.core.budgets import parse_budget
from finscale.reporting.chart import blank, format_y_ticks, short_n
from finscale.reporting.dimensions import within_reach
from finscale.reporting.study import CellKey, ReportInput
from finscale.reporting.template import INK, MUTED, PALETTE, budget_colours
from finscale.scalinglaws.selection import best_of_m_table, tuning_curve

__all__ = ["grid_map", "optimisation_history", "tuning_curves"]

_KINDS = {
    "extreme": PALETTE[1],
    "random": PALETTE[4],
    "sampler": PALETTE[0],
    "supplemental": PALETTE[3],
    "transfer": PALETTE[2],
    "grid": PALETTE[6],
}
_SYMBOLS = {"complete": "circle", "pruned": "x-thin-open", "diverged": "triangle-up-open"}


def tuning_curves(study: ReportInput, *, horizon: int) -> go.Figure:
    """Draw the expected best of m random trials per budget, which tells what unequal searches did."""
    trials = study.trials[(study.trials["horizon"] == horizon) & (study.trials["kind"] == "random")]
    figure = blank(
        f"Tuning curves, horizon {horizon}",
        x="m random trials",
        y=f"expected best excess ({study.measure.unit})",
        caption="Expected excess loss over the reference (higher is better) of the best of m random trials, "
        "on the half of validation that the search saw. The dotted line marks the m that every cell has.",
    )
    colours = budget_colours(study.budgets)
    for budget in sorted(set(trials["budget"]), key=parse_budget):
        rows = trials[trials["budget"] == budget]
        curve = rows["base_rate_loss"].mean() - tuning_curve(rows["value"])
        _add_curve(figure, budget, curve, colours.get(budget, MUTED))
    shared = best_of_m_table(study.trials)["m"]
    if len(shared):
        figure.add_vline(x=int(shared.iloc[0]), line={"color": MUTED, "width": 1, "dash": "dot"})
    return format_y_ticks(figure)


def _add_curve(figure: go.Figure, budget: str, curve: np.ndarray, colour: str) -> None:
    figure.add_scatter(
        x=np.arange(1, len(curve) + 1),
        y=curve,
        mode="lines+markers",
        name=budget,
        line={"color": colour, "width": 2},
        marker={"size": 4},
        hovertemplate=f"{budget}, best of %{{x}}: %{{y:.4f}}<extra></extra>",
    )


def optimisation_history(trials: pd.DataFrame, *, title: str, axis: str = "loss") -> go.Figure:
    """Draw one study: every trial's loss in order, by kind, and the best so far.

    Parameters
    ----------
    trials : DataFrame
        Of one cell: number, value, state, kind, and where known pruned_loss and outcome. A trial that
        diverged is drawn at the upper end; one that failed otherwise, or runs, is not drawn.
    title : str
        E.g. the cell id.
    axis : str
        The loss and its unit.
    """
    shown = _drawable(trials.sort_values("number"))
    n_hidden = len(trials) - len(shown)
    figure = blank(
        title,
        x="trial",
        y=axis,
        caption="Loss on the half of validation that the search saw; the line is the best so far. Crosses "
        "were pruned, at their last loss; open triangles diverged. Trials far above the rest lie beyond the "
        "axis.",
        note=f"{n_hidden} of {len(trials)} trials failed or run." if n_hidden else "",
        height=320,
    )
    for kind, rows in shown.groupby("kind"):
        _add_kind(figure, str(kind), rows)
    complete = shown[shown["mark"] == "complete"]
    if len(complete):
        _add_best(figure, complete)
        figure.update_yaxes(range=_range(complete["drawn"].to_numpy(dtype=np.float64)))
    return format_y_ticks(figure)


def _drawable(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials that have a place: ``mark`` says how they ended, ``drawn`` where they stand."""
    states = trials["state"].astype(str)
    pruned = (states == "PRUNED").to_numpy()
    diverged = (_column(trials, "outcome") == "diverged").to_numpy()
    losses = pd.to_numeric(trials["value"], errors="coerce").astype(float)
    losses = losses.where(
        ~pruned, pd.to_numeric(_column(trials, "pruned_loss"), errors="coerce").astype(float)
    )
    complete = np.asarray(losses[(states == "COMPLETE") & np.isfinite(losses)], dtype=np.float64)
    top = within_reach(complete) if len(complete) else np.nan
    marks = np.select([pruned, diverged], ["pruned", "diverged"], "complete")
    drawn = trials.assign(mark=marks, drawn=losses.where(~diverged, top))
    return drawn[np.isfinite(drawn["drawn"])]


def _column(trials: pd.DataFrame, name: str) -> pd.Series:
    return trials[name] if name in trials else pd.Series(index=trials.index, dtype=object)


def _add_kind(figure: go.Figure, kind: str, rows: pd.DataFrame) -> None:
    figure.add_scatter(
        x=rows["number"],
        y=rows["drawn"],
        mode="markers",
        name=kind,
        marker={"size": 6, "color": _KINDS.get(kind, MUTED), "symbol": rows["mark"].map(_SYMBOLS).tolist()},
        customdata=rows["mark"],
        hovertemplate=f"trial %{{x}} ({kind}, %{{customdata}}): %{{y:.4f}}<extra></extra>",
    )


def _add_best(figure: go.Figure, complete: pd.DataFrame) -> None:
    figure.add_scatter(
        x=complete["number"],
        y=complete["drawn"].cummin(),
        mode="lines",
        name="best so far",
        line={"color": INK, "width": 1.2, "shape": "hv"},
        hoverinfo="skip",
    )


def _range(values: np.ndarray) -> list[float]:
    low, top = float(values.min()), within_reach(values)
    margin = 0.06 * max(top - low, 1e-4)
    return [low - margin, top + margin]


def grid_map(grid: pd.DataFrame, cells: pd.DataFrame | None = None) -> go.Figure:
    """Draw admissible architectures, depth against width, coloured by N; ring the winners in ``cells``."""
    figure = blank(
        "The architectures each budget could choose from",
        x="width d_model (log scale)",
        y="depth n_layers",
        caption="One point per budget, depth and width, coloured by N; a larger point stands for more "
        "choices of heads and feed-forward width. Rings are the winners of the cells.",
    )
    if grid.empty:
        return figure
    keys = ["budget", "d_model", "n_layers"]
    places = grid.groupby(keys, as_index=False).agg(mean=("n_params", "mean"), size=("n_params", "size"))
    figure.add_scatter(
        x=places["d_model"],
        y=places["n_layers"],
        mode="markers",
        name="admissible",
        marker=_grid_marker(places, sorted(set(places["budget"]), key=parse_budget)),
        customdata=places[["budget", "mean", "size"]].to_numpy(),
        hovertemplate="%{customdata[0]}: d_model %{x}, %{y} layers<br>N = %{customdata[1]:.3s}, "
        "%{customdata[2]} architectures<extra></extra>",
    )
    if cells is not None:
        _add_winners(figure, cells)
    widths = [2**k for k in range(2, 16) if places["d_model"].min() <= 2**k <= places["d_model"].max()]
    figure.update_xaxes(type="log", tickvals=widths, ticktext=[str(width) for width in widths])
    return figure


def _grid_marker(places: pd.DataFrame, budgets: list[str]) -> dict:
    """Colour by log N; the colour bar is labelled with the budgets themselves."""
    sizes = [parse_budget(budget) for budget in budgets]
    bar = {
        "title": {"text": "N", "font": {"size": 11, "color": MUTED}},
        "tickvals": np.log10(sizes).tolist(),
        "ticktext": [short_n(size) for size in sizes],
        "thickness": 10,
        "outlinewidth": 0,
    }
    ends = {"cmin": np.log10(min(sizes)) - 0.1, "cmax": np.log10(max(sizes)) + 0.1}
    return ends | {
        "size": 6 + 2.5 * np.log2(places["size"].astype(float)),
        "color": np.log10(places["mean"]),
        "colorbar": bar,
        "opacity": 0.85,
        "line": {"width": 0},
    }


def _add_winners(figure: go.Figure, cells: pd.DataFrame) -> None:
    winners = cells.drop_duplicates(["budget", "horizon", "arch_id"])
    keys = zip(winners["budget"], winners["horizon"], strict=True)
    ring = {"size": 15, "color": "rgba(0,0,0,0)", "line": {"width": 2, "color": PALETTE[1]}}
    figure.add_scatter(
        x=winners["d_model"],
        y=winners["n_layers"],
        mode="markers",
        name="winners",
        marker=ring,
        customdata=[CellKey(str(budget), int(horizon)).id for budget, horizon in keys],
        hovertemplate="winner of %{customdata}<extra></extra>",
    )
