"""Regimes are thirds of what training saw."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from finscale.windows.data import SPLITS, WindowData, WindowSpec
from finscale.windows.regimes import REGIMES, volatility_regimes
from finscale.windows.standardize import Standardizer

N = 300


def windows(scale: NDArray[np.float64]) -> WindowData:
    return WindowData(
        values=np.zeros((N, 1), dtype=np.float32),
        targets=np.zeros(N, dtype=np.float32),
        dates=np.datetime64("2001-01-01", "ns") + np.arange(N) * np.timedelta64(1, "D"),
        origins=dict(zip(SPLITS, np.split(np.arange(N), [150, 200, 250]), strict=True)),
        spec=WindowSpec(
            experiment="tiny",
            task="regression",
            touch="high",
            horizon=1,
            context_length=1,
            features=("a",),
            data_hash="synthetic",
            title="Synthetic windows",
        ),
        standardizer=Standardizer(mean=np.zeros(1), std=np.ones(1)),
        scale=scale.astype(np.float32),
    )


def counts(data: WindowData, split: str) -> list[int]:
    found = volatility_regimes(data, data.origins[split])
    return [int((found == name).sum()) for name in REGIMES]


def test_training_rows_fall_into_equal_thirds_and_a_wild_test_into_the_last() -> None:
    scale = np.random.default_rng(0).lognormal(size=N)
    scale[250:] *= 1e3
    data = windows(scale)
    assert counts(data, "train") == [50, 50, 50]
    assert counts(data, "test") == [0, 0, 50]


def test_later_rows_do_not_move_the_borders() -> None:
    scale = np.random.default_rng(1).lognormal(size=N)
    before = volatility_regimes(windows(scale), np.arange(250))
    scale[250:] = 99
    assert (volatility_regimes(windows(scale), np.arange(250)) == before).all()


@pytest.mark.parametrize("second", [1.0, 100.0])
def test_an_instrument_is_measured_by_itself_and_a_new_one_by_all(second: float) -> None:
    scale = np.random.default_rng(2).lognormal(size=N)
    codes = np.zeros(N, dtype=np.int32)
    codes[1::2] = 1
    scale[1::2] = second * scale[::2]
    spec = windows(scale).spec.model_copy(update={"instruments": ("a", "b", "new")})
    data = dataclasses.replace(windows(scale), instruments=codes, spec=spec)
    found = volatility_regimes(data, np.arange(N))
    assert (found[::2] == found[1::2]).all()
    codes[250:] = 2
    fresh = volatility_regimes(dataclasses.replace(data, instruments=codes), data.origins["test"])
    pooled = volatility_regimes(windows(scale), data.origins["test"])
    assert (fresh == pooled).all()
