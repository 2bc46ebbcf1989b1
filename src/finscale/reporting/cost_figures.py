"""What the cells cost beside what they reached, and which shapes did best."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from finscale.reporting.chart import blank, format_y_ticks
from finscale.reporting.excess_figure import excess_axis
from finscale.reporting.study import CellKey, ReportInput
from finscale.reporting.template import INK, MUTED, SURFACE, budget_colours

__all__ = ["best_architectures", "excess_against_flops"]

N_BEST = 5


def excess_against_flops(study: ReportInput) -> go.Figure | None:
    """Draw every final training's excess loss against the operations it took; None where none is known."""
    rows = _costed(study)
    if rows.empty:
        return None
    figure = blank(
        "Excess loss against compute",
        x="operations of the training, forward and backward (log scale)",
        y=excess_axis(study),
        caption="One point per final training on the scoring half of validation; shapes are horizons. "
        "Operations: those of one window times the windows seen, epochs counted. The unique training windows "
        "are the same for every cell, so no joint law in N and D is fitted and no iso-FLOP curve drawn.",
        height=400,
    )
    symbols = dict(zip(study.horizons, _SYMBOLS * len(study.horizons), strict=False))
    for budget, colour in budget_colours(study.budgets).items():
        of_budget = rows[rows["budget"] == budget]
        figure.add_scatter(
            x=of_budget["flops"],
            y=of_budget["excess_loss"],
            mode="markers",
            name=budget,
            marker={
                "size": 8,
                "color": colour,
                "symbol": of_budget["horizon"].map(symbols).to_list(),
                "line": {"width": 0.8, "color": INK},
            },
            customdata=of_budget[["horizon", "seed"]].to_numpy(),
            hovertemplate="horizon %{customdata[0]}, seed %{customdata[1]}: %{y:.4f}, %{x:.3s}FLOP"
            "<extra></extra>",
        )
    figure.add_hline(y=0, line={"color": MUTED, "width": 1})
    figure.update_xaxes(type="log", exponentformat="power", dtick=1)
    return format_y_ticks(figure)


_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")


def _costed(study: ReportInput) -> pd.DataFrame:
    """Return the finished trainings whose operations are known, with ``flops``."""
    per_window = study.grid.drop_duplicates("arch_id").set_index("arch_id")["flops_training"]
    cells = study.cells[(study.cells["split"] == "val_score") & (study.cells["outcome"] == "complete")]
    windows = cells["n_steps"].astype(float) * cells["effective_batch_size"].astype(float)
    flops = cells["arch_id"].map(per_window).astype(float) * windows
    return cells.assign(flops=flops).dropna(subset=["flops", "excess_loss"])


def best_architectures(study: ReportInput, *, horizon: int) -> go.Figure:
    """Draw the shapes of each budget's best trials: the winner full, the runners-up fading."""
    trials = study.trials[study.trials["horizon"] == horizon]
    figure = blank(
        f"Best architectures, horizon {horizon}",
        x="width d_model (log scale)",
        y="depth n_layers",
        caption=f"Width and depth of the {N_BEST} best trials of every budget, the best one ringed, the "
        "others smaller by rank. Where they scatter, shape hardly matters.",
        height=320,
    )
    colours = budget_colours(study.budgets)
    for budget in study.budgets:
        _add_best(figure, trials[trials["budget"] == budget], budget, colours[budget])
    drawn = pd.to_numeric(trials["d_model"], errors="coerce").dropna()
    if len(drawn):
        widths = [2**k for k in range(2, 16) if drawn.min() <= 2**k <= drawn.max()]
        figure.update_xaxes(type="log", tickvals=widths, ticktext=[str(width) for width in widths])
    return figure.update_yaxes(rangemode="tozero")


def _add_best(figure: go.Figure, trials: pd.DataFrame, budget: str, colour: str) -> None:
    best = trials.dropna(subset=["value"]).nsmallest(N_BEST, "value")
    ranks = np.arange(len(best))
    cell = CellKey(budget, int(trials["horizon"].iloc[0])).id if len(trials) else ""
    figure.add_scatter(
        x=best["d_model"].astype(float),
        y=best["n_layers"].astype(float),
        mode="markers",
        name=budget,
        marker={
            "size": 15 - 2 * ranks,
            "color": colour,
            "opacity": 0.85,
            "line": {
                "width": np.where(ranks == 0, 2, 0.5).tolist(),
                "color": [INK, *[SURFACE] * 4][: len(best)],
            },
        },
        customdata=best[["number", "value"]].to_numpy(),
        hovertemplate=f"{cell}, trial %{{customdata[0]}}: %{{customdata[1]:.4f}}<extra></extra>",
    )
