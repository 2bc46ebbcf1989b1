"""Calm, middling or wild: the thirds of the trailing volatility that training saw.

n origins.
"""

import numpy as np
from numpy.typing import NDArray

from finscale.windows.data import WindowData

__all__ = ["REGIMES", "volatility_regimes"]

REGIMES = ("low", "middle", "high")


def volatility_regimes(data: WindowData, rows: NDArray[np.int64]) -> NDArray[np.object_]:
    """Return the regime (n,) of each origin: the third of its instrument's training volatilities it falls in.

    The two borders are fixed on training origins, so that later rows may all be wild. An instrument without
    training origins is measured by those of all.
    """
    train = data.origins["train"]
    regimes = np.empty(len(rows), dtype=object)
    for code in np.unique(data.instruments[rows]):
        own = train[data.instruments[train] == code]
        borders = np.quantile(data.scale[own if len(own) else train].astype(np.float64), [1 / 3, 2 / 3])
        at = data.instruments[rows] == code
        places = np.searchsorted(borders, data.scale[rows[at]].astype(np.float64), side="right")
        regimes[at] = np.array(REGIMES, dtype=object)[places]
    return regimes
