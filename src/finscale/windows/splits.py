"""Chronological splits in which no label reaches into a later split.

t origin row, h horizon, b first row of a split, T context length.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from finscale.core.errors import Fault
from finscale.windows.data import SPLITS
from finscale.windows.experiment import SplitConfig

__all__ = ["split_faults", "split_origins"]

Origins = dict[str, NDArray[np.int64]]


def split_origins(n_rows: int, *, horizon: int, context_length: int, split: SplitConfig) -> Origins:
    """Return the origins of each split among ``n_rows`` feature rows.

    A split owns the rows from its boundary b to the next one, b'. Its origins are those rows t that have
    a whole context (t >= T - 1) and whose label ends before the gap that precedes the next split
    (t + h < b' - gap); at the end of the data, those whose label is known (t + h < n_rows). The same
    purge applies between ``val_select`` and ``val_score``.

    Raises
    ------
    Fault
        When a split is left without an origin.
    """
    starts = _boundaries(n_rows, split)
    ends = [*(start - split.gap for start in starts[1:]), n_rows]
    origins = {
        name: np.arange(max(start, context_length - 1), max(end - horizon, 0), dtype=np.int64)
        for name, start, end in zip(SPLITS, starts, ends, strict=True)
    }
    counts = {name: len(rows) for name, rows in origins.items()}
    if 0 in counts.values():
        facts = f"{counts} from {n_rows} feature rows, horizon {horizon}, context {context_length}"
        remedy = "give more bars, or a shorter horizon, context_length or gap, or other fractions"
        raise Fault("data.split", "leave origins in every split", facts, remedy)
    return origins


def _boundaries(n_rows: int, split: SplitConfig) -> list[int]:
    train, validation, _ = split.fractions
    first_validation, first_test = round(n_rows * train), round(n_rows * (train + validation))
    n_select = round((first_test - first_validation) * split.val_select_fraction)
    return [0, first_validation, first_validation + n_select, first_test]


def split_faults(origins: Mapping[str, NDArray[np.int64]], *, horizon: int, gap: int = 0) -> list[str]:
    """Return what is wrong with a split: shared origins, disorder, and labels that reach a later split."""
    names = list(origins)
    found = []
    for i, name in enumerate(names):
        for later in names[i + 1 :]:
            if np.intersect1d(origins[name], origins[later]).size:
                found.append(f"{name} and {later} share origins")
            reach = origins[name].max() + horizon + gap
            if reach >= origins[later].min():
                found.append(f"labels of {name} reach row {reach}, {later} begins at {origins[later].min()}")
    return found
