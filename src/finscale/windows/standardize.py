"""Moments fitted on training rows only."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

__all__ = ["Standardizer"]

_CONSTANT = 1e-12
_CHUNK = 65_536


@dataclass(frozen=True, eq=False)
class Standardizer:
    """Subtract the mean and divide by the standard deviation of each feature.

    Attributes
    ----------
    mean, std : float64 array (F,)
        Moments of the training rows; ``std`` is 1 where a feature never moved there. Of a bounded feature
        that is left alone, the middle and half the width of its bounds: it is shown from -1 to 1.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    @classmethod
    def fit(
        cls,
        training_rows: NDArray[np.float64],
        *,
        bounds: Mapping[int, tuple[float, float]] = MappingProxyType({}),
    ) -> "Standardizer":
        """Fit on rows (n, F): those up to and including the last training origin, and no other.

        Parameters
        ----------
        bounds : mapping
            Column to its lowest and highest value, for those that are not fitted.
        """
        mean = training_rows.mean(axis=0)
        std = training_rows.std(axis=0)
        moves = std > _CONSTANT * np.maximum(1.0, np.abs(mean))
        std = np.where(moves, std, 1.0)
        for column, (low, high) in bounds.items():
            mean[column], std[column] = (low + high) / 2, (high - low) / 2
        return cls(mean=mean, std=std)

    def transform(self, rows: NDArray[np.float64]) -> NDArray[np.float32]:
        """Standardise rows (n, F) in double precision, then round once to float32.

        Chunk by chunk: beside ``rows`` and the result only a few MB are taken.
        """
        standard = np.empty(rows.shape, dtype=np.float32)
        for begin in range(0, len(rows), _CHUNK):
            chunk = slice(begin, begin + _CHUNK)
            standard[chunk] = (rows[chunk] - self.mean) / self.std
        return standard
