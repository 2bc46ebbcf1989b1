"""Every row of the catalogue answers to a calculation written out here, and where it can to the package ta.

The written ones are recursions and windows row by row, from the first row on: they also say where a feature
begins. C, H, L, O, V columns of the bars.
"""

import itertools
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import pytest
import ta
from scipy.stats import norm

from finscale.features.catalogue import CATALOGUE

SETTLED = 300
N_ROWS = 1300

Vector = np.ndarray
Bars = pd.DataFrame


def column(bars: Bars, name: str) -> Vector:
    return bars[name].to_numpy(dtype=float)


def rolled(values: Vector, period: int, summary: Callable[[Vector], float]) -> Vector:
    result = np.full(len(values), np.nan)
    for t in range(period - 1, len(values)):
        window = values[t - period + 1 : t + 1]
        result[t] = np.nan if np.isnan(window).any() else summary(window)
    return result


def recursion(values: Vector, period: int, weight: float) -> Vector:
    """Seeded with the mean of the first ``period`` defined values."""
    result = np.full(len(values), np.nan)
    first = int(np.flatnonzero(~np.isnan(values))[0])
    seed = first + period - 1
    result[seed] = values[first : seed + 1].mean()
    for t in range(seed + 1, len(values)):
        result[t] = result[t - 1] + weight * (values[t] - result[t - 1])
    return result


def ema(values: Vector, period: int) -> Vector:
    return recursion(values, period, 2 / (period + 1))


def wilder(values: Vector, period: int) -> Vector:
    return recursion(values, period, 1 / period)


def change(values: Vector, period: int = 1) -> Vector:
    return np.r_[np.full(period, np.nan), values[period:] - values[:-period]]


def dema(close: Vector, period: int) -> Vector:
    once = ema(close, period)
    return 2 * once - ema(once, period)


def rsi(close: Vector) -> Vector:
    move = change(close)
    up, down = (wilder(np.clip(sign * move, 0, None), 14) for sign in (1, -1))
    return 100 * up / (up + down)


def place(window: Vector) -> float:
    return 100 * (window[-1] - window.min()) / (window.max() - window.min())


def stochrsi(close: Vector) -> Vector:
    return rolled(rsi(close), 5, lambda w: 0.0 if w.max() == w.min() else place(w))


def weekly(bars: Bars, indicator: Callable[[Vector], Vector]) -> Vector:
    """The indicator of the closes of all weeks that ended on a Sunday before the bar."""
    days = pd.DatetimeIndex(bars.get("session", bars.index))
    mondays = days - pd.to_timedelta(days.day_of_week, unit="D")
    closes = pd.Series(column(bars, "close")).groupby(mondays).last()
    values = pd.Series(indicator(closes.to_numpy()), closes.index).shift(1)
    return values.loc[mondays].to_numpy()


def macd(close: Vector) -> Vector:
    """Both averages begin in row 25."""
    fast = np.r_[np.full(14, np.nan), ema(close[14:], 12)]
    return fast - ema(close, 26)


def true_range(b: Bars) -> Vector:
    close, high, low = (column(b, name) for name in ("close", "high", "low"))
    before = np.r_[np.nan, close[:-1]]
    return np.maximum(high, before) - np.minimum(low, before)


def adx(b: Bars) -> Vector:
    """Wilder's sums begin with 13 bars; the index is averaged from the 14 directional values after."""
    up, down, ranges = change(column(b, "high")), -change(column(b, "low")), true_range(b)
    moves = np.array([np.where((up > down) & (up > 0), up, 0), np.where((down > up) & (down > 0), down, 0)])
    sums, spread = moves[:, 1:14].sum(axis=1), ranges[1:14].sum()
    index = np.full(len(b), np.nan)
    for t in range(14, len(b)):
        sums, spread = sums * 13 / 14 + moves[:, t], spread * 13 / 14 + ranges[t]
        plus, minus = sums / spread
        index[t] = 100 * abs(plus - minus) / (plus + minus)
    return wilder(index, 14)


def obv(b: Bars) -> Vector:
    steps = np.sign(change(column(b, "close"))) * column(b, "volume")
    return np.cumsum(np.r_[column(b, "volume")[0], steps[1:]])


def adosc(b: Bars) -> Vector:
    width = b["high"] - b["low"]
    inside = ((2 * b["close"] - b["low"] - b["high"]) / width.where(width > 0)).fillna(0)
    line = (inside * b["volume"]).cumsum()
    found = line.ewm(span=3, adjust=False).mean() - line.ewm(span=10, adjust=False).mean()
    return np.r_[np.full(9, np.nan), found[9:]]


def typical(b: Bars) -> Vector:
    return (column(b, "high") + column(b, "low") + column(b, "close")) / 3


def vwap(b: Bars) -> Vector:
    money = rolled(typical(b) * column(b, "volume"), 20, np.sum)
    return money / rolled(column(b, "volume"), 20, np.sum)


def cci(window: Vector) -> float:
    off = window - window.mean()
    return off[-1] / (0.015 * np.abs(off).mean()) if np.ptp(window) else 0.0


def stochastic(b: Bars) -> Vector:
    low, high = rolled(column(b, "low"), 14, np.min), rolled(column(b, "high"), 14, np.max)
    return 100 * (column(b, "close") - low) / (high - low)


def mfi(b: Bars) -> Vector:
    flow, move = typical(b) * column(b, "volume"), change(typical(b))
    signed = np.where(np.isnan(move), np.nan, np.sign(move) * flow)
    return rolled(signed, 14, lambda w: 100 * w[w > 0].sum() / np.abs(w).sum())


def standard_score(window: Vector) -> float:
    return (window[-1] - window.mean()) / window.std() if np.ptp(window) else 0.0


def log_return(close: Vector, period: int = 1) -> Vector:
    return change(np.log(close), period)


def realised_vol(close: Vector, period: int) -> Vector:
    return rolled(log_return(close) ** 2, period, lambda w: np.sqrt(w.mean()))


def ewma_vol(close: Vector) -> Vector:
    above, below, result = 0.0, 0.0, np.full(len(close), np.nan)
    for t, square in enumerate(log_return(close) ** 2):
        if t > 0:
            above, below = 0.94 * above + square, 0.94 * below + 1
        if t >= 20:
            result[t] = np.sqrt(above / below)
    return result


def log_range(b: Bars) -> Vector:
    return np.log(column(b, "high")) - np.log(column(b, "low"))


def close_location(b: Bars) -> Vector:
    width = column(b, "high") - column(b, "low")
    with np.errstate(invalid="ignore"):
        return np.where(width == 0, 0.5, (column(b, "close") - column(b, "low")) / width)


def garman_klass(b: Bars) -> Vector:
    body = np.log(column(b, "close")) - np.log(column(b, "open"))
    return np.sqrt(log_range(b) ** 2 / 2 - (2 * np.log(2) - 1) * body**2)


def amihud(b: Bars) -> Vector:
    money = column(b, "close") * column(b, "volume") / 1e6
    with np.errstate(divide="ignore"):
        impact = np.abs(log_return(column(b, "close"))) / money
    return rolled(impact, 12, lambda w: w[np.isfinite(w)].mean())


def band(close: Vector, n_sigma: float) -> Vector:
    return rolled(close, 20, lambda w: w.mean() + n_sigma * w.std())


def by_session(b: Bars, feature: Callable[[Bars], Vector]) -> Vector:
    return np.concatenate([feature(day) for _, day in b.groupby("session", sort=False)])


def vwap_session(b: Bars) -> Vector:
    def of_a_day(day: Bars) -> Vector:
        money, volume = np.cumsum(typical(day) * column(day, "volume")), np.cumsum(column(day, "volume"))
        return np.array([m / v if v else p for m, v, p in zip(money, volume, typical(day), strict=True)])

    return by_session(b, of_a_day)


def against_earlier_sessions(b: Bars, values: Vector) -> Vector:
    """Over the mean at the same slot of those of the 20 sessions before that had the slot."""
    days: list[dict[int, float]] = []
    result = []
    begins = b["session"] != b["session"].shift()
    for first, slot, value in zip(begins, b["slot"], values, strict=True):
        if first:
            days.append({})
        usual = [day[slot] for day in days[-21:-1] if slot in day]
        result.append(np.nan if len(days) == 1 else value / np.mean(usual) if any(usual) else 1.0)
        days[-1][slot] = value
    return np.array(result)


def orderflow(b: Bars) -> Vector:
    moves, volume = change(column(b, "close")), column(b, "volume")
    bought = norm.cdf(moves / rolled(moves, 50, np.std))
    net = rolled(volume * bought - volume * (1 - bought), 12, np.sum)
    return net / rolled(volume, 12, np.sum)


def tick_rule(close: Vector) -> Vector:
    result = [np.nan]
    for before, now in itertools.pairwise(close):
        result.append(np.sign(now - before) or (0.0 if np.isnan(result[-1]) else result[-1]))
    return np.array(result)


def corwin_schultz(b: Bars) -> Vector:
    """The formulas of the paper as they stand there, 14 to 18."""
    k, spreads = 3 - 2 * np.sqrt(2), [np.nan]
    high, low, close = (column(b, name) for name in ("high", "low", "close"))
    for t in range(1, len(b)):
        top, bottom = high[t], low[t]
        if bottom > close[t - 1]:
            top, bottom = top - (bottom - close[t - 1]), close[t - 1]
        elif top < close[t - 1]:
            top, bottom = close[t - 1], bottom + (close[t - 1] - top)
        beta = np.log(top / bottom) ** 2 + np.log(high[t - 1] / low[t - 1]) ** 2
        gamma = np.log(max(top, high[t - 1]) / min(bottom, low[t - 1])) ** 2
        alpha = (np.sqrt(2 * beta) - np.sqrt(beta)) / k - np.sqrt(gamma / k)
        spreads.append(max(0.0, 2 * (np.exp(alpha) - 1) / (1 + np.exp(alpha))))
    return rolled(np.array(spreads), 12, np.mean)


def of_close(calculation: Callable[..., Vector], *settings: float) -> Callable[[Bars], Vector]:
    return lambda b: calculation(column(b, "close"), *settings)


def of_vix(period: int, summary: Callable[[Vector], float]) -> Callable[[Bars], Vector]:
    return lambda b: rolled(column(b, "vix"), period, summary)


def to_close(oracle: Callable[[Bars], Vector]) -> Callable[[Bars], Vector]:
    return lambda b: oracle(b) / column(b, "close")


MACD = of_close(macd)
SIGNAL = of_close(lambda close: ema(macd(close), 9))
ATR = lambda b: wilder(true_range(b), 14)  # noqa: E731

WRITTEN: dict[str, Callable[[Bars], Vector]] = {
    **{name: lambda b, name=name: column(b, name) for name in ("open", "high", "low", "close", "volume")},
    **{f"dema_{n}": of_close(dema, n) for n in (9, 10, 20, 25, 90)},
    **{f"sma_{n}": of_close(rolled, n, np.mean) for n in (12, 50, 100, 200)},
    **{f"ema_{n}": of_close(ema, n) for n in (9, 21)},
    **{f"distance_to_sma_{n}": of_close(rolled, n, lambda w: w[-1] / w.mean() - 1) for n in (10, 50)},
    **{f"ema_slope_{n}": to_close(of_close(lambda c, n: change(ema(c, n)), n)) for n in (9, 21, 50)},
    **{f"ema_dev_{n}": of_close(lambda c, n: (c - ema(c, n)) / ema(c, n), n) for n in (9, 21, 50)},
    "macd_line": MACD,
    "macd_signal": SIGNAL,
    "macd_line_to_close": to_close(MACD),
    "macd_signal_to_close": to_close(SIGNAL),
    "macd_histogram_to_close": to_close(lambda b: MACD(b) - SIGNAL(b)),
    "adx_14": adx,
    **{f"return_{n}": of_close(log_return, n) for n in (1, 2, 5, 10, 20)},
    **{f"roc_{n}": of_close(rolled, n + 1, lambda w: 100 * (w[-1] - w[0]) / w[0]) for n in (5, 10, 20)},
    "rsi_14": of_close(rsi),
    "rsi_14_weekly": lambda b: weekly(b, rsi),
    "stochrsi": of_close(stochrsi),
    "stochrsi_weekly": lambda b: weekly(b, stochrsi),
    "stochastic_14": stochastic,
    "cci_20": lambda b: rolled(typical(b), 20, cci),
    "atr_14": ATR,
    "atr_14_to_close": to_close(ATR),
    "bb_upper": of_close(band, 2),
    "bb_middle": of_close(band, 0),
    "bb_lower": of_close(band, -2),
    "bb_width": of_close(rolled, 20, lambda w: 4 * w.std() / w.mean()),
    "bb_percent_b": of_close(rolled, 20, lambda w: 0.5 + standard_score(w) / 4),
    "log_range": log_range,
    "close_location": close_location,
    **{f"realised_vol_{n}": of_close(realised_vol, n) for n in (5, 12, 20, 36, 72)},
    "ewma_vol": of_close(ewma_vol),
    "parkinson_vol_20": lambda b: np.sqrt(rolled(log_range(b) ** 2, 20, np.mean) / (4 * np.log(2))),
    "garman_klass_vol": garman_klass,
    "obv": obv,
    "adosc": adosc,
    "vwap_20": vwap,
    "mfi_14": mfi,
    "log_volume": lambda b: np.log(1 + column(b, "volume")),
    "dollar_volume": lambda b: column(b, "volume") * column(b, "close"),
    "volume_ma_ratio": lambda b: rolled(column(b, "volume"), 20, lambda w: w[-1] / w.mean()),
    "volume_zscore_20": lambda b: rolled(column(b, "volume"), 20, standard_score),
    "amihud_12": amihud,
    "vwap_session": vwap_session,
    "vwap_distance": lambda b: column(b, "close") / vwap_session(b) - 1,
    "relative_volume": lambda b: against_earlier_sessions(
        b, by_session(b, lambda day: np.cumsum(column(day, "volume")))
    ),
    "orderflow_imbalance": orderflow,
    "trade_intensity": lambda b: against_earlier_sessions(b, column(b, "volume")),
    "tick_rule": of_close(tick_rule),
    "spread_proxy": corwin_schultz,
    "vix_close": of_vix(1, lambda w: w[-1]),
    **{f"vix_sma_{n}": of_vix(n, np.mean) for n in (10, 20)},
    "vix_percentile_60d": of_vix(60, lambda w: np.mean(w <= w[-1])),
    "vix_zscore_20d": of_vix(20, standard_score),
    "vix_regime": of_vix(1, lambda w: 0.0 if w[0] < 15 else 1.0 if w[0] < 25 else 2.0),
    **{f"vix_change_{n}d": of_vix(n + 1, lambda w: w[-1] - w[0]) for n in (1, 5)},
}

VOLATILITY, TREND, MOMENTUM = ta.volatility, ta.trend, ta.momentum
HLC = ("high", "low", "close")


def ta_macd(b: Bars) -> ta.trend.MACD:
    return TREND.MACD(b["close"])


def ta_bands(b: Bars) -> ta.volatility.BollingerBands:
    return VOLATILITY.BollingerBands(b["close"], 20, 2)


PACKAGE: dict[str, Callable[[Bars], pd.Series]] = {
    **{
        f"sma_{n}": lambda b, n=n: TREND.SMAIndicator(b["close"], n).sma_indicator()
        for n in (12, 50, 100, 200)
    },
    **{f"ema_{n}": lambda b, n=n: TREND.EMAIndicator(b["close"], n).ema_indicator() for n in (9, 21)},
    **{f"roc_{n}": lambda b, n=n: MOMENTUM.ROCIndicator(b["close"], n).roc() for n in (5, 10, 20)},
    "return_1": lambda b: ta.others.DailyLogReturnIndicator(b["close"]).daily_log_return() / 100,
    "rsi_14": lambda b: MOMENTUM.RSIIndicator(b["close"], 14).rsi(),
    "stochastic_14": lambda b: MOMENTUM.StochasticOscillator(*(b[n] for n in HLC), window=14).stoch(),
    "macd_line": lambda b: ta_macd(b).macd(),
    "macd_signal": lambda b: ta_macd(b).macd_signal(),
    "macd_line_to_close": lambda b: ta_macd(b).macd() / b["close"],
    "macd_signal_to_close": lambda b: ta_macd(b).macd_signal() / b["close"],
    "macd_histogram_to_close": lambda b: ta_macd(b).macd_diff() / b["close"],
    "atr_14": lambda b: VOLATILITY.AverageTrueRange(*(b[n] for n in HLC)).average_true_range(),
    "adx_14": lambda b: TREND.ADXIndicator(*(b[n] for n in HLC)).adx(),
    "cci_20": lambda b: TREND.CCIIndicator(*(b[n] for n in HLC), window=20).cci(),
    "bb_percent_b": lambda b: ta_bands(b).bollinger_pband(),
    "bb_width": lambda b: ta_bands(b).bollinger_wband() / 100,
    "bb_upper": lambda b: ta_bands(b).bollinger_hband(),
    "bb_middle": lambda b: ta_bands(b).bollinger_mavg(),
    "bb_lower": lambda b: ta_bands(b).bollinger_lband(),
    "mfi_14": lambda b: ta.volume.MFIIndicator(*(b[n] for n in (*HLC, "volume"))).money_flow_index(),
    "vwap_20": lambda b: ta.volume.VolumeWeightedAveragePrice(
        *(b[n] for n in (*HLC, "volume")), window=20
    ).volume_weighted_average_price(),
}

COLUMNS = {
    "sp500": ("open", "high", "low", "close", "volume"),
    "spy": ("open", "high", "low", "close", "volume"),
    "sp500_vix": ("vix",),
    "five_minutes": ("open", "high", "low", "close", "volume", "session", "slot"),
    "eurusd": ("open", "high", "low", "close"),
}


TOO_FEW_WEEKS = set(itertools.product(("rsi_14_weekly", "stochrsi_weekly"), ("five_minutes", "eurusd")))
LOST_DIGITS = {("bb_percent_b", "eurusd")}  # ta's running variance of such quiet prices is good to 1e-6


def readable(oracles: Iterable[str], unfit: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Each feature on each table that it can read."""
    pairs = itertools.product(oracles, COLUMNS)
    return [
        pair for pair in pairs if set(CATALOGUE[pair[0]].reads) <= set(COLUMNS[pair[1]]) and pair not in unfit
    ]


def assert_agrees(ours: Vector, oracle: Vector) -> None:
    np.testing.assert_allclose(ours, oracle, rtol=1e-7, atol=1e-9 * np.nanmean(np.abs(oracle)))


def test_every_row_of_the_catalogue_has_an_oracle() -> None:
    assert set(WRITTEN) == set(CATALOGUE)


@pytest.mark.parametrize(("name", "table"), readable(WRITTEN, TOO_FEW_WEEKS))
def test_a_feature_is_what_is_written_here_from_its_first_row(
    name: str, table: str, request: pytest.FixtureRequest
) -> None:
    bars = request.getfixturevalue(table).iloc[:N_ROWS]
    assert_agrees(CATALOGUE[name].function(bars), WRITTEN[name](bars))


@pytest.mark.parametrize(("name", "table"), readable(PACKAGE, LOST_DIGITS))
def test_an_indicator_agrees_with_the_package_ta_once_it_has_settled(
    name: str, table: str, request: pytest.FixtureRequest
) -> None:
    bars = request.getfixturevalue(table)
    oracle = PACKAGE[name](bars).to_numpy(dtype=float)
    assert_agrees(CATALOGUE[name].function(bars)[SETTLED:], oracle[SETTLED:])
