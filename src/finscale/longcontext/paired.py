"""Compare two modes on the sequences that both were asked. No torch."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from finscale.core.seeding import generator
from finscale.longcontext.scoring import bootstrap_interval

__all__ = ["LEVEL", "estimated_mean", "paired_scores"]

LEVEL = 0.95
"""Of every interval that is not adjusted for several tests."""

Floats = NDArray[np.float64]
_PLACE = ["task", "length", "depth", "seed"]
_SEED = _PLACE.index("seed")


def paired_scores(rows: pd.DataFrame, first: str, second: str) -> pd.Series:
    """Return, sequence by sequence, the score of one mode less that of another; the index is the seed.

    Only places that both were asked are used; the same place is the same sequences.
    """
    one, other = _by_place(rows, first), _by_place(rows, second)
    pairs = [
        pd.Series(one[place] - other[place], index=[place[_SEED]] * len(one[place]))
        for place in one
        if place in other and len(one[place]) == len(other[place])
    ]
    return pd.concat(pairs) if pairs else pd.Series(dtype=float)


def estimated_mean(scores: pd.Series, *, level: float = LEVEL) -> tuple[float, float, float]:
    """Return a mean of sequences with its interval.

    Two intervals are drawn, and the outer ends count: the bootstrap's over sequences; and, of several seeds,
    Student's t over their means, for another training would have answered otherwise. One seed alone knows
    nothing of that. Where all scores are equal the bootstrap sees no spread; its interval is then that of an
    event that n sequences did not show, 3 / n (Hanley and Lippman-Hand 1983).
    """
    mean, means = float(scores.mean()), scores.groupby(level=0).mean()
    low, high = _over_sequences(scores.to_numpy(), level)
    if len(means) > 1:
        half = float(student.ppf((1 + level) / 2, len(means) - 1) * means.std() / np.sqrt(len(means)))
        low, high = min(low, mean - half), max(high, mean + half)
    return mean, low, high


def _over_sequences(scores: Floats, level: float) -> tuple[float, float]:
    if np.ptp(scores) == 0:
        return scores[0] - 3 / len(scores), scores[0] + 3 / len(scores)
    return bootstrap_interval(scores, rng=generator(0, "long_context", "gates"), level=level)


def _by_place(rows: pd.DataFrame, mode: str) -> dict[tuple[object, ...], Floats]:
    own = rows[rows["mode"] == mode]
    places = own[_PLACE].astype(object).where(own[_PLACE].notna(), None)
    keys = places.itertuples(index=False, name=None)
    return {key: np.asarray(scores, dtype=float) for key, scores in zip(keys, own["scores"], strict=True)}
