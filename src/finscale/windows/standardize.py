"""Moments fitted on training rows only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Standardizer"]

_CONSTANT = 1e-12


@dataclass(frozen=True, eq=False)
class Standardizer:
    """Subtract the mean and divide by the standard deviation of each feature.

    Attributes
    ----------
    mean, std : float64 array (F,)
        Moments of the training rows; ``std`` is 1 where a feature never moved there.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    @classmethod
    def fit(cls, training_rows: NDArray[np.float64]) -> "Standardizer":
        """Fit on rows (n, F): those up to and including the last training origin, and no other."""
        mean = training_rows.mean(axis=0)
        std = training_rows.std(axis=0)
        moves = std > _CONSTANT * np.maximum(1.0, np.abs(mean))
        return cls(mean=mean, std=np.where(moves, std, 1.0))

    def transform(self, rows: NDArray[np.float64]) -> NDArray[np.float32]:
        """Standardise rows (n, F) in double precision, then round once to float32."""
        return ((rows - self.mean) / self.std).astype(np.float32)
