"""How long the index of a million windows takes; how much faster than a DataLoader they are gathered.

Run with ``python benchmarks/bench_windows.py``; one thread. The device part needs CUDA and says so without.
"""

import time
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from finscale.windows.batches import DeviceWindows
from finscale.windows.build import build_windows, index_windows
from finscale.windows.data import WindowData
from finscale.windows.experiment import DataConfig, ExperimentConfig

N_BARS, BARS_PER_SESSION, WARM_UP = 1_000_000, 288, 71
CONTEXT_LENGTH, N_FEATURES, BATCH_SIZE, N_BATCHES = 60, 25, 128, 500
N_DAILY_BARS, N_REPEATS = 5_031, 5
TASKS = {
    "direction": {},
    "threshold_1pct": {},
    "regression": {},
    "quantile": {"horizons": (1, 5, 20)},
    "direction, reach session": {"context_reach": "session", "min_context_length": 24},
}


def main() -> None:
    torch.set_num_threads(1)
    bars = make_bars(N_BARS)
    for name, settings in TASKS.items():
        data = DataConfig(
            task=name.split(",")[0], timescale="intraday", context_length=CONTEXT_LENGTH, **settings
        )
        print(f"index of {N_BARS:,} bars, {name}: {time_index(bars, data):.3f} s")
    for n_bars in (N_DAILY_BARS, N_BARS):
        windows = make_windows(bars.iloc[:n_bars])
        compare_gathering(windows, "cpu")
        if torch.cuda.is_available():
            compare_gathering(windows, "cuda")
    if not torch.cuda.is_available():
        print("gathering on a device: no CUDA here, not measured")


def make_bars(n_bars: int) -> pd.DataFrame:
    """Return five-minute bars of sessions without an end."""
    rng = np.random.default_rng(0)
    close = 100 * np.exp(rng.normal(0, 1e-3, n_bars).cumsum())
    opened_at = pd.date_range(
        "2010-01-01", periods=n_bars, freq="5min", tz="UTC", name="opened_at", unit="ns"
    )
    prices = {"open": close, "high": close * 1.001, "low": close * 0.999, "close": close}
    sessions = opened_at.tz_localize(None).normalize()
    slots = np.arange(n_bars, dtype=np.int32) % BARS_PER_SESSION
    return pd.DataFrame({**prices, "session": sessions, "slot": slots}, index=opened_at)


def time_index(bars: pd.DataFrame, data: DataConfig, repeats: int = 5) -> float:
    """Return the best of ``repeats`` times in seconds: labels, contexts, splits and their check."""
    best = float("inf")
    for _ in range(repeats):
        # a fresh index, as after reading a file: pandas remembers what it once looked up
        index = pd.DatetimeIndex(bars.index.asi8.copy(), tz="UTC", name="opened_at")
        table = bars.set_axis(index)
        started = time.perf_counter()
        index_windows(index[WARM_UP:], table, data=data, horizon=5 if data.horizons else 3)
        best = min(best, time.perf_counter() - started)
    return best


def make_windows(bars: pd.DataFrame) -> WindowData:
    """Return windows of random features."""
    values = np.random.default_rng(1).standard_normal((len(bars), N_FEATURES))
    features = pd.DataFrame(values, index=bars.index, columns=[f"f{i}" for i in range(N_FEATURES)])
    data = DataConfig(task="direction", timescale="intraday", context_length=CONTEXT_LENGTH)
    experiment = ExperimentConfig(name="bench", title="Benchmark", data=data)
    return build_windows(features, bars, experiment=experiment, horizon=3, data_hash="bench")[0]


class Windows(Dataset[tuple[Tensor, Tensor]]):
    """The plain way: one window by one slice."""

    def __init__(self, data: WindowData, origins: np.ndarray) -> None:
        self.values, self.targets = torch.from_numpy(data.values), torch.from_numpy(data.targets)
        self.origins = origins

    def __len__(self) -> int:
        return len(self.origins)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        t = int(self.origins[i])
        return self.values[t - CONTEXT_LENGTH + 1 : t + 1], self.targets[t]


def compare_gathering(data: WindowData, device: str) -> None:
    """Print the best batches a second of both ways, in turns, shuffled anew, over the same windows."""
    train = data.origins["train"]
    origins = train[:: max(1, len(train) // (N_BATCHES * BATCH_SIZE))]
    n_epochs = -(-N_BATCHES * BATCH_SIZE // len(origins))
    loader = DataLoader(Windows(data, origins), batch_size=BATCH_SIZE, shuffle=True, num_workers=0)
    gathered, on_device = DeviceWindows(data, device), torch.from_numpy(origins).to(device)
    pairs = [
        (
            batches_per_second(from_device(gathered, on_device, n_epochs), device),
            batches_per_second(from_loader(loader, n_epochs, device), device),
        )
        for _ in range(N_REPEATS)
    ]
    ours, plain = (max(rates) for rates in zip(*pairs, strict=True))
    print(
        f"{len(origins):,} windows of {CONTEXT_LENGTH} x {N_FEATURES} out of {len(data.values):,} rows on "
        f"{device}, {BATCH_SIZE} a batch: {ours:,.0f} batches/s gathered, {plain:,.0f} by DataLoader, "
        f"{ours / plain:.1f} times; same windows: {are_same(data, gathered, origins, device)}"
    )


def from_loader(loader: DataLoader, n_epochs: int, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    for _ in range(n_epochs):
        for values, targets in loader:
            yield values.to(device), targets.to(device)


def from_device(windows: DeviceWindows, origins: Tensor, n_epochs: int) -> Iterator[tuple[Tensor, Tensor]]:
    for _ in range(n_epochs):
        order = torch.randperm(len(origins), device=origins.device)
        for rows in origins[order].split(BATCH_SIZE):
            yield windows.gather(rows).values, windows.targets(rows)


def are_same(data: WindowData, windows: DeviceWindows, origins: np.ndarray, device: str) -> bool:
    """Whether both ways hand out the same numbers, over the first batches in order."""
    loader = DataLoader(Windows(data, origins[: 10 * BATCH_SIZE]), batch_size=BATCH_SIZE)
    batches = torch.from_numpy(origins[: 10 * BATCH_SIZE]).to(device).split(BATCH_SIZE)
    return all(
        torch.equal(values.to(device), windows.gather(rows).values)
        and torch.equal(targets.to(device), windows.targets(rows))
        for (values, targets), rows in zip(loader, batches, strict=True)
    )


def batches_per_second(batches: Iterable[object], device: str) -> float:
    """Return how many batches a second an iteration yields."""
    started = time.perf_counter()
    n_batches = sum(1 for _ in batches)
    if device == "cuda":
        torch.cuda.synchronize()
    return n_batches / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
