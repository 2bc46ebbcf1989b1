"""Windows as catalog entries: their preview, the memory limit of conf, and folds that must all be there."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from finscale.datasets.windows import LaterFoldsDataset, WindowsDataset
from finscale.windows.build import build_windows
from finscale.windows.data import WindowData
from finscale.windows.experiment import DataConfig, ExperimentConfig, SplitConfig, WalkForward


@pytest.fixture(scope="module")
def make_folds() -> Callable[..., list[WindowData]]:
    close = 100 * np.exp(np.random.default_rng(0).normal(0, 0.01, 1500).cumsum())
    bars = pd.DataFrame(
        {"high": close, "close": close}, index=pd.bdate_range("2010-01-01", periods=1500, name="session")
    )

    def make(task: str, split: SplitConfig, n_folds: int = 1) -> list[WindowData]:
        config = ExperimentConfig(
            name="x", title="t", data=DataConfig(task=task, split=split, context_length=5)
        )
        return [
            build_windows(bars, bars, experiment=config, horizon=1, data_hash="abc", fold=fold)[0]
            for fold in range(n_folds)
        ]

    return make


def test_a_preview_of_sequences_names_the_first_and_the_last(tmp_path: Path) -> None:
    clock = pd.DatetimeIndex(np.tile(np.arange(9), 20).astype("datetime64[s]").astype("datetime64[ns]"))
    ids = np.repeat([f"s{20 - k}" for k in range(20)], 9)
    levels = pd.MultiIndex.from_arrays([ids, clock], names=["instrument", "position"])
    symbols = pd.DataFrame({"symbol": np.arange(180) % 3.0}, index=levels)
    symbols.attrs = {"kind": "series", "vocabularies": {"symbol": ["a", "b", "c"]}}
    config = ExperimentConfig(name="x", title="t", data=DataConfig(task="classes", context_length=4))
    windows, _ = build_windows(symbols, symbols, experiment=config, horizon=1, data_hash="abc")
    entry = WindowsDataset(filepath=str(tmp_path / "windows"))
    entry.save(windows)
    rows = [row[1:] for row in entry.preview()["data"]]
    assert rows == [
        [70, "s20", "s7", "-"],
        [10, "s6", "s5", "-"],
        [5, "s4", "s4", "-"],
        [15, "s3", "s1", "-"],
    ]


def test_a_preview_tells_each_split(make_folds: Callable[..., list[WindowData]], tmp_path: Path) -> None:
    entry = WindowsDataset(filepath=str(tmp_path / "windows"))
    (windows,) = make_folds("direction", SplitConfig())
    entry.save(windows)
    rows = entry.preview()["data"]
    assert [row[0] for row in rows] == ["train", "val_select", "val_score", "test"]
    assert rows[0][1:] == [1045, "2010-01-07", "2014-01-08", round(windows.base_rate, 4)]
    (forecast,) = make_folds("forecast", SplitConfig(val_select_fraction=1.0))
    entry.save(forecast)
    assert [(row[0], row[-1]) for row in entry.preview()["data"]] == [
        ("train", "-"),
        ("val_select", "-"),
        ("test", "-"),
    ]


def test_values_beyond_the_limit_of_conf_are_mapped(
    make_folds: Callable[..., list[WindowData]], tmp_path: Path
) -> None:
    (windows,) = make_folds("direction", SplitConfig())
    for limit, kind in ((1e-9, np.memmap), (1.0, np.ndarray), (None, np.ndarray)):
        entry = WindowsDataset(filepath=str(tmp_path / "windows"), max_ram_gb=limit)
        entry.save(windows)
        assert type(entry.load().values) is kind


def test_folds_are_there_only_when_all_of_them_are(
    make_folds: Callable[..., list[WindowData]], tmp_path: Path
) -> None:
    folder = str(tmp_path / "windows")
    first, later = WindowsDataset(filepath=folder), LaterFoldsDataset(filepath=folder, max_ram_gb=1e-9)
    assert not later.exists()
    folds = make_folds("direction", SplitConfig(walk_forward=WalkForward(n_folds=3)), 3)
    first.save(folds[0])
    assert not later.exists()
    later.save(folds[1:])
    assert later.exists()
    assert [type(windows.values) for windows in later.load()] == [np.memmap, np.memmap]
    assert [windows.spec.fold for windows in later.load()] == [1, 2]
    (tmp_path / "windows" / "fold_2" / "windows.json").unlink()
    assert not later.exists()


def test_without_a_walk_forward_there_are_no_later_folds(
    make_folds: Callable[..., list[WindowData]], tmp_path: Path
) -> None:
    first, later = (kind(filepath=str(tmp_path)) for kind in (WindowsDataset, LaterFoldsDataset))
    first.save(make_folds("direction", SplitConfig())[0])
    later.save([])
    assert later.exists()
    assert later.load() == []
