"""Loss of one horizon's cells against N, with every trial of the search behind them."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from finscale.metrics.significance import DateBlockInterval
from finscale.reporting.chart import blank, format_y_ticks, log_n_axis
from finscale.reporting.intervals import horizon_intervals
from finscale.reporting.study import ReportInput
from finscale.reporting.template import FAINT, INK, MUTED, PALETTE, SURFACE

__all__ = ["BARS", "add_cells", "loss_against_n"]

Floats = NDArray[np.float64]
_PLACED = ", both means over every trained horizon"
BARS = "Bars are 95 % date-block intervals; all budgets share their dates, so the bars move together."


def loss_against_n(study: ReportInput, *, horizon: int) -> go.Figure:
    """Draw the cells of one horizon with date-block intervals, and the trials as faint points."""
    table, base = _cell_means(study, horizon)
    trials = _placed_trials(study, horizon, base)
    shown = _in_view(trials["loss"], table["loss"], base)
    hidden = int((~shown).sum())
    figure = blank(
        f"Loss against model size, horizon {horizon}",
        x="parameters N (log scale)",
        y=study.measure.axis,
        caption="Lower is better. Points: the scoring half of validation, mean over seeds. "
        f"{BARS} Faint: every trial of the search, placed by its excess over the "
        f"{study.measure.reference_words} of its own rows{'' if study.measure.is_validated else _PLACED}.",
        note=f"{hidden} of {len(trials)} trials lie beyond the axis or have no finite loss."
        if hidden
        else "",
    )
    if table.empty:
        return figure
    _add_trials(figure, trials[shown])
    label = {"annotation_position": "top right", "annotation_font": {"size": 11, "color": MUTED}}
    line, reference = {"color": INK, "width": 1}, study.measure.reference_words
    figure.add_hline(y=base, line=line, annotation_text=reference, **label)
    intervals = horizon_intervals(study, horizon=horizon, split="val_score")
    spans = [intervals.get(str(budget)) for budget in table["budget"]]
    n_params, losses = table["n_params"].to_numpy(float), table["loss"].to_numpy(float)
    add_cells(figure, n_params, losses, spans, names=tuple(table["budget"]), lower_is_better=True)
    log_n_axis(figure, np.concatenate([n_params, trials["n_params"][shown].to_numpy(float)]))
    return format_y_ticks(figure)


def add_cells(
    figure: go.Figure,
    n_params: Floats,
    values: Floats,
    spans: list[DateBlockInterval | None],
    *,
    names: tuple[str, ...],
    lower_is_better: bool = False,
) -> None:
    """Add cells with their intervals.

    Parameters
    ----------
    n_params, values : ndarray, shape (n,)
    spans : list of n
        Intervals of the excess loss; its reach up is a loss's reach down.
    names : tuple of n
        Shown on hover.
    """
    reaches = [_reach(span) for span in spans]
    up, down = [above for above, _ in reaches], [below for _, below in reaches]
    array, arrayminus = (down, up) if lower_is_better else (up, down)
    bars = {"type": "data", "array": array, "arrayminus": arrayminus, "thickness": 1.4, "width": 4}
    figure.add_scatter(
        x=n_params,
        y=values,
        mode="markers",
        name="val_score",
        marker={"size": 10, "color": PALETTE[0], "line": {"width": 1, "color": SURFACE}},
        error_y=bars | {"color": PALETTE[0]},
        customdata=list(names),
        hovertemplate="%{customdata}: N = %{x:.3s}<br>%{y:.4f}<extra></extra>",
    )


def _reach(span: DateBlockInterval | None) -> tuple[float | None, float | None]:
    """Return how far an interval reaches above and below its own mean."""
    if span is None or span.mean is None or span.low is None or span.high is None:
        return None, None
    return span.high - span.mean, span.mean - span.low


def _cell_means(study: ReportInput, horizon: int) -> tuple[pd.DataFrame, float]:
    cells = study.cells
    rows = cells[(cells["split"] == "val_score") & (cells["horizon"] == horizon)]
    rows = rows[rows["outcome"] == "complete"].dropna(subset=["loss"])
    table = rows.groupby(["n_budget", "budget"], as_index=False)[["n_params", "loss"]].mean()
    return table, float(rows["base_rate_loss"].mean())


def _placed_trials(study: ReportInput, horizon: int, base: float) -> pd.DataFrame:
    """Shift every trial's loss by the difference of the two splits' base rates."""
    rows = study.trials[study.trials["horizon"] == horizon]
    return rows.assign(loss=base - (rows["base_rate_loss"] - rows["value"]))


def _in_view(trials: pd.Series, cells: pd.Series, base: float) -> pd.Series:
    """Keep the trials near the cells, the base rate and the better half of all trials."""
    better = trials[trials <= trials.median()]
    around = pd.concat([cells, better, pd.Series([base])]).dropna()
    reach = np.ptp(around.to_numpy()) if len(around) else 0.0
    return trials.between(around.min() - reach, around.max() + reach)


def _add_trials(figure: go.Figure, trials: pd.DataFrame) -> None:
    figure.add_scatter(
        x=trials["n_params"],
        y=trials["loss"],
        mode="markers",
        name="trials",
        marker={"size": 5, "color": FAINT, "opacity": 0.55},
        customdata=trials[["number", "kind"]].to_numpy(),
        hovertemplate="trial %{customdata[0]} (%{customdata[1]}): %{y:.4f}<extra></extra>",
    )
