"""What a model is told of the clock and the calendar of each bar."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from finscale.windows.batches import DeviceWindows
from finscale.windows.build import build_windows
from finscale.windows.calendar import calendar_fields
from finscale.windows.data import WindowData, load_windows, save_windows
from finscale.windows.experiment import ExperimentConfig

Make = Callable[..., ExperimentConfig]


@pytest.fixture(scope="module")
def session_windows(intraday_bars: pd.DataFrame, experiment: Make) -> WindowData:
    """Sessions of 8 bars, contexts of 6 that stay within them; an origin needs 3."""
    config = experiment(timescale="intraday", context_reach="session", context_length=6, min_context_length=3)
    prices = intraday_bars[["open", "high", "close"]]
    return build_windows(prices, intraday_bars, experiment=config, horizon=2, data_hash="abc")[0]


def test_a_bar_has_its_place_in_the_session_and_the_days_of_its_trading_day(
    session_windows: WindowData,
) -> None:
    found = calendar_fields(session_windows)
    assert found[:10].tolist() == [
        *[[slot, 0, 5, 5] for slot in range(8)],  # Monday, 5 January 2015
        [0, 1, 6, 6],
        [1, 1, 6, 6],
    ]
    last = pd.Timestamp(session_windows.sessions[-1])
    assert found[-1, 1:].tolist() == [last.weekday(), last.day, last.timetuple().tm_yday]


def test_daily_bars_have_no_time_of_day(small_windows: WindowData) -> None:
    found = calendar_fields(small_windows)
    assert not found[:, 0].any()
    assert set(found[:, 1]) == {0, 1, 2, 3, 4}
    assert small_windows.spec.session_bars == 1


def test_windows_know_how_long_their_longest_session_is(session_windows: WindowData, tmp_path: Path) -> None:
    assert session_windows.spec.session_bars == 8
    save_windows(tmp_path, session_windows)
    assert load_windows(tmp_path).spec.session_bars == 8


@pytest.mark.parametrize("where", ["memory", "map"])
def test_the_calendar_of_a_window_is_that_of_its_bars(
    session_windows: WindowData, where: str, tmp_path: Path
) -> None:
    data = session_windows
    if where == "map":
        save_windows(tmp_path, session_windows, max_ram_gb=0)
        data = load_windows(tmp_path)
    rows = session_windows.origins["test"]
    batch = DeviceWindows(data, "cpu", calendar=True).gather(torch.from_numpy(rows))
    assert batch.calendar.dtype == torch.int64
    for fields, mask, t in zip(batch.calendar.numpy(), batch.mask.numpy(), rows, strict=True):
        n_bars = int(mask.sum())
        np.testing.assert_array_equal(fields[6 - n_bars :], calendar_fields(data)[t - n_bars + 1 : t + 1])
        assert not fields[: 6 - n_bars].any()


def test_whole_contexts_have_their_calendar_and_no_mask(small_windows: WindowData) -> None:
    rows = small_windows.origins["test"]
    batch = DeviceWindows(small_windows, "cpu", calendar=True).gather(torch.from_numpy(rows))
    assert batch.mask is None
    for fields, t in zip(batch.calendar.numpy(), rows, strict=True):
        np.testing.assert_array_equal(fields, calendar_fields(small_windows)[t - 19 : t + 1])


def test_a_calendar_comes_only_where_it_is_asked_for(session_windows: WindowData) -> None:
    rows = torch.from_numpy(session_windows.origins["test"])
    assert DeviceWindows(session_windows, "cpu").gather(rows).calendar is None
