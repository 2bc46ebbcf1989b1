"""Windows come back from disk as they were, or a fault says why not."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from finscale.core.errors import FinscaleError
from finscale.windows.build import build_windows
from finscale.windows.data import WindowData, WindowSpec, load_windows, save_windows
from finscale.windows.experiment import ExperimentConfig


@pytest.fixture
def saved(tmp_path: Path, small_windows: WindowData) -> Path:
    save_windows(tmp_path / "windows", small_windows)
    return tmp_path / "windows"


ARRAYS = ("values", "targets", "dates", "sessions", "slots", "instruments", "context_starts", "scale")


def assert_same(back: WindowData, there: WindowData) -> None:
    assert back.spec == there.spec
    assert list(back.origins) == list(there.origins)
    pairs = [
        *((getattr(back, name), getattr(there, name)) for name in ARRAYS),
        (back.standardizer.mean, there.standardizer.mean),
        (back.standardizer.std, there.standardizer.std),
        *((back.origins[split], rows) for split, rows in there.origins.items()),
    ]
    for found, expected in pairs:
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    assert back.index.equals(there.index)


def test_windows_survive_the_disk_bit_for_bit(saved: Path, small_windows: WindowData) -> None:
    assert_same(load_windows(saved), small_windows)


@pytest.mark.parametrize("max_ram_gb", [None, 0])
@pytest.mark.parametrize("table", ["panel", "intraday"])
@pytest.mark.parametrize("task", ["direction", "quantile", "forecast", "regression"])
def test_every_kind_of_windows_survives_the_disk(
    table: str,
    task: str,
    max_ram_gb: float | None,
    make_panel: Callable[..., pd.DataFrame],
    intraday_bars: pd.DataFrame,
    experiment: Callable[..., ExperimentConfig],
    tmp_path: Path,
) -> None:
    bars = make_panel({"B": (0, 600), "A": (100, 900)}) if table == "panel" else intraday_bars
    settings = {"panel": {}, "intraday": {"timescale": "intraday", "context_reach": "session"}}[table]
    horizons = {"horizons": (1, 3)} if task == "quantile" else {}
    config = experiment(task, context_length=4, **settings, **horizons)
    features = bars[["open", "high", "low", "close"]]
    data = build_windows(features, bars, experiment=config, horizon=3, data_hash="abc")[0]
    assert data.index.equals(features.index)
    assert data.index.names == features.index.names
    save_windows(tmp_path, data, max_ram_gb=max_ram_gb)
    assert_same(load_windows(tmp_path), data)


def test_values_beyond_the_limit_are_read_as_a_map(saved: Path, small_windows: WindowData) -> None:
    gib = small_windows.values.nbytes / 2**30
    for limit, file, kind in ((0.99 * gib, "values.npy", np.memmap), (gib, "values.parquet", np.ndarray)):
        save_windows(saved, small_windows, max_ram_gb=limit)
        assert sorted(path.name for path in saved.iterdir()) == ["rows.parquet", file, "windows.json"]
        values = load_windows(saved).values
        assert type(values) is kind
        np.testing.assert_array_equal(values, small_windows.values)
    save_windows(saved, small_windows, max_ram_gb=0)
    with pytest.raises(ValueError, match="read-only"):
        load_windows(saved).values[0, 0] = 1


def test_a_map_may_be_saved_over_itself(saved: Path, small_windows: WindowData) -> None:
    save_windows(saved, small_windows, max_ram_gb=0)
    save_windows(saved, load_windows(saved), max_ram_gb=0)
    assert_same(load_windows(saved), small_windows)


def test_saving_again_replaces_what_was_there(saved: Path, small_windows: WindowData) -> None:
    save_windows(saved, small_windows)
    assert sorted(path.name for path in saved.iterdir()) == ["rows.parquet", "values.parquet", "windows.json"]
    assert load_windows(saved).base_rate == small_windows.base_rate


def test_rows_are_readable_by_name(saved: Path, small_windows: WindowData) -> None:
    frame = pd.read_parquet(saved / "rows.parquet")
    rows = ["date", "session", "slot", "instrument", "context_start", "scale", "split", "target"]
    assert list(frame.columns) == rows
    assert list(pd.read_parquet(saved / "values.parquet").columns) == list(small_windows.spec.features)
    counts = frame["split"].value_counts()
    assert {split: len(rows) for split, rows in small_windows.origins.items()} == counts.drop("").to_dict()


def truncate(directory: Path) -> None:
    path = directory / "rows.parquet"
    path.write_bytes(path.read_bytes()[:-100])


def swap_rows(directory: Path) -> None:
    (directory / "rows.parquet").write_bytes(b"PAR1 something else PAR1")


def foreign(directory: Path) -> None:
    (directory / "windows.json").write_text(json.dumps({"model": "a"}))


def without(key: str):
    def spoil(directory: Path) -> None:
        manifest = json.loads((directory / "windows.json").read_text())
        del manifest[key]
        (directory / "windows.json").write_text(json.dumps(manifest))

    return spoil


DAMAGE = {
    "truncated rows": (truncate, "rows.parquet must have the digest"),
    "other rows": (swap_rows, "rows.parquet must have the digest"),
    "other values": (
        lambda d: (d / "values.parquet").write_bytes(b"PAR1"),
        "values.parquet must have the digest",
    ),
    "no values": (lambda d: (d / "values.parquet").unlink(), "values.parquet must exist"),
    "no rows": (lambda d: (d / "rows.parquet").unlink(), "rows.parquet must exist"),
    "no manifest": (lambda d: (d / "windows.json").unlink(), "windows.json must exist"),
    "broken manifest": (lambda d: (d / "windows.json").write_text("{"), "windows.json must be valid JSON"),
    "foreign manifest": (foreign, "windows.json must be a finscale window manifest"),
    "list": (lambda d: (d / "windows.json").write_text("[1]"), "must be a finscale window manifest"),
    "incomplete manifest": (without("spec"), "windows.json.spec must be given"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_directory_is_a_fault(case: str, saved: Path) -> None:
    spoil, message = DAMAGE[case]
    spoil(saved)
    with pytest.raises(FinscaleError) as found:
        load_windows(saved)
    assert message in str(found.value)


def test_rows_of_a_half_finished_save_are_not_taken_for_the_old_ones(
    saved: Path, small_windows: WindowData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("finscale.windows.data.write_json", crash)
    other = dataclasses.replace(small_windows, values=small_windows.values + 1)
    with pytest.raises(KeyboardInterrupt):
        save_windows(saved, other)
    with pytest.raises(FinscaleError, match="must have the digest"):
        load_windows(saved)


def test_base_rate_is_that_of_the_training_origins(small_windows: WindowData) -> None:
    labels = [small_windows.targets[t] for t in small_windows.origins["train"]]
    assert small_windows.base_rate == pytest.approx(sum(labels) / len(labels))
    assert small_windows.n_features == 3


def test_an_origin_without_a_whole_context_cannot_be_made(small_windows: WindowData) -> None:
    early = small_windows.origins | {"train": np.array([18])}
    with pytest.raises(AssertionError):
        dataclasses.replace(small_windows, origins=early)


def test_what_is_left_out_describes_one_instrument_of_daily_bars(small_windows: WindowData) -> None:
    old = ("values", "targets", "dates", "origins", "standardizer")
    spec = WindowSpec.model_validate(small_windows.spec.model_dump(include=set(PLAIN)))
    plain = WindowData(**{name: getattr(small_windows, name) for name in old}, spec=spec)
    assert plain.spec == small_windows.spec
    for name in ("dates", "sessions", "slots", "instruments", "context_starts"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(small_windows, name))
    assert np.isnan(plain.scale).all()
    assert plain.index.equals(small_windows.index)


PLAIN = ("experiment", "task", "touch", "horizon", "context_length", "features", "data_hash", "title")


def test_a_base_rate_is_a_matter_of_binary_tasks(small_windows: WindowData) -> None:
    spec = small_windows.spec.model_copy(update={"task": "regression"})
    with pytest.raises(AssertionError):
        _ = dataclasses.replace(small_windows, spec=spec).base_rate


def test_a_forecast_without_its_rows_cannot_be_made(
    small_bars: pd.DataFrame, experiment: Callable[..., ExperimentConfig]
) -> None:
    config = experiment("forecast", context_length=12)
    data = build_windows(small_bars, small_bars, experiment=config, horizon=4, data_hash="abc")[0]
    late = data.origins | {"test": np.array([len(small_bars) - 4])}
    with pytest.raises(AssertionError):
        dataclasses.replace(data, origins=late)
