"""Gathered windows are the slices they stand for."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from finscale.windows.batches import DeviceWindows
from finscale.windows.build import build_windows
from finscale.windows.data import WindowData, load_windows, save_windows
from finscale.windows.experiment import ExperimentConfig

Make = Callable[..., ExperimentConfig]


@pytest.fixture(scope="module")
def session_windows(intraday_bars: pd.DataFrame, experiment: Make) -> WindowData:
    """Contexts of 6 bars that stay in their session; an origin needs 3."""
    config = experiment(timescale="intraday", context_reach="session", context_length=6, min_context_length=3)
    prices = intraday_bars[["open", "high", "close"]]
    return build_windows(prices, intraday_bars, experiment=config, horizon=2, data_hash="abc")[0]


@pytest.fixture(scope="module")
def forecast_windows(small_bars: pd.DataFrame, experiment: Make) -> WindowData:
    config = experiment("forecast", context_length=12, target_columns=("close", "open"))
    prices = small_bars[["open", "high", "low", "close"]]
    return build_windows(prices, small_bars, experiment=config, horizon=4, data_hash="abc")[0]


def mapped(data: WindowData, folder: Path) -> WindowData:
    save_windows(folder, data, max_ram_gb=0)
    found = load_windows(folder)
    assert isinstance(found.values, np.memmap)
    return found


@pytest.mark.parametrize("where", ["memory", "map"])
def test_gathered_windows_are_the_contexts_that_end_at_their_origins(
    small_windows: WindowData, where: str, tmp_path: Path
) -> None:
    data = small_windows if where == "memory" else mapped(small_windows, tmp_path)
    length = data.spec.context_length
    windows = DeviceWindows(data, "cpu")
    for rows in data.origins.values():
        batch = windows.gather(torch.from_numpy(rows))
        assert batch.mask is None
        assert batch.values.shape == (len(rows), length, data.n_features)
        for got, t in zip(batch.values.numpy(), rows, strict=True):
            np.testing.assert_array_equal(got, small_windows.values[t - length + 1 : t + 1])


def test_changing_a_batch_changes_no_data(small_windows: WindowData) -> None:
    before = small_windows.values.copy()
    windows, rows = DeviceWindows(small_windows, "cpu"), torch.from_numpy(small_windows.origins["test"])
    windows.gather(rows).values.add_(1)
    windows.targets(rows).add_(1)
    np.testing.assert_array_equal(small_windows.values, before)


@pytest.mark.parametrize("where", ["memory", "map"])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_context_shows_its_own_session_and_masks_the_rest(
    session_windows: WindowData, where: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    known = session_windows
    if where == "map":
        known = mapped(known, tmp_path_factory.getbasetemp() / "session_windows")
    rows = np.concatenate(list(known.origins.values()))
    picked = np.array(data.draw(st.lists(st.sampled_from(rows.tolist()), min_size=1, max_size=9)))
    batch = DeviceWindows(known, "cpu").gather(torch.from_numpy(picked))
    for values, mask, t in zip(batch.values.numpy(), batch.mask.numpy(), picked, strict=True):
        same = known.sessions[max(t - 5, 0) : t + 1] == known.sessions[t]
        n_bars = int(same.sum())
        assert n_bars == min(6, known.slots[t] + 1) >= 3
        assert mask.tolist() == [False] * (6 - n_bars) + [True] * n_bars
        np.testing.assert_array_equal(values[6 - n_bars :], session_windows.values[t - n_bars + 1 : t + 1])
        assert not values[: 6 - n_bars].any()


def test_targets_belong_to_their_origins_in_any_order(small_windows: WindowData) -> None:
    rows = small_windows.origins["test"][::-1].copy()
    found = DeviceWindows(small_windows, "cpu").targets(torch.from_numpy(rows))
    np.testing.assert_array_equal(found.numpy(), small_windows.targets[rows])


@pytest.mark.parametrize("where", ["memory", "map"])
def test_a_forecast_is_asked_for_the_rows_after_its_context(
    forecast_windows: WindowData, where: str, tmp_path: Path
) -> None:
    data = forecast_windows if where == "memory" else mapped(forecast_windows, tmp_path)
    for rows in data.origins.values():
        found = DeviceWindows(data, "cpu").targets(torch.from_numpy(rows)).numpy()
        assert found.shape == (len(rows), 4, 2)
        for got, t in zip(found, rows, strict=True):
            np.testing.assert_array_equal(got, forecast_windows.values[t + 1 : t + 5][:, [3, 0]])


def test_quantile_targets_come_as_a_row_of_horizons(small_bars: pd.DataFrame, experiment: Make) -> None:
    config = experiment("quantile", context_length=12, horizons=(1, 5, 20))
    data = build_windows(small_bars, small_bars, experiment=config, horizon=5, data_hash="abc")[0]
    rows = data.origins["val_score"]
    found = DeviceWindows(data, "cpu").targets(torch.from_numpy(rows))
    assert found.shape == (len(rows), 3)
    np.testing.assert_array_equal(found.numpy(), data.targets[rows])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_device_hands_out_the_windows_of_the_host(
    session_windows: WindowData, small_windows: WindowData, tmp_path: Path
) -> None:
    for data in (session_windows, small_windows, mapped(small_windows, tmp_path)):
        rows = torch.from_numpy(data.origins["train"])
        host, device = (
            DeviceWindows(data, "cpu").gather(rows),
            DeviceWindows(data, "cuda").gather(rows.cuda()),
        )
        assert torch.equal(device.values.cpu(), host.values)
        assert (device.mask is None) == (host.mask is None)
        assert device.values.is_cuda
