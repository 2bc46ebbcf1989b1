"""Forced extremes: the corners of a table of candidates that every search must have seen.

Six corners: smallest and largest d_model, fewest and most layers, fewest and most heads, each at the most
typical other dimensions and options that the table offers.
"""

from collections import Counter

import numpy as np
import pandas as pd

from finscale.archgrid.enumerate import GRID_COLUMNS
from finscale.core.config import Record
from finscale.search.dimensions import choice_key

__all__ = ["Corner", "corners", "forced_rows"]

_CORNERS = {
    "smallest d_model": ("d_model", min),
    "largest d_model": ("d_model", max),
    "fewest layers": ("n_layers", min),
    "most layers": ("n_layers", max),
    "fewest heads": ("n_heads", min),
    "most heads": ("n_heads", max),
}
_DIMENSIONS = ("d_model", "n_layers", "n_heads", "d_ff")


class Corner(Record):
    """One corner of a grid; ``arch_id`` is None where the grid does not vary in that dimension."""

    name: str
    arch_id: str | None

    @property
    def exists(self) -> bool:
        """Whether the grid has this corner."""
        return self.arch_id is not None


def corners(grid: pd.DataFrame) -> tuple[Corner, ...]:
    """Find the six corners of a grid; two corners may be one row."""
    typicality = _distance_from_typical(grid)
    return tuple(
        Corner(name=name, arch_id=_corner_row(grid, typicality, dimension, pick(grid[dimension])))
        for name, (dimension, pick) in _CORNERS.items()
    )


def forced_rows(grid: pd.DataFrame) -> tuple[str, ...]:
    """Return the arch_ids of the existing corners, each once, in the order of the corners."""
    return tuple(dict.fromkeys(corner.arch_id for corner in corners(grid) if corner.arch_id is not None))


def _distance_from_typical(grid: pd.DataFrame) -> pd.DataFrame:
    """Distance of every value from its column's median, in octaves; d_ff relative to d_model.

    An option lies one octave away where it is not the most frequent one.
    """
    numbers = grid[list(_DIMENSIONS)].astype(float).assign(d_ff=grid["d_ff"] / grid["d_model"])
    octaves = pd.DataFrame(np.log2(numbers))
    options = {name: _is_unusual(grid[name]) for name in grid.columns if name not in GRID_COLUMNS}
    return (octaves - octaves.median()).abs().assign(**options)


def _is_unusual(values: pd.Series) -> pd.Series:
    keys = values.map(choice_key)
    ((usual, _),) = Counter(keys).most_common(1)
    return (keys != usual).astype(float)


def _corner_row(grid: pd.DataFrame, typicality: pd.DataFrame, dimension: str, value: int) -> str | None:
    if grid[dimension].nunique() < 2:
        return None
    others = typicality.drop(columns=dimension).sum(axis=1).round(9)
    found = pd.DataFrame({"distance": others, "arch_id": grid["arch_id"]})[grid[dimension] == value]
    return str(found.sort_values(["distance", "arch_id"])["arch_id"].iloc[0])
