import dataclasses

import numpy as np
import pytest
import torch

from finscale.core.errors import FinscaleError
from finscale.windows.batches import DeviceWindows
from finscale.windows.data import WindowData, WindowSpec
from finscale.windows.standardize import Standardizer
from finscale.windows.view import WindowView, hide_older, view_windows


@pytest.fixture
def forecast_windows() -> WindowData:
    values = np.arange(80, dtype=np.float32).reshape(20, 4)
    origins = {"train": range(4, 8), "val_select": range(8, 11), "val_score": range(11, 14), "test": (15,)}
    return WindowData(
        values=values,
        targets=np.zeros((20, 0), dtype=np.float32),
        dates=np.datetime64("2001-01-01", "ns") + np.arange(20) * np.timedelta64(1, "D"),
        origins={split: np.array(list(rows), dtype=np.int64) for split, rows in origins.items()},
        spec=WindowSpec(
            experiment="tiny",
            task="forecast",
            touch="high",
            horizon=2,
            context_length=5,
            features=("a", "b", "c", "d"),
            target_columns=("c",),
            data_hash="x",
            title="Tiny",
        ),
        standardizer=Standardizer(mean=np.arange(4.0), std=np.arange(1.0, 5.0)),
    )


def test_a_view_shows_the_last_bars_of_the_same_columns_at_the_same_origins(
    small_windows: WindowData,
) -> None:
    whole = small_windows
    seen = view_windows(whole, WindowView(features=("rsi_14", "close"), context_length=7))
    rows = torch.from_numpy(whole.origins["val_score"])
    full = DeviceWindows(whole, "cpu").gather(rows).values
    part = DeviceWindows(seen, "cpu").gather(rows).values
    assert full is not None
    assert part is not None
    torch.testing.assert_close(part, full[:, -7:, [2, 0]], rtol=0, atol=0)
    for split, origins in whole.origins.items():
        np.testing.assert_array_equal(seen.origins[split], origins)
        np.testing.assert_array_equal(seen.targets_at(split), whole.targets_at(split))


def test_a_view_keeps_the_moments_of_the_columns_that_it_shows(small_windows: WindowData) -> None:
    seen = view_windows(small_windows, WindowView(features=("rsi_14", "close")))
    assert seen.spec.features == ("rsi_14", "close")
    np.testing.assert_array_equal(seen.standardizer.mean, small_windows.standardizer.mean[[2, 0]])
    np.testing.assert_array_equal(seen.standardizer.std, small_windows.standardizer.std[[2, 0]])


def test_a_view_of_a_view_is_itself_and_no_view_is_the_windows(small_windows: WindowData) -> None:
    view = WindowView(features=("rsi_14",), context_length=7)
    once = view_windows(small_windows, view)
    twice = view_windows(once, view)
    assert twice.spec == once.spec
    np.testing.assert_array_equal(twice.values, once.values)
    assert view_windows(small_windows, None) is small_windows


@pytest.mark.parametrize(
    ("shortest", "length", "expected"), [(20, 7, 7), (5, 7, 5), (10, 7, 7), (10, 12, 10)]
)
def test_a_shorter_context_asks_for_no_more_bars_than_it_shows(
    shortest: int, length: int, expected: int, small_windows: WindowData
) -> None:
    spec = small_windows.spec.model_copy(update={"min_context_length": shortest})
    seen = view_windows(dataclasses.replace(small_windows, spec=spec), WindowView(context_length=length))
    assert (seen.spec.min_context_length, seen.spec.context_length) == (expected, length)


def test_what_the_windows_do_not_hold_is_refused_all_at_once_with_the_way_out(
    small_windows: WindowData,
) -> None:
    with pytest.raises(FinscaleError) as caught:
        view_windows(small_windows, WindowView(features=("close", "rsi_41"), context_length=21))
    parts = ("did you mean 'rsi_14'?", "at most the 20 bars", "build longer windows: data.context_length=21")
    assert all(part in str(caught.value) for part in parts), str(caught.value)


@pytest.mark.parametrize("features", [(), ("close", "close")])
def test_a_view_names_features_and_each_once(features: tuple[str, ...]) -> None:
    with pytest.raises(FinscaleError, match="each once"):
        WindowView.read({"features": features})


def test_a_forecast_column_stays_in_the_view_and_is_forecast_from_its_new_place(
    forecast_windows: WindowData,
) -> None:
    with pytest.raises(FinscaleError, match=r"hold what is forecast \(c\)"):
        view_windows(forecast_windows, WindowView(features=("a", "b")))
    seen = view_windows(forecast_windows, WindowView(features=("d", "c")))
    rows = torch.from_numpy(forecast_windows.origins["train"])
    ours, theirs = (DeviceWindows(data, "cpu").targets(rows) for data in (seen, forecast_windows))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_hidden_bars_are_masked_and_the_others_stay_where_they_were(small_windows: WindowData) -> None:
    rows = torch.from_numpy(small_windows.origins["test"])
    whole = DeviceWindows(small_windows, "cpu").gather(rows)
    hidden = DeviceWindows(hide_older(small_windows, n_shown=7), "cpu").gather(rows)
    assert whole.values is not None
    assert hidden.values is not None
    assert hidden.mask is not None
    n_bars = small_windows.spec.context_length
    assert (hidden.mask == (torch.arange(n_bars) >= n_bars - 7)).all()
    torch.testing.assert_close(hidden.values[:, -7:], whole.values[:, -7:], rtol=0, atol=0)
    assert (hidden.values[:, :-7] == 0).all()


def test_hiding_keeps_origins_and_targets_and_shows_no_bar_that_a_context_did_not_have(
    small_windows: WindowData,
) -> None:
    data = dataclasses.replace(
        small_windows,
        context_starts=np.maximum(0, np.arange(len(small_windows.dates)) - 4),
        spec=small_windows.spec.model_copy(update={"min_context_length": 5}),
    )
    hidden = hide_older(data, n_shown=7)
    np.testing.assert_array_equal(hidden.context_starts, data.context_starts)
    assert hidden.spec.min_context_length == 5
    for split, origins in data.origins.items():
        np.testing.assert_array_equal(hidden.origins[split], origins)
        np.testing.assert_array_equal(hidden.targets_at(split), data.targets_at(split))


def test_nothing_is_hidden_where_every_bar_of_the_context_is_shown(small_windows: WindowData) -> None:
    n_bars = small_windows.spec.context_length
    rows = torch.from_numpy(small_windows.origins["train"])
    assert DeviceWindows(hide_older(small_windows, n_shown=n_bars), "cpu").gather(rows).mask is None
