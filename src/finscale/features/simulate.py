"""Bars that no market made, with a structure that is known: a score can be held against the truth.

Volatility follows a GJR-GARCH(1, 1) over sessions (Glosten, Jagannathan and Runkle 1993), shocks are
Student t scaled to variance 1 (Bollerslev 1987). A t shock is a normal one of random size; given that size
the price inside a bar is a Brownian motion, so that open, high and low are drawn from the bridge between
two closes. Each random quantity has a stream of its own: a longer simulation begins with the shorter one.

S sessions, B bars per session, n bars in all.
"""

from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from finscale.core.config import Record
from finscale.core.errors import Fault
from finscale.features.exchange import CalendarName, sessions_from
from finscale.features.sessions import SessionRule

__all__ = [
    "BAR_MINUTES",
    "DailyProcess",
    "IntradayProcess",
    "SimulatedBars",
    "simulate_daily",
    "simulate_intraday",
]

BAR_MINUTES = 5
_FIRST_PRICE = 100.0
_SESSION_VOLUME = 1e6
_VOLUME_NOISE = 0.3

Floats = NDArray[np.float64]


class SimulatedBars(NamedTuple):
    """What was simulated, and the truth behind it.

    Attributes
    ----------
    bars : DataFrame
        ``open high low close volume`` over ``session`` or ``opened_at`` (UTC).
    volatility : array of float64, (n,)
        Standard deviation of each bar's log return (close to close), as known at the close before it. The
        return's quantile at tau is ``mean + volatility * sqrt((nu - 2) / nu) * t_nu.ppf(tau)``.
    """

    bars: pd.DataFrame
    volatility: Floats


def _as_day(day: Any) -> str:
    try:
        return str(pd.Timestamp(day).date())
    except (ValueError, TypeError):
        raise Fault("start", "be a date", day, "write 2000-01-03") from None


class _Volatility(Record):
    """Parameters that both processes share.

    Attributes
    ----------
    n_sessions : int
        S.
    start : str
        First day that may be a session.
    calendar : str
        Exchange calendar of the sessions.
    mu : float
        Mean log return of a session.
    omega, alpha, gamma, beta : float
        ``variance[t+1] = omega + (alpha + gamma * (e[t] < 0)) * e[t]**2 + beta * variance[t]``, where e is
        the session's return less mu.
    nu : float
        Degrees of freedom of the t shocks.
    overnight_share : float
        Share of a session's variance that falls between its open and the close before.
    """

    n_sessions: int = Field(default=2520, ge=2, le=50_000)
    start: Annotated[str, BeforeValidator(_as_day)] = "2000-01-03"
    calendar: CalendarName = "XNYS"
    mu: float = 2e-4
    omega: float = Field(default=2.4e-6, gt=0)
    alpha: float = Field(default=0.03, ge=0)
    gamma: float = Field(default=0.1, ge=0)
    beta: float = Field(default=0.9, ge=0)
    nu: float = Field(default=6.0, gt=2)
    overnight_share: float = Field(default=0.2, ge=0, lt=1)

    @property
    def persistence(self) -> float:
        """Share of today's variance that is left tomorrow, on average."""
        return self.alpha + self.gamma / 2 + self.beta

    @model_validator(mode="after")
    def _stationary(self) -> "_Volatility":
        if self.persistence >= 1:
            got = f"{self.alpha} + {self.gamma} / 2 + {self.beta} = {self.persistence:g}"
            remedy = "lower beta: a variance without a mean has no first value"
            raise Fault("alpha + gamma / 2 + beta", "be below 1", got, remedy)
        return self


class DailyProcess(_Volatility):
    """One bar per session; the shock of a session is one t draw."""

    process: Literal["garch_t_daily"] = "garch_t_daily"


class IntradayProcess(_Volatility):
    """Five-minute bars whose volatility is a session's level times the time of day's share.

    The shock of a bar is one t draw; a session's shock, which moves the next session's level, is their sum.
    The part between two sessions belongs to the first bar.

    Attributes
    ----------
    sessions : SessionRule
        Bars per session (B), local time of the first, timezone; by default those of NYSE.
    half_days : bool
        On the calendar's early closes a session ends after half of its bars.
    volatility_u, volume_u : float
        Depth of the day's U shape: 0 is flat; the middle of the day stands at ``1 - u`` times the mean and
        its ends at ``1 + 2 u`` (after Andersen and Bollerslev 1997, who fit Fourier terms instead).
    """

    process: Literal["intraday_sessions"] = "intraday_sessions"
    sessions: SessionRule = SessionRule(bars_per_session=78, opens_at="09:30", timezone="America/New_York")
    half_days: bool = False
    volatility_u: float = Field(default=0.4, ge=0, lt=1)
    volume_u: float = Field(default=0.6, ge=0, lt=1)

    @model_validator(mode="after")
    def _fits_in_a_day(self) -> "IntradayProcess":
        longest = 24 * 60 // BAR_MINUTES
        if self.sessions.bars_per_session > longest:
            rule = f"be at most {longest} bars of {BAR_MINUTES} minutes"
            got = self.sessions.bars_per_session
            raise Fault("sessions.bars_per_session", rule, got, f"try {longest}")
        return self


def simulate_daily(process: DailyProcess, rng: np.random.Generator) -> SimulatedBars:
    """Draw daily bars on the sessions of an exchange.

    Returns
    -------
    SimulatedBars
        With n = S bars.
    """
    days, _ = sessions_from(process.start, process.n_sessions, calendar=process.calendar)
    streams = rng.spawn(5)
    shocks, sizes = _t_shocks((len(days),), process.nu, streams)
    level = _levels(shocks, process)
    gaps = np.full(len(days), process.overnight_share)
    bars = _candles(process.mu + level * shocks, level * sizes, gaps, streams)
    bars["volume"] = _volumes(level / _mean_level(process) * sizes, streams)
    bars.index = days
    return SimulatedBars(bars, level)


def simulate_intraday(process: IntradayProcess, rng: np.random.Generator) -> SimulatedBars:
    """Draw five-minute bars in sessions.

    Returns
    -------
    SimulatedBars
        With n = S * B bars, less those that half days lack. The mean return of a bar is ``mu / B``.

    Raises
    ------
    Fault
        When a change to summer time makes two sessions overlap.
    """
    days, is_open = _slots_of(process)
    n_bars = process.sessions.bars_per_session
    streams = rng.spawn(5)
    share, gap = _variance_shares(process)
    shocks, sizes = _t_shocks(is_open.shape, process.nu, streams)
    level = _levels((np.sqrt(share) * shocks * is_open).sum(axis=1), process)
    volatility = (level[:, None] * np.sqrt(share))[is_open]
    returns = process.mu / n_bars + volatility * shocks[is_open]
    gaps = np.broadcast_to(gap, is_open.shape)[is_open]
    bars = _candles(returns, volatility * sizes[is_open], gaps, streams)
    busy = (level[:, None] / _mean_level(process) * _u_shape(n_bars, process.volume_u) / n_bars)[is_open]
    bars["volume"] = _volumes(busy * sizes[is_open], streams)
    bars.index = _opening_times(days, process.sessions)[is_open.ravel()]
    return SimulatedBars(bars, volatility)


def _slots_of(process: IntradayProcess) -> tuple[pd.DatetimeIndex, NDArray[np.bool_]]:
    """Return the sessions, (S,), and which of their slots hold a bar, (S, B)."""
    n_bars = process.sessions.bars_per_session
    days, short = sessions_from(process.start, process.n_sessions, calendar=process.calendar)
    is_open = np.ones((len(days), n_bars), dtype=np.bool_)
    if process.half_days:
        is_open[days.isin(short), n_bars // 2 :] = False
    return days, is_open


def _t_shocks(shape: tuple[int, ...], nu: float, streams: list[np.random.Generator]) -> tuple[Floats, Floats]:
    """Return t shocks of variance 1 and their sizes: given its size, a shock is normal."""
    sizes = np.sqrt((nu - 2) / streams[1].chisquare(nu, shape))
    return streams[0].standard_normal(shape) * sizes, sizes


def _levels(shocks: Floats, process: DailyProcess | IntradayProcess) -> Floats:
    """Return the volatility of each session, (S,), from the standardised shocks, (S,)."""
    variance = _mean_level(process) ** 2
    levels = np.empty(len(shocks))
    for session, shock in enumerate(shocks.tolist()):
        levels[session] = variance**0.5
        weight = process.alpha + (process.gamma if shock < 0 else 0.0)
        variance = process.omega + (weight * shock**2 + process.beta) * variance
    return levels


def _mean_level(process: DailyProcess | IntradayProcess) -> float:
    return float(np.sqrt(process.omega / (1 - process.persistence)))


def _variance_shares(process: IntradayProcess) -> tuple[Floats, Floats]:
    """Return each bar's share of its session's variance, (B,), and the overnight part of each bar, (B,)."""
    shape = _u_shape(process.sessions.bars_per_session, process.volatility_u) ** 2
    share = (1 - process.overnight_share) * shape / shape.sum()
    share[0] += process.overnight_share
    gap = np.zeros_like(share)
    gap[0] = process.overnight_share / share[0]
    return share, gap


def _u_shape(n_bars: int, depth: float) -> Floats:
    """Return the day's profile, (B,), about 1 on average."""
    middle = (np.arange(n_bars) + 0.5) / n_bars - 0.5
    return 1 + depth * (12 * middle**2 - 1)


def _candles(
    returns: Floats, spreads: Floats, gaps: Floats, streams: list[np.random.Generator]
) -> pd.DataFrame:
    """Return open, high, low and close of bars with these log returns.

    Parameters
    ----------
    returns, spreads, gaps : array of float64, (n,)
        Close to close; standard deviation of the Brownian motion over the bar; share of its variance that
        comes before the open.

    Notes
    -----
    The maximum of a bridge of variance v that ends at x has ``P(max > m) = exp(-2 m (m - x) / v)``, which is
    solved for m at a uniform draw. Maximum and minimum are each exact; they are drawn independently.
    """
    gap_noise = spreads * np.sqrt(gaps * (1 - gaps)) * streams[2].standard_normal(len(returns))
    opening = gaps * returns + gap_noise
    rise = returns - opening
    tails = -2 * (1 - gaps) * spreads**2 * np.log1p(-streams[3].random((len(returns), 2))).T
    top, bottom = (rise + np.sqrt(rise**2 + tails[0])) / 2, (rise - np.sqrt(rise**2 + tails[1])) / 2
    close = _FIRST_PRICE * np.exp(np.cumsum(returns))
    first = close * np.exp(-rise)
    ends = np.stack([first, close])
    high = np.maximum(first * np.exp(top), ends.max(axis=0))
    low = np.minimum(first * np.exp(bottom), ends.min(axis=0))
    return pd.DataFrame({"open": first, "high": high, "low": low, "close": close})


def _volumes(activity: Floats, streams: list[np.random.Generator]) -> NDArray[np.int64]:
    """Return volumes that follow the size of the moves (Clark 1973), with log-normal noise; (n,)."""
    noise = np.exp(_VOLUME_NOISE * streams[4].standard_normal(len(activity)))
    return np.rint(_SESSION_VOLUME * activity * noise).astype(np.int64)


def _opening_times(days: pd.DatetimeIndex, rule: SessionRule) -> pd.DatetimeIndex:
    """Return when each of the S * B bars opens, in UTC."""
    offsets = np.arange(rule.bars_per_session) * np.timedelta64(BAR_MINUTES, "m")
    times = rule.opening_instants(days).to_numpy(dtype="datetime64[ns]")[:, None] + offsets
    if (np.diff(times.ravel()) <= np.timedelta64(0)).any():
        got = f"{rule.bars_per_session} bars from {rule.opens_at} {rule.timezone}"
        raise Fault("sessions", "not overlap when the clock changes", got, "simulate in timezone UTC")
    return pd.DatetimeIndex(times.ravel(), name="opened_at", tz="UTC")
