"""Mean differences of losses over dates, with both noises that a context sweep has: of dates and of training.

Dates are drawn in blocks, the same for all contexts. What another seed would have given is drawn beside them:
the losses of trainings that differ in their seed alone scatter by s, pooled over the contexts (nu degrees of
freedom), so that a mean over m of them carries ``s t(nu) / sqrt(m)`` (Behrens 1929; Fisher 1935). No torch.

B draws, K contexts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.core.config import Record
from finscale.core.multiplicity import adjust_tests
from finscale.core.seeding import generator
from finscale.metrics.significance import date_block_draws

__all__ = ["LEVEL", "Difference", "Draws", "SeedNoise", "differences", "seed_noise"]

LEVEL = 0.05
"""Of every family of tests, and left out by all intervals of a family together."""

Floats = NDArray[np.float64]


class Difference(Record):
    """A mean difference of losses over shared dates.

    Attributes
    ----------
    mean, low, high : float or None
        Of the difference, with its interval; the intervals of one family hold together at 95 % (Bonferroni).
        None with too few dates.
    p_value, adjusted : float or None
        Of no difference, two-sided, from the same draws; and after Holm's adjustment within the family.
    """

    mean: float | None
    low: float | None
    high: float | None
    p_value: float | None
    adjusted: float | None
    n_dates: int

    @property
    def is_positive(self) -> bool:
        """Whether the difference is detectably above zero."""
        return self._is_told and self.mean is not None and self.mean > 0

    @property
    def is_negative(self) -> bool:
        """Whether the difference is detectably below zero."""
        return self._is_told and self.mean is not None and self.mean < 0

    @property
    def _is_told(self) -> bool:
        return self.adjusted is not None and self.adjusted <= LEVEL


@dataclass(frozen=True)
class Draws:
    """How the differences of one split are drawn.

    Attributes
    ----------
    horizon : int
        Of the labels, in bars.
    """

    horizon: int
    seed: int
    n_draws: int


@dataclass(frozen=True)
class SeedNoise:
    """Scatter of mean losses over seeds.

    Attributes
    ----------
    sd : float
        Standard deviation between seeds of one context, pooled over the contexts.
    dof : int
        Its degrees of freedom.
    n_seeds : mapping
        Trainings behind the mean of each context.
    """

    sd: float
    dof: int
    n_seeds: Mapping[Any, int]

    def draw(self, contexts: list[Any], *, against: int | None, draws: Draws) -> Floats:
        """Return the noise of the mean of each context (B, K), less that of ``against`` where it is given."""
        rng = generator(draws.seed, "seed_noise")
        scale = self.sd * np.sqrt(self.dof / rng.chisquare(self.dof, (draws.n_draws, 1)))
        own = rng.standard_normal((draws.n_draws, len(contexts)))
        own /= np.sqrt([self.n_seeds[n_bars] for n_bars in contexts])
        if against is not None:
            own -= rng.standard_normal((draws.n_draws, 1)) / np.sqrt(self.n_seeds[against])
        return np.asarray(scale * own)


def seed_noise(losses: pd.DataFrame, column: str) -> SeedNoise | None:
    """Measure how trainings that differ in their seed alone scatter; None with one seed each.

    Parameters
    ----------
    losses : DataFrame
        With context_length, seed and the losses of one split.
    """
    means = losses.groupby(["context_length", "seed"])[column].mean()
    by_context = means.groupby(level="context_length")
    n_seeds = by_context.size()
    dof = int((n_seeds - 1).sum())
    if dof == 0:
        return None
    squares = (means - by_context.transform("mean")).pow(2).sum()
    return SeedNoise(sd=float(np.sqrt(squares / dof)), dof=dof, n_seeds=n_seeds.to_dict())


def differences(
    table: pd.DataFrame, draws: Draws, *, noise: SeedNoise | None = None, against: int | None = None
) -> dict[Any, Difference]:
    """Bound and test the mean of every column, as one family.

    Parameters
    ----------
    table : DataFrame
        One row per date, one column per context: a difference of losses.
    noise : SeedNoise or None
        Of the trainings behind the columns; None where they are taken as they are.
    against : int or None
        The context that the columns were compared with, where that was a training too.
    """
    shared, contexts = table.dropna(), list(table.columns)
    if not contexts:
        return {}
    drawn = date_block_draws(shared, horizon=draws.horizon, seed=draws.seed, n_draws=draws.n_draws)
    means = {n_bars: float(shared[n_bars].mean()) if len(shared) else None for n_bars in contexts}
    if drawn is None:
        nothing = {"low": None, "high": None, "p_value": None, "adjusted": None, "n_dates": len(shared)}
        return {n_bars: Difference(mean=mean, **nothing) for n_bars, mean in means.items()}
    values = drawn.to_numpy() + (noise.draw(contexts, against=against, draws=draws) if noise else 0.0)
    level = LEVEL / len(contexts)
    low, high = np.quantile(values, [level / 2, 1 - level / 2], axis=0)
    tests = adjust_tests(_p_values(values, means), method="holm", level=LEVEL)
    return {
        n_bars: Difference(
            mean=means[n_bars],
            low=float(low[k]),
            high=float(high[k]),
            p_value=tests[k].p_value,
            adjusted=tests[k].adjusted,
            n_dates=len(shared),
        )
        for k, n_bars in enumerate(contexts)
    }


def _p_values(values: Floats, means: Mapping[Any, float | None]) -> dict[str, float | None]:
    """Share of draws as far from their centre as that is from zero, counting the data as one more."""
    centre = np.array(list(means.values()), dtype=np.float64)
    further = (np.abs(values - centre) >= np.abs(centre)).sum(axis=0)
    return {str(name): (1 + int(n)) / (1 + len(values)) for name, n in zip(means, further, strict=True)}
