"""Windows that end at bars whose future is not known yet: contexts without labels or splits.

n_rows feature rows, n origins.
"""

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.core.errors import Fault
from finscale.features.segments import segment_ids
from finscale.windows.data import SPLITS, WindowData, target_shape
from finscale.windows.rows import place_rows
from finscale.windows.spec import WindowSpec
from finscale.windows.standardize import Standardizer

__all__ = ["unlabelled_windows"]


def unlabelled_windows(
    features: pd.DataFrame, bars: pd.DataFrame, *, spec: WindowSpec, standardizer: Standardizer
) -> tuple[WindowData, NDArray[np.int64]]:
    """Return the windows of new bars as a finished run would see them, and every row (n,) that ends one.

    Parameters
    ----------
    features : DataFrame
        The features of ``spec``, of these bars.
    bars : DataFrame
        Canonical bars; their instruments need not be those of the run.
    spec, standardizer
        Of the run.

    Raises
    ------
    Fault
        When no bar has a context that is long enough.
    """
    segments = segment_ids(bars.index, timescale=spec.timescale)
    reach: Literal["series", "session"] = "session" if spec.context_reach == "session" else "series"
    rows = place_rows(features.index, bars, segments=segments, context_reach=reach)
    n_bars = np.arange(len(rows)) - rows.context_starts + 1
    origins = np.flatnonzero(n_bars >= spec.min_context_length)
    if not len(origins):
        rule = f"have {spec.min_context_length} bars in a row after the warm-up of the features"
        raise Fault("bars", rule, f"{n_bars.max()}", "give a longer history")
    windows = WindowData(
        values=standardizer.transform(features.to_numpy(dtype=np.float64)),
        targets=np.full((len(rows), *target_shape(spec)), np.nan, dtype=np.float32),
        dates=rows.dates,
        origins={split: np.empty(0, dtype=np.int64) for split in SPLITS},
        spec=spec.model_copy(update={"instruments": rows.names}),
        standardizer=standardizer,
        sessions=rows.sessions,
        slots=rows.slots,
        instruments=rows.instruments,
        context_starts=rows.context_starts,
    )
    return windows, origins
