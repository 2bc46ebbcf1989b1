"""Windows come back from disk as they were, or a fault says why not."""

import json
from pathlib import Path

import numpy as np
import pytest

from finscale.core.errors import FinscaleError
from finscale.windows.data import WindowData, load_windows, save_windows


@pytest.fixture
def saved(tmp_path: Path, small_windows: WindowData) -> Path:
    save_windows(tmp_path / "windows", small_windows)
    return tmp_path / "windows"


def test_windows_survive_the_disk_bit_for_bit(saved: Path, small_windows: WindowData) -> None:
    found = load_windows(saved)
    assert found.spec == small_windows.spec
    assert list(found.origins) == list(small_windows.origins)
    pairs = [
        (found.values, small_windows.values),
        (found.targets, small_windows.targets),
        (found.dates, small_windows.dates),
        (found.standardizer.mean, small_windows.standardizer.mean),
        (found.standardizer.std, small_windows.standardizer.std),
        *((found.origins[split], rows) for split, rows in small_windows.origins.items()),
    ]
    for back, there in pairs:
        assert back.dtype == there.dtype
        np.testing.assert_array_equal(back, there)


def test_saving_again_replaces_what_was_there(saved: Path, small_windows: WindowData) -> None:
    save_windows(saved, small_windows)
    assert sorted(path.name for path in saved.iterdir()) == ["rows.parquet", "windows.json"]
    assert load_windows(saved).base_rate == small_windows.base_rate


def test_rows_are_readable_by_name(saved: Path, small_windows: WindowData) -> None:
    import pandas as pd

    frame = pd.read_parquet(saved / "rows.parquet")
    assert list(frame.columns) == ["date", *small_windows.spec.features, "target", "split"]
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
    import dataclasses

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
    import dataclasses

    early = small_windows.origins | {"train": np.array([18])}
    with pytest.raises(AssertionError):
        dataclasses.replace(small_windows, origins=early)
