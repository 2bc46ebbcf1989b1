"""Does a quantile model learn what can be learned, and nothing else? A small MIGT-TVDT against known answers.

- ``garch``: daily bars of a GJR-GARCH with t shocks, whose conditional quantiles are known. The pinball loss
  is to be within 3 % of the truth's, and under climatology's by an interval that excludes 0.
- ``noise``: the same with a volatility that never changes. The plain climatology is the truth: the interval
  of the difference is to hold 0. Scaling by a measured volatility costs the scaled climatology some of its
  loss there; the difference from that one is to stay within 1 % of it, either way.
- ``eurusd``: hourly bars (``FINSCALE_TEST_DATA``), features without volume. After calibration intervals of
  50, 80 and 90 % are to cover within 3 points on the test at every horizon, with a pinball loss that is not
  above the volatility-scaled climatology's by more than the interval of the difference.
- ``collapsed``: a head that starts in units of its own, 500 times those of the targets, and may not learn:
  the flag ``collapsed`` is to be raised; started at the training quantiles, the same run raises ``constant``.

Intervals are of 95 %, by blocks of dates. Run it with ``python benchmarks/bench_quantiles.py [case ...]``.
"""

import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import pandas as pd
from scipy.stats import t as student

from finscale.archgrid.batching import split_batch
from finscale.core.budgets import Cell
from finscale.core.seeding import generator
from finscale.datasets.bars import BarsDataset
from finscale.features.compute import compute_features
from finscale.features.prepare import prepare_bars
from finscale.features.simulate import DailyProcess, SimulatedBars, simulate_daily
from finscale.metrics.probabilistic import pinball_rows
from finscale.metrics.significance import date_block_intervals
from finscale.models.config import MigtTvdtConfig
from finscale.training.config import ExecutionConfig, TrainingConfig
from finscale.training.evaluate import evaluate_run
from finscale.training.heads import with_head
from finscale.training.loop import train
from finscale.training.quantile_tables import quantile_rows, quantile_scores
from finscale.training.run_spec import Provenance, plan_run
from finscale.training.winner import SeedRun, calibrate_seed
from finscale.windows.build import build_windows
from finscale.windows.data import WindowData
from finscale.windows.experiment import DataConfig, ExperimentConfig

CPU = ExecutionConfig(device="cpu")
CONTEXT: Final = 48
DAILY = ("return_1", "log_range", "realised_vol_5", "realised_vol_20", "ewma_vol", "parkinson_vol_20")
PRICE_17 = (
    *("return_1", "garman_klass_vol", "realised_vol_12", "realised_vol_36", "realised_vol_72", "rsi_14"),
    *("macd_line_to_close", "roc_5", "roc_10", "roc_20", "ema_slope_9", "ema_slope_21", "ema_slope_50"),
    *("ema_dev_9", "ema_dev_21", "ema_dev_50", "atr_14_to_close"),
)
N_SESSIONS: Final = 9000
EPOCHS: Final = {"garch": 6, "noise": 6, "eurusd": 2, "collapsed": 1}
GENTLE: Final[dict[str, Any]] = {"learning_rate": 1e-4, "weight_decay": 0.1}
"""Of hourly rates: ten times as fast, two epochs learn overlapping returns of 24 hours by heart."""
ONE: Final = "scaled_climatology"


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model of one case: its windows, its run, and the tables of its test."""

    data: WindowData
    run: SeedRun
    rows: pd.DataFrame
    scores: pd.DataFrame

    def losses(self, horizon: int, *, forecast: str = "model", calibrated: bool = False) -> pd.Series:
        """Return the pinball loss of every test origin."""
        same = (self.rows["forecast"] == forecast) & (self.rows["calibrated"] == calibrated)
        return self.rows[same & (self.rows["horizon"] == horizon)].set_index("date")["pinball_loss"]


def windows_of(
    bars: pd.DataFrame, features: tuple[str, ...], *, horizon: int, **data: Any
) -> tuple[WindowData, ExperimentConfig]:
    block = DataConfig(task="quantile", context_length=CONTEXT, **data)
    experiment = ExperimentConfig(name="bench", title="bench", data=block)
    table = compute_features(bars, features, timescale=block.timescale).frame
    found, _ = build_windows(table, bars, experiment=experiment, horizon=horizon, data_hash="bench")
    return found, experiment


def trained(
    name: str,
    data: WindowData,
    experiment: ExperimentConfig,
    *,
    folder: Path,
    dropout: float = 0.1,
    **training: Any,
) -> Trained:
    """Train d_model 32 over T = 48, calibrate on val_score, and score the test."""
    session_bars = int(data.slots.max()) + 1
    shape = {"d_model": 32, "n_layers": 1, "n_heads": 4, "d_ff": 64, "session_bars": session_bars}
    model = with_head(MigtTvdtConfig(**shape, dropout=dropout), data.spec)
    chosen = {"learning_rate": 1e-3, "epochs": EPOCHS[name], "weight_decay": 1e-3, "warmup_steps": 50}
    spec = plan_run(
        model,
        TrainingConfig(**{**chosen, "min_delta": 0.0, **training}),
        experiment=experiment,
        cell=Cell.parse("20K", data.spec.horizon),
        n_features=data.n_features,
        batch=split_batch(64, effective_batch_size=128),
        seed=1,
        provenance=Provenance(data_hash=data.spec.data_hash),
    )
    began, cpu_began = time.perf_counter(), time.process_time()
    result = train(spec, data, directory=folder, execution=CPU)
    run = SeedRun(spec, result, evaluate_run(folder, data, execution=CPU))
    run = calibrate_seed(run, data, directory=folder, conformal=True)
    rows = quantile_rows([run], [data])
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu_began
    counts = {split: len(origins) for split, origins in data.origins.items()}
    print(
        f"\n{name}: N {result.n_params}, windows {counts}, best epoch {result.best_epoch} of "
        f"{result.stopped_epoch}, flags {result.flags}, {cpu / 60:.1f} CPU min ({wall / 60:.1f} by the clock)"
    )
    return Trained(data, run, rows, quantile_scores(rows))


def compare(ours: pd.Series, theirs: pd.Series, words: str, *, n_dates: int = 1) -> tuple[float, ...]:
    """Print and return by what share of ``theirs`` our loss is lower, and its interval."""
    difference = pd.DataFrame({"gain": theirs.to_numpy() - ours.to_numpy()}, index=ours.index)
    found = date_block_intervals(difference.groupby(level=0).mean(), horizon=n_dates, seed=0)["gain"]
    assert found.mean is not None
    assert found.low is not None
    assert found.high is not None
    shares = tuple(float(100 * x / theirs.mean()) for x in (found.mean, found.low, found.high))
    print(
        f"  {words}: lower by {shares[0]:+.2f} % of it, 95 % interval {shares[1]:+.2f} to {shares[2]:+.2f} %"
    )
    return shares


def simulated(process: DailyProcess) -> tuple[pd.DataFrame, SimulatedBars]:
    made = simulate_daily(process, generator(7, "bench_quantiles"))
    made.bars.attrs = {"calendar": process.calendar}
    return prepare_bars(made.bars, name="bars", timescale="daily"), made


def truth(data: WindowData, made: SimulatedBars, process: DailyProcess) -> pd.Series:
    """Return the pinball loss of the law that the test returns were drawn from."""
    rows, levels = data.origins["test"], data.spec.quantile_levels
    at = made.bars.index.get_indexer(pd.DatetimeIndex(data.dates[rows]))
    shape = np.sqrt((process.nu - 2) / process.nu) * student.ppf(levels, process.nu)
    quantiles = (process.mu + made.volatility[at + 1, None] * shape) / data.scale[rows, None]
    y = data.targets_at("test")[:, 0].astype(np.float64)
    return pd.Series(pinball_rows(y, quantiles, levels).mean(axis=1), index=pd.Index(data.dates[rows]))


def garch(folder: Path) -> bool:
    process = DailyProcess(n_sessions=N_SESSIONS, start="1985-01-02")
    bars, made = simulated(process)
    found = trained("garch", *windows_of(bars, DAILY, horizon=1), folder=folder)
    ours, best = found.losses(1), truth(found.data, made, process)
    excess = 100 * (ours.mean() / best.mean() - 1)
    print(f"  pinball {ours.mean():.5f} sigma, of the truth {best.mean():.5f}: {excess:+.2f} % above it")
    _, low, _ = compare(ours, found.losses(1, forecast="climatology"), "than climatology")
    compare(ours, found.losses(1, forecast=ONE), "than volatility-scaled climatology")
    return bool(excess < 3 and low > 0)


def noise(folder: Path) -> bool:
    process = DailyProcess(n_sessions=N_SESSIONS, start="1985-01-02", omega=1e-4, alpha=0, gamma=0, beta=0)
    bars, made = simulated(process)
    found = trained("noise", *windows_of(bars, DAILY, horizon=1), folder=folder)
    ours = found.losses(1)
    excess = 100 * (ours.mean() / truth(found.data, made, process).mean() - 1)
    print(f"  pinball {ours.mean():.5f} sigma, {excess:+.2f} % above the truth's")
    _, low, high = compare(ours, found.losses(1, forecast="climatology"), "than climatology")
    _, least, most = compare(ours, found.losses(1, forecast=ONE), "than volatility-scaled climatology")
    return low <= 0 <= high and -1 < least <= most < 1


def eurusd(folder: Path) -> bool:
    path = Path(os.environ["FINSCALE_TEST_DATA"]) / "eurusd_1h_mid_2007_2018.csv.gz"
    sessions = {"bars_per_session": 24, "opens_at": "17:00", "timezone": "America/New_York"}
    source = {"kind": "file", "path": str(path), "timezone": "UTC", "sessions": sessions}
    bars = prepare_bars(BarsDataset(source=source).load(), name="bars", timescale="intraday")
    horizons = (1, 6, 24)
    data = windows_of(bars, PRICE_17, horizon=6, horizons=horizons, timescale="intraday")
    found = trained("eurusd", *data, folder=folder, dropout=0.3, **GENTLE)
    table = found.scores[found.scores["regime"] == "all"]
    columns = ["forecast", "calibrated", "horizon", "pinball_loss", "skill"]
    columns += [f"coverage_{percent}" for percent in (50, 80, 90)]
    print(table[columns].to_string(index=False, float_format="%.4f"))
    ours = table[table["calibrated"]]
    misses = [100 * (ours[f"coverage_{share}"] - share / 100).abs().max() for share in (50, 80, 90)]
    print(f"  coverage of 50, 80, 90 % off by {', '.join(f'{miss:.1f}' for miss in misses)} points at most")
    no_worse = [
        compare(
            found.losses(horizon, calibrated=True),
            found.losses(horizon, forecast=ONE),
            f"at {horizon} bars than volatility-scaled climatology",
            n_dates=1 + horizon // 24,
        )[2]
        >= 0
        for horizon in horizons
    ]
    return max(misses) < 3 and all(no_worse)


def collapsed(folder: Path) -> bool:
    bars, _ = simulated(DailyProcess(n_sessions=1500))
    data, experiment = windows_of(bars, DAILY, horizon=1)
    small = dataclasses.replace(data, targets=data.targets * np.float32(0.002))
    still = {"learning_rate": 1e-9, "max_steps": 2}
    begun = trained("collapsed", small, experiment, folder=folder / "begun", **still).run.result.flags
    with patch("finscale.training.stepper.start_at_climatology", lambda model, data: None):
        raw = trained("collapsed", small, experiment, folder=folder / "raw", **still).run.result.flags
    return "collapsed" in raw and "constant" in begun and "collapsed" not in begun


CASES: dict[str, Callable[[Path], bool]] = {
    "garch": garch,
    "noise": noise,
    "eurusd": eurusd,
    "collapsed": collapsed,
}


def main(names: list[str]) -> None:
    for name in names or list(CASES):
        with tempfile.TemporaryDirectory() as folder:
            print(f"  {name}: {'met' if CASES[name](Path(folder)) else 'NOT MET'}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
