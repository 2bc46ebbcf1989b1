"""Gathered windows are the slices they stand for."""

import numpy as np
import torch

from finscale.windows.batches import DeviceWindows
from finscale.windows.data import WindowData


def test_gathered_windows_are_the_contexts_that_end_at_their_origins(small_windows: WindowData) -> None:
    length = small_windows.spec.context_length
    windows = DeviceWindows(small_windows, "cpu")
    for rows in small_windows.origins.values():
        values = windows.gather(torch.from_numpy(rows)).values
        assert values.shape == (len(rows), length, small_windows.n_features)
        for got, t in zip(values.numpy(), rows, strict=True):
            np.testing.assert_array_equal(got, small_windows.values[t - length + 1 : t + 1])


def test_targets_belong_to_their_origins_in_any_order(small_windows: WindowData) -> None:
    rows = small_windows.origins["test"][::-1].copy()
    found = DeviceWindows(small_windows, "cpu").targets(torch.from_numpy(rows))
    np.testing.assert_array_equal(found.numpy(), small_windows.targets[rows])
