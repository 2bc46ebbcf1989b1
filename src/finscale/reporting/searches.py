"""The search of every cell, as a report shows it: a leaderboard and the figures of its trials."""

from collections.abc import Mapping
from dataclasses import dataclass

import plotly.graph_objects as go

from finscale.reporting.figures import cell_figures, searched_cells
from finscale.reporting.leaderboard import leaderboard
from finscale.reporting.study import CellKey, ReportInput
from finscale.reporting.tables import Table

__all__ = ["CellSearch", "cell_searches"]


@dataclass(frozen=True, eq=False)
class CellSearch:
    """One cell's search.

    Attributes
    ----------
    figures : mapping
        By name, with caption, note and provenance in ``layout.meta``.
    """

    key: CellKey
    leaderboard: Table
    figures: Mapping[str, go.Figure]


def cell_searches(study: ReportInput) -> tuple[CellSearch, ...]:
    """Return the searches of a study, in order of size."""
    return tuple(
        CellSearch(key, leaderboard(study, key), cell_figures(study, key)) for key in searched_cells(study)
    )
