"""What a baseline may read, beside the windows: the bars that they came from, row for row.

n_rows rows of the windows, n_bars bars, n evaluated origins.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.core.errors import Fault
from finscale.windows.data import WindowData
from finscale.windows.volatilities import volatilities

__all__ = ["EVALUATED", "Forecast", "Past"]

Vector = NDArray[np.float64]
RowNumbers = NDArray[np.int64]

EVALUATED = ("val_select", "val_score", "test")


@dataclass(frozen=True, eq=False)
class Forecast:
    """What a baseline says of the evaluated origins.

    Attributes
    ----------
    values : float64 array (n,) or (n, K)
        Probabilities, scaled returns, quantiles, or values of the target columns.
    note : str
        What a reader has to know: rows left out, a fallback that stood in. Empty when there is nothing.
    """

    values: NDArray[np.float64]
    note: str = ""


@dataclass(frozen=True, eq=False)
class Past:
    """Windows and the canonical bars behind them.

    Attributes
    ----------
    data : WindowData
    bars : DataFrame (n_bars rows)
    """

    data: WindowData
    bars: pd.DataFrame

    @cached_property
    def positions(self) -> RowNumbers:
        """The bar of each row of the windows (n_rows,).

        Raises
        ------
        Fault
            When the windows were built from other bars.
        """
        found = self.bars.index.get_indexer(self.data.index)
        missing = int((found < 0).sum())
        if missing:
            remedy = "give the bars that the features were computed from"
            raise Fault("bars", "hold every row of the windows", f"{missing} rows without a bar", remedy)
        return found.astype(np.int64)

    @cached_property
    def origins(self) -> RowNumbers:
        """The evaluated origins (n,): those of val_select, val_score and test, in this order."""
        return np.concatenate([self.data.origins[split] for split in EVALUATED])

    @property
    def train(self) -> RowNumbers:
        """The training origins, rows in the order of the table."""
        return self.data.origins["train"]

    @cached_property
    def train_targets(self) -> Vector:
        """The target at the training origins, at the scored horizon (n_train,)."""
        return self.scored(self.train)

    @cached_property
    def volatility(self) -> NDArray[np.float64]:
        """The three volatilities of each row of the windows (n_rows, 3)."""
        table = volatilities(self.bars, timescale=self.data.spec.timescale)
        return table.to_numpy()[self.positions]

    def scored(self, rows: RowNumbers) -> Vector:
        """Return the targets (n,) at rows; of a quantile task, those of the horizon that is scored."""
        targets = self.data.targets[rows].astype(np.float64)
        if targets.ndim == 1:
            return targets
        return targets[:, self.data.spec.horizons.index(self.data.spec.horizon)]
