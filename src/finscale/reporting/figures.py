"""Every figure of a study by name, each with its caption and provenance."""

import plotly.graph_objects as go

from finscale.core.budgets import parse_budget
from finscale.reporting.cost_figures import best_architectures, excess_against_flops
from finscale.reporting.dimension_figures import parallel_coordinates, parameter_importance
from finscale.reporting.excess_figure import excess_against_n, horizon_excess
from finscale.reporting.fit_figures import alpha_profile, held_out, residuals
from finscale.reporting.loss_figure import loss_against_n
from finscale.reporting.search_figures import grid_map, optimisation_history, tuning_curves
from finscale.reporting.study import CellKey, Provenance, ReportInput
from finscale.reporting.template import MUTED

__all__ = ["cell_figures", "export_figures", "main_figures", "searched_cells", "stamped"]


def main_figures(study: ReportInput) -> dict[str, go.Figure]:
    """Return the figures of the report's body, in reading order.

    ``layout.meta`` holds ``caption``, ``note`` and ``provenance``.
    """
    horizons = study.horizons
    found: dict[str, go.Figure | None] = {"excess_against_n": excess_against_n(study)}
    if len(horizons) > 1:
        found |= {f"horizon_excess_h{h}": horizon_excess(study, horizon=h) for h in horizons}
    found |= {f"loss_against_n_h{h}": loss_against_n(study, horizon=h) for h in horizons}
    found |= {"residuals": residuals(study), "alpha_profile": alpha_profile(study)}
    found |= {"held_out": held_out(study), "excess_against_flops": excess_against_flops(study)}
    if (study.trials["kind"] == "random").any():
        found |= {f"tuning_curves_h{h}": tuning_curves(study, horizon=h) for h in horizons}
    if len(study.trials):
        found |= {f"best_architectures_h{h}": best_architectures(study, horizon=h) for h in horizons}
    if len(study.grid):
        found["arch_grid"] = grid_map(study.grid, study.cells)
    return {name: _signed(figure, study.provenance) for name, figure in found.items() if figure is not None}


def searched_cells(study: ReportInput) -> list[CellKey]:
    """Return the cells that have trials, in order of size."""
    keys = {
        CellKey(str(budget), int(h))
        for budget, h in zip(study.trials["budget"], study.trials["horizon"], strict=True)
    }
    return sorted(keys, key=lambda key: (parse_budget(key.budget), key.horizon))


def cell_figures(study: ReportInput, key: CellKey) -> dict[str, go.Figure]:
    """Return the figures of one cell's search: its course, what mattered, and which combinations did well."""
    own = (study.trials["budget"] == key.budget) & (study.trials["horizon"] == key.horizon)
    trials, axis = study.trials[own], study.measure.axis
    found = {
        f"history_{key.id}": optimisation_history(trials, title=f"Course of {key.id}", axis=axis),
        f"importance_{key.id}": parameter_importance(trials, title=f"What mattered in {key.id}"),
        f"parallel_{key.id}": parallel_coordinates(trials, title=f"The trials of {key.id}", axis=axis),
    }
    return {name: _signed(figure, study.provenance) for name, figure in found.items()}


def export_figures(study: ReportInput) -> dict[str, go.Figure]:
    """Return every figure with its caption drawn inside, to stand alone outside the report."""
    found = main_figures(study)
    for key in searched_cells(study):
        found |= cell_figures(study, key)
    return {name: stamped(figure) for name, figure in found.items()}


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
