"""How long feature sets take, beside the package ta, and the memory of a million bars.

Run with ``python benchmarks/bench_features.py``. Each part runs in a process of its own, so that its peak
resident memory is its own; the bars in memory are part of it. Targets: a25 over 8,000 daily bars under
50 ms; intraday24 over 1,000,000 five-minute bars under 3 s and under 2 GB.
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import ta
import yaml

from finscale.features.compute import compute_features
from finscale.features.prepare import prepare_bars
from finscale.features.simulate import DailyProcess, IntradayProcess, simulate_daily, simulate_intraday

CONF = Path(__file__).parents[1] / "conf" / "base" / "parameters_feature_engineering.yml"
DAILY_BARS, FIVE_MINUTE_BARS = 8_000, 1_000_000
DAILY = ("a25", "stationary25")
INTRADAY = ("intraday_price17", "intraday24", "intraday_micro25")


def main() -> None:
    for part in ("daily", *INTRADAY):
        subprocess.run([sys.executable, __file__, part], check=True)


def run(part: str) -> None:
    if part == "daily":
        bars = daily_bars()
        for name in DAILY:
            tell(name, bars, best_of(lambda name=name: features(bars, name, "daily"), repeats=7))
        tell("of a25, what ta has, by ta", bars, best_of(lambda: ta_indicators(bars), repeats=3))
        return
    bars = five_minute_bars()
    before = peak_gib()
    seconds = best_of(lambda: features(bars, part, "intraday"), repeats=1)
    tell(part, bars, seconds)
    print(f"    peak memory {peak_gib():.2f} GiB, of which {before:.2f} GiB before the features")


def features(bars: pd.DataFrame, feature_set: str, timescale: str) -> None:
    names = yaml.safe_load(CONF.read_text())["feature_sets"][feature_set]
    compute_features(bars, names, timescale=timescale)


def ta_indicators(bars: pd.DataFrame) -> None:
    """Compute the 19 indicators of a25 that the package ta has: the reference, on the same machine."""
    high, low, close, volume = (bars[name] for name in ("high", "low", "close", "volume"))
    for period in (9, 10, 20, 25, 90):
        once = ta.trend.EMAIndicator(close, period).ema_indicator()
        2 * once - ta.trend.EMAIndicator(once, period).ema_indicator()
    for period in (12, 50, 100, 200):
        ta.trend.SMAIndicator(close, period).sma_indicator()
    week = bars.groupby(bars.index.to_period("W")).last()["close"]
    for prices in (close, week):
        ta.momentum.RSIIndicator(prices).rsi()
        ta.momentum.StochRSIIndicator(prices, 14, 5, 3).stochrsi()
    ta.trend.MACD(close).macd()
    ta.volume.OnBalanceVolumeIndicator(close, volume).on_balance_volume()
    ta.volatility.AverageTrueRange(high, low, close).average_true_range()
    ta.trend.ADXIndicator(high, low, close).adx()
    ta.volatility.BollingerBands(close).bollinger_pband()
    ta.volume.VolumeWeightedAveragePrice(high, low, close, volume, 20).volume_weighted_average_price()


def best_of(task: Callable[[], None], *, repeats: int) -> float:
    """Return the shortest of ``repeats`` times in seconds."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        task()
        times.append(time.perf_counter() - started)
    return min(times)


def tell(what: str, bars: pd.DataFrame, seconds: float) -> None:
    print(f"{what}: {len(bars):,} bars in {1e3 * seconds:,.1f} ms")


def peak_gib() -> float:
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes / 2**20 if sys.platform != "darwin" else kibibytes / 2**30


def daily_bars() -> pd.DataFrame:
    simulated = simulate_daily(
        DailyProcess(n_sessions=DAILY_BARS, start="1985-01-02"), np.random.default_rng(0)
    )
    return prepare_bars(simulated.bars, name="simulated")


def five_minute_bars() -> pd.DataFrame:
    """Return a million bars; the 12,821 sessions they need are longer than the exchange's calendar."""
    process = IntradayProcess(n_sessions=2_000, start="2010-01-04")
    bars = simulate_intraday(process, np.random.default_rng(0)).bars
    bars.attrs = {"sessions": process.sessions.model_dump()}
    part = prepare_bars(bars, name="simulated", timescale="intraday")
    n_parts = -(-FIVE_MINUTE_BARS // len(part))
    days = pd.bdate_range("1970-01-05", periods=n_parts * 2_000)
    session = days.repeat(78)[:FIVE_MINUTE_BARS]
    rows = np.tile(np.arange(len(part)), n_parts)[:FIVE_MINUTE_BARS]
    repeated = part.iloc[rows].assign(session=session)
    clock = pd.to_timedelta(14.5 * 3600 + 300.0 * repeated["slot"].to_numpy(), unit="s")
    repeated.index = (session + clock).tz_localize("UTC").rename("opened_at")
    return repeated


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run(sys.argv[1])
    else:
        main()
