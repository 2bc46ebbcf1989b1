"""Numeric coordinates of architectures, so that a Gaussian process can tell near from far.

``shape`` log2(d_model / n_layers) over the fixed interval [-5, 10], mapped to 0..1
``size`` (N / budget - 1) / 0.25, so -1..1 over the admissible band
``log2_heads`` and ``ff_ratio`` (d_ff / d_model) as they are

The intervals are fixed: a grid that grows never moves the coordinates of an old row.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from optuna.distributions import FloatDistribution

from finscale.core.budgets import parse_budget
from finscale.core.errors import Fault

__all__ = ["COORDINATES", "DISTRIBUTIONS", "coordinates", "nearest_row", "ranges"]

_SHAPE_LOW, _SHAPE_HIGH = -5.0, 10.0
_TOLERANCE = 0.25
_WEIGHTS = np.array([10.0, 0.5, 0.7, 0.7])

DISTRIBUTIONS = {
    "shape": FloatDistribution(0.0, 1.0),
    "size": FloatDistribution(-1.0, 1.0),
    "log2_heads": FloatDistribution(0.0, 8.0),
    "ff_ratio": FloatDistribution(0.25, 16.0),
}
"""What a study records; fixed, so that a trial stays legal when its grid grows."""

COORDINATES = tuple(DISTRIBUTIONS)


def coordinates(grid: pd.DataFrame) -> np.ndarray:
    """Return the coordinates of every grid row.

    Parameters
    ----------
    grid : DataFrame
        With d_model, n_layers, n_heads, d_ff, n_params and budget (``20M`` or a count).

    Returns
    -------
    ndarray, shape (n_rows, 4)
        In the order of `COORDINATES`.

    Raises
    ------
    Fault
        When a row lies outside the fixed intervals.
    """
    shape = (np.log2(grid["d_model"] / grid["n_layers"]) - _SHAPE_LOW) / (_SHAPE_HIGH - _SHAPE_LOW)
    size = (grid["n_params"] / grid["budget"].map(parse_budget) - 1) / _TOLERANCE
    points = np.column_stack([shape, size, np.log2(grid["n_heads"]), grid["d_ff"] / grid["d_model"]])
    for column, (name, fixed) in enumerate(DISTRIBUTIONS.items()):
        values = points[:, column]
        if values.min() < fixed.low or values.max() > fixed.high:
            got = f"{values.min():.3g}..{values.max():.3g}"
            raise Fault(f"grid coordinate {name}", f"lie in {fixed.low:g}..{fixed.high:g}", got)
    return points


def nearest_row(points: np.ndarray, arch_ids: Sequence[str], target: Mapping[str, float]) -> int:
    """Return the position of the admissible row nearest to ``target``; ties go to the lowest arch_id.

    Parameters
    ----------
    points : ndarray, shape (n_rows, 4)
        From `coordinates`.
    arch_ids : sequence of str, length n_rows
        Content hashes of the same rows.
    target : mapping
        A value per coordinate.
    """
    offsets = points - np.array([target[name] for name in COORDINATES])
    distances = np.square(offsets * _WEIGHTS).sum(axis=1)
    tied = np.flatnonzero(distances == distances.min())
    return min((int(row) for row in tied), key=lambda row: arch_ids[row])


def ranges(points: np.ndarray) -> dict[str, FloatDistribution]:
    """Return the intervals that the rows really span: where a sampler should look."""
    lows, highs = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return {
        name: FloatDistribution(low, high) for name, low, high in zip(COORDINATES, lows, highs, strict=True)
    }
