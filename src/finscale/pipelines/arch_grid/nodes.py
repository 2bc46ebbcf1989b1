"""The admissible architectures of a budget, and their map."""

from typing import Any

import pandas as pd

from finscale.archgrid.base import GridConfig, parse_grid_base
from finscale.archgrid.enumerate import enumerate_grid
from finscale.core.budgets import Cell
from finscale.core.hashing import content_hash
from finscale.models.head_config import LogitsHead
from finscale.reporting.search_figures import grid_map
from finscale.runtime.definition import GridSettings
from finscale.training.heads import with_head
from finscale.windows.data import WindowData

__all__ = ["draw_grid", "enumerate_architectures"]


def enumerate_architectures(
    cell: Cell, windows: WindowData, model: dict[str, Any], grid: GridSettings
) -> pd.DataFrame:
    """List every architecture whose exact N lies within the budget's band, for the windows' F, T and head."""
    base = with_head(parse_grid_base(model), windows.spec)
    sizes = {"n_features": windows.n_features, "context_length": windows.spec.context_length}
    table = enumerate_grid(cell.n_budget, **sizes, base=base, tolerance=grid.tolerance)
    table.attrs.update(budget=cell.budget, variant=_variant(base), **sizes)
    return table


def _variant(base: GridConfig) -> str:
    """What the name of a grid's file says beside budget, F and T; nothing of the logits of a PatchTST."""
    family = "" if base.family == "patchtst" else f"_{base.family}"
    is_logits = isinstance(base.head, LogitsHead)
    return family if is_logits else f"{family}_{content_hash(base.head)}"


def draw_grid(arch_grid: pd.DataFrame) -> Any:
    """Draw depth against width, coloured by N."""
    return grid_map(arch_grid)
