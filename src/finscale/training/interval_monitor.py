"""Do forecast intervals say anything? What they raise flags for, horizon by horizon. No torch.

n windows, Q levels; y outcomes, q forecast quantiles, c (Q,) the training quantiles, W the widest central
interval whose two levels are forecast. All in the units of the targets, returns over trailing volatility.

Targets have their volatility taken out, so that honest intervals are about as wide as c on average, wherever
and whenever they are forecast. Four things are not honest, and make a forecast **collapsed**:

- W covers under half of what it names. Constant quantiles c cover fewer rows than they name in a market that
  has grown wilder, but not half as many: trailing volatility follows within weeks.
- W is under a quarter as wide as c's and covers under its share by more than 10 points. To be that narrow
  honestly a forecast would have to explain 94 % of the variance (1 - 1/16).
- W is over four times as wide as c's: it covers everything and says nothing.
- q is constant and is not c. **Constant** means that over the windows no quantile has a standard deviation of
  a thousandth of c's outermost spread. That alone is no fault: on pure noise c *is* the right answer. The
  price of saying q where c holds is its pinball loss on the training targets over c's own: above 1 %, as a
  shift by a seventh of a standard deviation costs under a normal law, it is not c.

**suspicious_skill**: the median alone has an absolute error more than 2 % below that of the training median.
Knowing the volatility does not help a median; that gain is one of direction, as large as the 0.012 nats from
which a direction forecast is suspicious (under a normal law both are a correlation of about 0.2 between
forecast and outcome). It is asked only of 250 windows that do not overlap: fewer could agree so well by
chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finscale.metrics.conformal import level_pairs
from finscale.metrics.probabilistic import pinball_loss
from finscale.training.result import Flag

__all__ = ["HorizonHealth", "horizon_health", "interval_flags"]

LEAST_COVERAGE_SHARE: Final = 0.5
LEAST_WIDTH_SHARE: Final = 0.25
MOST_WIDTH_SHARE: Final = 4.0
SHORT_OF_NOMINAL: Final = 0.1
CONSTANT_SHARE: Final = 1e-3
MISPLACED_SHARE: Final = 0.01
SUSPICIOUS_SHARE: Final = 0.02
SUSPICIOUS_WINDOWS: Final = 250
MEDIAN: Final = 0.5
_FLAT = 1e-12

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class HorizonHealth:
    """How the quantiles of one horizon are.

    Attributes
    ----------
    width_share, coverage, nominal : float or None
        Of the widest interval: its mean width over that of the training quantiles, the share of rows it
        covers, and the share it names; None where no level has a partner.
    is_constant, is_misplaced : bool
        See the module.
    median_skill : float or None
        1 - absolute error of the median over that of the training median; None where it is not forecast, or
        on too few windows.
    """

    width_share: float | None
    coverage: float | None
    nominal: float | None
    is_constant: bool
    is_misplaced: bool
    median_skill: float | None

    @property
    def is_collapsed(self) -> bool:
        """Whether one of the four holds."""
        return self.is_misplaced or self._misses or self._says_nothing

    @property
    def _misses(self) -> bool:
        if self.width_share is None or self.coverage is None or self.nominal is None:
            return False
        short = self.coverage < self.nominal - SHORT_OF_NOMINAL
        narrow = self.width_share < LEAST_WIDTH_SHARE
        return (short and narrow) or self.coverage < LEAST_COVERAGE_SHARE * self.nominal

    @property
    def _says_nothing(self) -> bool:
        return self.width_share is not None and self.width_share > MOST_WIDTH_SHARE


def horizon_health(
    y: Vector, q: Matrix, *, train: Vector, levels: Sequence[float], horizon: int
) -> HorizonHealth:
    """Return how forecasts (n, Q) of the rows y (n,) are, beside the training targets of the same horizon."""
    own = np.quantile(train, levels)
    is_constant = bool(q.std(axis=0).max() < CONSTANT_SHARE * _spread(train, own))
    width_share, covered, nominal = _widest(y, q, own, levels)
    return HorizonHealth(
        width_share=width_share,
        coverage=covered,
        nominal=nominal,
        is_constant=is_constant,
        is_misplaced=is_constant and _price(train, q.mean(axis=0), own, levels) > MISPLACED_SHARE,
        median_skill=_median_skill(y, q, own, levels) if len(y) >= SUSPICIOUS_WINDOWS * horizon else None,
    )


def interval_flags(healths: Sequence[HorizonHealth]) -> tuple[Flag, ...]:
    """Return the flags that the horizons of one forecast raise: one collapsed horizon is enough."""
    collapsed = any(health.is_collapsed for health in healths)
    skills = [health.median_skill for health in healths if health.median_skill is not None]
    found: list[tuple[Flag, bool]] = [
        ("collapsed", collapsed),
        ("constant", not collapsed and all(health.is_constant for health in healths)),
        ("suspicious_skill", max(skills, default=0.0) > SUSPICIOUS_SHARE),
    ]
    return tuple(flag for flag, raised in found if raised)


def _spread(train: Vector, own: Vector) -> float:
    return float(own[-1] - own[0]) if len(own) > 1 else float(train.std())


def _widest(
    y: Vector, q: Matrix, own: Vector, levels: Sequence[float]
) -> tuple[float | None, float | None, float | None]:
    """Width over that of the training quantiles, coverage, and the share named, of the widest interval."""
    pairs = level_pairs(levels)
    if not pairs:
        return None, None, None
    low, high = pairs[0]
    covered = (q[:, low] <= y) & (y <= q[:, high])
    width = float((q[:, high] - q[:, low]).mean())
    share = width / max(float(own[high] - own[low]), _FLAT)
    return share, float(covered.mean()), float(levels[high] - levels[low])


def _price(train: Vector, said: Vector, own: Vector, levels: Sequence[float]) -> float:
    """What constant quantiles lose on the training targets over what the training quantiles lose, less 1."""
    shape = (len(train), len(own))
    losses = [pinball_loss(train, np.broadcast_to(row, shape), levels) for row in (said, own)]
    return losses[0] / max(losses[1], _FLAT) - 1


def _median_skill(y: Vector, q: Matrix, own: Vector, levels: Sequence[float]) -> float | None:
    if MEDIAN not in levels:
        return None
    at = list(levels).index(MEDIAN)
    errors, reference = np.abs(y - q[:, at]).mean(), np.abs(y - own[at]).mean()
    return float(1 - errors / max(reference, _FLAT))
