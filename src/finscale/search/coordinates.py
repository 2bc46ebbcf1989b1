"""Numeric coordinates of candidate architectures, so that a sampler can tell near from far.

``shape`` log2(d_model / n_layers) over the fixed interval [-5, 10], mapped to 0..1
``size`` (N / budget - 1) / 0.25, so -1..1 over the admissible band
``log2_heads`` and ``ff_ratio`` (d_ff / d_model) as they are
``rank`` of every option of model or data that varies: its place among the values it takes

The intervals of the first four are fixed: a grid that grows never moves the coordinates of an old row. A
study records these four as parameters; options it records by value, among the attributes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial

from finscale.core.budgets import parse_budget
from finscale.core.errors import Fault
from finscale.search.dimensions import are_numbers, choice_key

__all__ = ["COORDINATES", "DISTRIBUTIONS", "Coordinates", "coordinates"]

_SHAPE_LOW, _SHAPE_HIGH = -5.0, 10.0
_TOLERANCE = 0.25
_WEIGHTS = (10.0, 0.5, 0.7, 0.7)
_RANK_WEIGHT = 1.0

DISTRIBUTIONS = {
    "shape": FloatDistribution(0.0, 1.0),
    "size": FloatDistribution(-1.0, 1.0),
    "log2_heads": FloatDistribution(0.0, 8.0),
    "ff_ratio": FloatDistribution(0.25, 16.0),
}
"""What a study records; fixed, so that a trial stays legal when its grid grows."""

COORDINATES = tuple(DISTRIBUTIONS)


def coordinates(grid: pd.DataFrame) -> NDArray[np.float64]:
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


@dataclass(frozen=True)
class Coordinates:
    """Where every candidate of a cell lies, options included.

    Parameters
    ----------
    points : float array, (n_rows, 4 + n_options)
        In the order of the table; `COORDINATES`, then the ranks of options.
    arch_ids : tuple of str
        Content hashes of the same rows.
    ranks : mapping
        Of every option that varies: the rank of each value, by what equal values share.
    """

    points: NDArray[np.float64]
    arch_ids: tuple[str, ...]
    ranks: Mapping[str, Mapping[str, int]]

    @classmethod
    def of(cls, table: pd.DataFrame, options: Sequence[str] = ()) -> "Coordinates":
        """Place the rows of a table of candidates.

        Parameters
        ----------
        table : DataFrame
            See `coordinates`; with arch_id, and the options.
        options : sequence of str
            Columns of row dimensions and of indices of linked groups; one with a single value adds nothing.
        """
        every = {name: _ranks(table[name].tolist()) for name in options}
        ranks = {name: found for name, found in every.items() if len(found) > 1}
        columns = [[found[choice_key(value)] for value in table[name]] for name, found in ranks.items()]
        points = np.column_stack([coordinates(table), *columns])
        return cls(points, tuple(map(str, table["arch_id"])), ranks)

    def nearest(self, point: NDArray[np.float64]) -> int:
        """Return the position of the row nearest to ``point``; ties go to the lowest arch_id.

        Parameters
        ----------
        point : float array, (4 + n_options,)
            Distances along it are weighted: shape by 10, size by 0.5, heads and ff_ratio by 0.7, ranks by 1.
        """
        weights = np.array([*_WEIGHTS, *(_RANK_WEIGHT for _ in self.ranks)])
        distances = np.square((self.points - point) * weights).sum(axis=1)
        tied = np.flatnonzero(distances == distances.min())
        return min((int(row) for row in tied), key=lambda row: self.arch_ids[row])

    def read(self, trial: FrozenTrial) -> NDArray[np.float64]:
        """Return where a trial lies; an option that no row takes lies in the middle of those they take."""
        own = [trial.params[name] for name in COORDINATES]
        ranks = [
            found.get(choice_key(trial.user_attrs.get(name)), (len(found) - 1) / 2)
            for name, found in self.ranks.items()
        ]
        return np.array([*own, *ranks], dtype=np.float64)


def _ranks(values: Sequence[object]) -> dict[str, int]:
    """Rank values: numbers in rising order, anything else in the order in which it first appears."""
    seen = {choice_key(value): value for value in values}
    order = sorted(seen, key=float) if are_numbers(tuple(seen.values())) else list(seen)
    return {key: rank for rank, key in enumerate(order)}
