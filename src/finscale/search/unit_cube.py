"""Candidates and training dimensions as one unit cube, which is all that a sampler sees.

U unit point, (d,): the coordinates of a candidate over what the candidates span, then every training
dimension: a range on its own scale, logarithmic where it says so, and choices by their rank.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial

from finscale.search.coordinates import Coordinates
from finscale.search.dimensions import center, n_values, values_of

__all__ = ["UnitCube", "Units"]

Units = NDArray[np.float64]


@dataclass(frozen=True)
class UnitCube:
    """A search space in unit coordinates.

    Parameters
    ----------
    rows : Coordinates
        Of the candidates.
    free : mapping
        Distributions of what is drawn per trial, by name.
    """

    rows: Coordinates
    free: Mapping[str, BaseDistribution]

    @property
    def n_row_dimensions(self) -> int:
        """Leading dimensions of a point, which belong to its candidate."""
        return self.rows.points.shape[1]

    @cached_property
    def row_points(self) -> Units:
        """Unit coordinates of every candidate, (n_rows, n_row_dimensions); 0.5 where all are alike."""
        return self._scaled(self.rows.points)

    @cached_property
    def levels(self) -> tuple[Units | None, ...]:
        """Unit values of every free dimension; None where it is continuous."""
        return tuple(_levels(found) for found in self.free.values())

    def encode(self, trial: FrozenTrial) -> Units:
        """Return a trial's point; what it did not draw lies in the centre."""
        drawn = trial.params
        free = [
            _to_unit(found, drawn[name] if name in drawn else center(found))
            for name, found in self.free.items()
        ]
        return np.concatenate([self._scaled(self.rows.read(trial)), free])

    def decode(self, point: Units) -> tuple[int, dict[str, Any]]:
        """Return the candidate nearest to a point, and the values of all that is free."""
        low, width = self._span
        position = self.rows.nearest(low + point[: self.n_row_dimensions] * width)
        units = point[self.n_row_dimensions :].tolist()
        return position, {
            name: _from_unit(found, unit)
            for (name, found), unit in zip(self.free.items(), units, strict=True)
        }

    def snapped(self, free: Units) -> Units:
        """Return free units, (n, n_free), within the cube and, where values are finite, upon one of them."""
        inside = np.clip(free, 0, 1)
        for column, levels in enumerate(self.levels):
            if levels is not None:
                gaps = np.abs(inside[:, column, None] - levels)
                inside[:, column] = levels[gaps.argmin(axis=1)]
        return inside

    @cached_property
    def _span(self) -> tuple[Units, Units]:
        points = self.rows.points
        return points.min(axis=0), np.ptp(points, axis=0)

    def _scaled(self, points: Units) -> Units:
        low, width = self._span
        return np.where(width > 0, (points - low) / np.where(width > 0, width, 1), 0.5)


def _levels(found: BaseDistribution) -> Units | None:
    if not math.isfinite(n_values(found)):
        return None
    return np.array([_to_unit(found, value) for value in values_of(found) or ()])


def _to_unit(found: BaseDistribution, value: Any) -> float:
    """Place a value; one beyond the range stays beyond, so that what is known of it counts."""
    if isinstance(found, CategoricalDistribution):
        values = values_of(found) or ()
        return values.index(value) / (len(values) - 1) if len(values) > 1 else 0.5
    low, high, at = (_scale(found, number) for number in (found.low, found.high, value))
    return (at - low) / (high - low) if high > low else 0.5


def _from_unit(found: BaseDistribution, unit: float) -> Any:
    values = values_of(found)
    if values is not None:
        return min(values, key=lambda value: abs(_to_unit(found, value) - unit))
    low, high = _scale(found, found.low), _scale(found, found.high)
    at = low + min(max(unit, 0.0), 1.0) * (high - low)
    return min(max(math.exp(at) if found.log else at, found.low), found.high)


def _scale(found: BaseDistribution, number: float) -> float:
    return math.log(number) if found.log else float(number)
