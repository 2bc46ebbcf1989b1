"""Compare two modes on the sequences that both were asked. No torch."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.core.seeding import generator
from finscale.longcontext.scoring import bootstrap_interval

__all__ = ["LEVEL", "Floats", "estimated_mean", "paired_scores"]

LEVEL = 0.95
"""Of every interval that is not adjusted for several tests."""

Floats = NDArray[np.float64]
_PLACE = ["task", "length", "depth", "seed"]


def paired_scores(rows: pd.DataFrame, first: str, second: str) -> Floats:
    """Return, sequence by sequence, the score of one mode less that of another.

    Only places that both were asked are used; the same place is the same sequences.
    """
    one, other = _by_place(rows, first), _by_place(rows, second)
    pairs = [
        one[place] - other[place] for place in one if place in other and len(one[place]) == len(other[place])
    ]
    return np.concatenate(pairs) if pairs else np.empty(0)


def estimated_mean(scores: Floats, *, level: float = LEVEL) -> tuple[float, float, float]:
    """Return a mean of sequences with its bootstrap interval.

    Where all scores are equal the bootstrap sees no spread; the interval is then that of an event that n
    sequences did not show, 3 / n (Hanley and Lippman-Hand 1983).
    """
    mean = float(scores.mean())
    if np.ptp(scores) == 0:
        return mean, mean - 3 / len(scores), mean + 3 / len(scores)
    rng = generator(0, "long_context", "gates")
    return mean, *bootstrap_interval(scores, rng=rng, level=level)


def _by_place(rows: pd.DataFrame, mode: str) -> dict[tuple[object, ...], Floats]:
    own = rows[rows["mode"] == mode]
    places = own[_PLACE].astype(object).where(own[_PLACE].notna(), None)
    keys = places.itertuples(index=False, name=None)
    return {key: np.asarray(scores, dtype=float) for key, scores in zip(keys, own["scores"], strict=True)}
