"""Every figure of a study by name, each with its caption and provenance."""

import plotly.graph_objects as go

from finscale.core.budgets import parse_budget
from finscale.reporting.excess_figure import excess_against_n
from finscale.reporting.loss_figure import loss_against_n
from finscale.reporting.search_figures import grid_map, optimisation_history, tuning_curves
from finscale.reporting.study import CellKey, Provenance, ReportInput
from finscale.reporting.template import MUTED

__all__ = ["export_figures", "history_figures", "main_figures", "stamped"]


def main_figures(study: ReportInput) -> dict[str, go.Figure]:
    """Return the figures of the report's body, in reading order.

    ``layout.meta`` holds ``caption``, ``note`` and ``provenance``.
    """
    found = {"excess_against_n": excess_against_n(study)}
    found |= {f"loss_against_n_h{h}": loss_against_n(study, horizon=h) for h in study.horizons}
    if (study.trials["kind"] == "random").any():
        found |= {f"tuning_curves_h{h}": tuning_curves(study, horizon=h) for h in study.horizons}
    if len(study.grid):
        found["arch_grid"] = grid_map(study.grid, study.cells)
    return {name: _signed(figure, study.provenance) for name, figure in found.items()}


def history_figures(study: ReportInput) -> dict[str, go.Figure]:
    """Return one optimisation history per cell that has trials, in order of size."""
    groups = [rows for _, rows in study.trials.groupby(["budget", "horizon"])]
    by_cell = {CellKey(str(rows["budget"].iloc[0]), int(rows["horizon"].iloc[0])): rows for rows in groups}
    cells = sorted(by_cell, key=lambda key: (parse_budget(key.budget), key.horizon))
    found = {f"history_{key.id}": optimisation_history(by_cell[key], title=key.id) for key in cells}
    return {name: _signed(figure, study.provenance) for name, figure in found.items()}


def export_figures(study: ReportInput) -> dict[str, go.Figure]:
    """Return every figure with its caption drawn inside, to stand alone outside the report."""
    return {name: stamped(figure) for name, figure in (main_figures(study) | history_figures(study)).items()}


def _signed(figure: go.Figure, provenance: Provenance) -> go.Figure:
    return figure.update_layout(meta={**figure.layout.meta, "provenance": provenance.line()})


def stamped(figure: go.Figure) -> go.Figure:
    """Return a copy with the provenance line written in its lower right corner."""
    copy = go.Figure(figure)
    copy.add_annotation(
        text=copy.layout.meta["provenance"],
        xref="paper",
        yref="paper",
        x=1,
        y=0,
        yshift=-44,
        xanchor="right",
        yanchor="top",
        showarrow=False,
        font={"size": 10, "color": MUTED},
    )
    return copy
