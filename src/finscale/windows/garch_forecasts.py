"""The GARCH baseline's answers to the tasks, instrument by instrument.

Parameters are fitted once, on the returns between the first and the last training origin of an instrument,
and stay fixed; the variance at t then reads the returns up to t. Fit and paths read the newest 20,000 of
them. There is no diurnal factor: intraday, the
hour shows only in what the last bars did.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from finscale.windows.garch import (
    MAX_RETURNS,
    MIN_RETURNS,
    Garch,
    fit_garch,
    next_variances,
    path_statistics,
    probability_above,
    return_quantiles,
    riskmetrics,
    standardised_pairs,
)
from finscale.windows.past import Forecast, Past
from finscale.windows.tasks import parse_task
from finscale.windows.volatilities import bar_returns

__all__ = ["garch_probability", "garch_quantiles"]

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

_SEED = 0


@dataclass(frozen=True, eq=False)
class _Instrument:
    """One instrument: what was fitted on its training rows, and the variances at its evaluated origins.

    ``at`` are places among the evaluated origins; ``pairs`` as in `standardised_pairs`; ``borrows`` says
    that they are those of all instruments.
    """

    name: str
    at: NDArray[np.int64]
    model: Garch
    variances: Vector
    pairs: Matrix
    borrows: bool

    @property
    def note(self) -> str:
        """What was not the plain case, with the instrument's name in a panel."""
        facts = [self.model.status] if self.model.status else []
        if self.borrows:
            facts.append("paths from the residuals of all instruments")
        return (f"{self.name}: " if self.name and facts else "") + ", ".join(facts)


def garch_probability(past: Past) -> Forecast:
    """Forecast a binary task: in closed form for one bar's close, else by filtered historical simulation.

    Whether the high touches a level is simulated from pairs of a bar's close and high, also for one bar.
    A share of paths counts half a path for either outcome, so that none is quite 0 or 1.
    """
    spec = past.data.spec
    task = parse_task(spec.task)
    level = 0.0 if task.rise is None else float(np.log1p(task.rise))
    touches = task.rise is not None and spec.touch == "high"

    def share(ends: Vector, tops: Vector) -> list[float]:
        above = tops >= level if touches else ends >= level
        return [(above.sum() + 0.5) / (len(above) + 1)]

    def forecast(one: _Instrument) -> Matrix:
        if spec.horizon == 1 and not touches:
            return probability_above(one.model, one.variances, level)[:, None]
        return _simulated(one, share, horizon=spec.horizon)

    found = _each_instrument(past, forecast, n_columns=1)
    return Forecast(found.values[:, 0], found.note)


def garch_quantiles(past: Past) -> Forecast:
    """Forecast the quantiles (n, Q) of the scaled return at the scored horizon; simulated beyond one bar."""
    spec = past.data.spec

    def forecast(one: _Instrument) -> Matrix:
        if spec.horizon == 1:
            return return_quantiles(one.model, one.variances, spec.quantile_levels)
        return _simulated(one, lambda ends, _: np.quantile(ends, spec.quantile_levels), horizon=spec.horizon)

    found = _each_instrument(past, forecast, n_columns=len(spec.quantile_levels))
    return Forecast(found.values / past.data.scale[past.origins, None].astype(np.float64), found.note)


def _simulated(one: _Instrument, summarise: Callable[[Vector, Vector], ArrayLike], *, horizon: int) -> Matrix:
    return path_statistics(one.model, one.variances, one.pairs, summarise, horizon=horizon, seed=_SEED)


def _each_instrument(past: Past, forecast: Callable[[_Instrument], Matrix], *, n_columns: int) -> Forecast:
    values = np.full((len(past.origins), n_columns), np.nan)
    instruments = _instruments(past)
    for one in instruments:
        values[one.at] = forecast(one)
    return Forecast(values, "; ".join(one.note for one in instruments if one.note))


def _instruments(past: Past) -> list[_Instrument]:
    """Fit every instrument that is evaluated; a short training history borrows the residuals of all."""
    data = past.data
    returns, excursions = bar_returns(past.bars, timescale=data.spec.timescale)
    codes = np.unique(data.instruments)
    training = {code: _training_bars(past, code) for code in codes}
    models = {code: _fit(returns, training, code) for code in codes}
    pairs = {
        code: standardised_pairs(models[code], returns[rows], excursions[rows])[-MAX_RETURNS:]
        for code, rows in training.items()
    }
    at = {code: np.flatnonzero(data.instruments[past.origins] == code) for code in codes}
    pooled = np.concatenate(list(pairs.values()))
    borrows = {code: len(own) < min(MIN_RETURNS, len(pooled)) for code, own in pairs.items()}
    return [
        _Instrument(
            name=data.spec.instruments[code],
            at=at[code],
            model=models[code],
            variances=_variances(past, returns, models[code], past.origins[at[code]]),
            pairs=pooled if borrows[code] else pairs[code],
            borrows=borrows[code],
        )
        for code in codes
        if len(at[code])
    ]


def _training_bars(past: Past, code: int) -> slice:
    """The bars of an instrument from its first to its last training origin; none where it has no origin."""
    train = past.train[past.data.instruments[past.train] == code]
    bars = past.positions[train]
    return slice(int(bars.min()), int(bars.max()) + 1) if len(bars) else slice(0, 0)


def _fit(returns: Vector, training: dict[int, slice], code: int) -> Garch:
    own = returns[training[code]]
    if np.isfinite(own).any():
        return fit_garch(own)
    others = np.concatenate([returns[rows] for rows in training.values()])
    return riskmetrics(others, why="no training returns of its own, the others' stand in")


def _variances(past: Past, returns: Vector, model: Garch, origins: NDArray[np.int64]) -> Vector:
    """Filter an instrument's bars from the first row of its windows; return the variances at its origins."""
    data, bars = past.data, past.positions[origins]
    first = int(past.positions[data.instruments == data.instruments[origins[0]]].min())
    return next_variances(model, returns[first : bars.max() + 1])[bars - first]
