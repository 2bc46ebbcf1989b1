"""The admissible architectures of a budget, and their map."""

from typing import Any

import pandas as pd

from finscale.archgrid.enumerate import enumerate_grid
from finscale.core.budgets import Cell
from finscale.models.config import PatchTSTConfig
from finscale.reporting.search_figures import grid_map
from finscale.runtime.definition import GridSettings
from finscale.windows.experiment import ExperimentConfig

__all__ = ["draw_grid", "enumerate_architectures"]


def enumerate_architectures(
    cell: Cell,
    definition: ExperimentConfig,
    feature_sets: dict[str, list[str]],
    model: PatchTSTConfig,
    grid: GridSettings,
) -> pd.DataFrame:
    """List every architecture whose exact N lies within the budget's band, for the experiment's F and T."""
    sizes = {
        "n_features": len(feature_sets[definition.data.feature_set]),
        "context_length": definition.data.context_length,
    }
    table = enumerate_grid(cell.n_budget, **sizes, base=model, tolerance=grid.tolerance)
    table.attrs.update(budget=cell.budget, **sizes)
    return table


def draw_grid(arch_grid: pd.DataFrame) -> Any:
    """Draw depth against width, coloured by N."""
    return grid_map(arch_grid)
