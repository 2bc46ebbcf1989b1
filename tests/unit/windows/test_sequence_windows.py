"""Windows of labels and of sequences: what is asked, what is shown, and which sequences are held out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from finscale.core.errors import Fault, FinscaleError
from finscale.windows.baselines import baseline_scores, baseline_table
from finscale.windows.batches import DeviceWindows
from finscale.windows.build import build_windows
from finscale.windows.data import SPLITS, WindowData, load_windows, save_windows
from finscale.windows.experiment import ExperimentConfig, SplitConfig, WalkForward
from finscale.windows.rows import place_rows
from finscale.windows.splits import split_faults

Make = Callable[..., ExperimentConfig]

T, H = 4, 2
VOCABULARIES = {"kind": ["a", "b", "c"], "stars": [1, 5]}
LENGTHS = (9, 12, 8, 30, 10, 11, 9, 14, 8, 10, 12, 9, 13, 10, 9, 11, 10, 12, 8, 20)


def sequences(*columns: str, lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> pd.DataFrame:
    """Checked sequences s19, s18, ... with a price and two columns of codes."""
    random, names = np.random.default_rng(seed), [f"s{len(lengths) - k}" for k in range(len(lengths))]
    n, ids = sum(lengths), np.repeat(names, lengths)
    positions = np.concatenate([k + np.arange(length) for k, length in enumerate(lengths)])
    clock = pd.DatetimeIndex(positions.astype("datetime64[s]").astype("datetime64[ns]"))
    items = pd.DataFrame(
        {
            "price": random.standard_normal(n),
            "kind": random.integers(0, 3, n).astype(float),
            "stars": random.integers(0, 2, n).astype(float),
        },
        index=pd.MultiIndex.from_arrays([ids, clock], names=["instrument", "position"]),
    )[list(columns)]
    found = {name: labels for name, labels in VOCABULARIES.items() if name in columns}
    items.attrs = {"kind": "series", "vocabularies": found}
    return items


def windows_of(items: pd.DataFrame, make: Make, **data: Any) -> WindowData:
    config = make(**{"task": "classes", "context_length": T, **data})
    return build_windows(items, items, experiment=config, horizon=H, data_hash="abc")[0]


@pytest.fixture
def mixed(experiment: Make) -> WindowData:
    items = sequences("stars", "price", "kind")
    return windows_of(items, experiment, target_columns=("kind", "stars"), min_context_length=2)


@pytest.fixture
def symbols(experiment: Make) -> WindowData:
    return windows_of(sequences("kind"), experiment)


def test_the_target_of_a_class_is_the_label_h_rows_later_in_the_same_sequence(mixed: WindowData) -> None:
    items = sequences("stars", "price", "kind")
    assert (mixed.spec.target_columns, mixed.spec.n_classes) == (("kind", "stars"), (3, 2))
    for rows in mixed.origins.values():
        np.testing.assert_array_equal(mixed.targets[rows], items[["kind", "stars"]].to_numpy()[rows + H])
        assert (mixed.instruments[rows] == mixed.instruments[rows + H]).all()
    last = np.flatnonzero(np.diff(mixed.instruments, append=-1))
    assert np.isnan(mixed.targets[last]).all()
    targets = DeviceWindows(mixed, "cpu").targets(torch.from_numpy(mixed.origins["test"]))
    assert targets.dtype == torch.int64
    np.testing.assert_array_equal(targets.numpy(), mixed.targets_at("test"))


def test_without_a_choice_every_categorical_column_is_asked_for(experiment: Make) -> None:
    data = windows_of(sequences("stars", "price", "kind"), experiment)
    assert (data.spec.target_columns, data.spec.n_classes) == (("stars", "kind"), (2, 3))


def test_every_sequence_belongs_to_one_split_in_the_order_of_first_appearance(mixed: WindowData) -> None:
    owners = {split: set(mixed.instruments[rows].tolist()) for split, rows in mixed.origins.items()}
    assert owners == {"train": {*range(14)}, "val_select": {14, 15}, "val_score": {16}, "test": {17, 18, 19}}
    assert mixed.spec.instruments[0] == "s20"
    for name in range(20):
        rows = np.flatnonzero(mixed.instruments == name)
        split = next(split for split in SPLITS if name in owners[split])
        assert set(rows[1:-H]) == set(mixed.origins[split]) & set(rows.tolist())


@pytest.mark.parametrize("shortest", [2, T])
@pytest.mark.parametrize("where", ["memory", "disk", "map"])
def test_no_context_reaches_into_the_sequence_before_it(
    shortest: int, where: str, experiment: Make, tmp_path: Path
) -> None:
    items = sequences("stars", "price", "kind")
    data = windows_of(items, experiment, min_context_length=shortest)
    save_windows(tmp_path, data, max_ram_gb=0 if where == "map" else None)
    windows = DeviceWindows(data if where == "memory" else load_windows(tmp_path), "cpu")
    for rows in data.origins.values():
        batch = windows.gather(torch.from_numpy(rows))
        assert (batch.values.shape, batch.categories.shape) == ((len(rows), T, 1), (len(rows), T, 2))
        assert batch.tokens is None
        mask = np.ones((len(rows), T), dtype=bool) if batch.mask is None else batch.mask.numpy()
        for k, t in enumerate(rows):
            own = [s for s in range(max(t - T + 1, 0), t + 1) if data.instruments[s] == data.instruments[t]]
            n_before = T - len(own)
            assert n_before <= T - shortest
            assert mask[k].tolist() == [False] * n_before + [True] * len(own)
            expected = items[["stars", "kind"]].to_numpy()[own]
            np.testing.assert_array_equal(batch.categories[k, n_before:].numpy(), expected)
            assert not batch.categories[k, :n_before].any()
            np.testing.assert_array_equal(batch.values[k, n_before:, 0], data.values[own, 0])


def test_a_single_categorical_column_is_shown_as_symbols(symbols: WindowData) -> None:
    rows, codes = symbols.origins["val_select"], sequences("kind")["kind"].to_numpy()
    batch = DeviceWindows(symbols, "cpu").gather(torch.from_numpy(rows))
    assert (batch.values, batch.categories, batch.mask) == (None, None, None)
    assert batch.tokens.dtype == torch.int64
    np.testing.assert_array_equal(batch.tokens, codes[rows[:, None] + np.arange(1 - T, 1)])
    assert (symbols.n_features, symbols.spec.shows_symbols, symbols.spec.n_labels) == (0, True, (3,))


def test_moments_are_those_of_real_valued_columns_in_training_sequences(mixed: WindowData) -> None:
    prices = sequences("price")["price"].to_numpy()[mixed.instruments < 14]
    last = mixed.origins["train"].max()
    assert mixed.spec.features == ("price",)
    # the last h items of a sequence end no training window, but those before the last sequence are between
    ends = np.flatnonzero(np.diff(mixed.instruments, append=-1))[:14]
    kept = np.setdiff1d(np.arange(last + 1), [row - k for row in ends for k in range(H)])
    np.testing.assert_allclose(mixed.standardizer.mean, prices[kept].mean(), rtol=1e-12)


@pytest.mark.parametrize("max_ram_gb", [None, 0])
@pytest.mark.parametrize("columns", [("kind",), ("kind", "stars"), ("price", "stars", "kind")])
def test_windows_of_labels_survive_the_disk(
    columns: tuple[str, ...], max_ram_gb: float | None, experiment: Make, tmp_path: Path
) -> None:
    data = windows_of(sequences(*columns), experiment)
    save_windows(tmp_path, data, max_ram_gb=max_ram_gb)
    back = load_windows(tmp_path)
    assert back.spec == data.spec
    for name in ("values", "categories", "targets", "instruments", "sessions", "dates"):
        found, expected = getattr(back, name), getattr(data, name)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape), name
        np.testing.assert_array_equal(found, expected)
    assert back.index.equals(sequences(*columns).index)
    assert back.index.names == ["instrument", "position"]


def test_without_categories_a_model_of_real_values_is_asked_the_same(mixed: WindowData) -> None:
    plain, rows = mixed.without_categories(), torch.from_numpy(mixed.origins["test"])
    batch = DeviceWindows(plain, "cpu").gather(rows)
    assert batch.categories is None
    assert torch.equal(batch.values, DeviceWindows(mixed, "cpu").gather(rows).values)
    assert torch.equal(DeviceWindows(plain, "cpu").targets(rows), DeviceWindows(mixed, "cpu").targets(rows))
    assert plain.spec.vocabularies == mixed.spec.vocabularies


def test_the_base_rate_says_the_frequencies_of_training(mixed: WindowData) -> None:
    kinds, stars = mixed.targets_at("train").T.astype(int)
    shares = [(kinds == k).mean() for k in range(3)] + [(stars == k).mean() for k in range(2)]
    np.testing.assert_allclose(mixed.class_rates, shares)
    table = baseline_table(mixed, sequences("stars", "price", "kind"))
    y = mixed.targets_at("test").astype(int)
    test = table[table["split"] == "test"]
    np.testing.assert_allclose(test["log_loss_kind"], -np.log(np.array(shares)[y[:, 0]]))
    np.testing.assert_allclose(test["log_loss_stars"], -np.log(np.array(shares)[3 + y[:, 1]]))
    scores = baseline_scores(table).set_index("split").loc["test"]
    assert scores["log_loss"] == pytest.approx((test["log_loss_kind"] + test["log_loss_stars"]).mean() / 2)
    assert test["date"].nunique() == test["instrument"].nunique() == 3


def test_a_series_is_asked_for_classes_by_the_clock(experiment: Make) -> None:
    random, days = np.random.default_rng(0), pd.bdate_range("2015-01-01", periods=300, name="session")
    regimes = pd.DataFrame({"regime": random.integers(0, 3, 300).astype(float)}, index=days)
    regimes.attrs = {"kind": "series", "vocabularies": {"regime": ["a", "b", "c"]}}
    data = windows_of(regimes, experiment)
    assert data.origins["train"].tolist() == list(range(T - 1, 210 - H))
    rows = place_rows(days, regimes, segments=np.zeros(300, dtype=np.int64), context_reach="series")
    fold = {"split": SplitConfig(), "horizon": H, "min_context_length": T}
    assert split_faults(data.origins, rows, **fold) == []


@pytest.mark.parametrize(
    ("split", "name"),
    [
        (SplitConfig(gap=1), "gap"),
        (SplitConfig(dates=("2010-01-01", "2011-01-01")), "dates"),
        (SplitConfig(walk_forward=WalkForward(n_folds=2)), "walk_forward"),
    ],
)
def test_a_division_of_time_is_refused_where_there_is_no_clock(
    split: SplitConfig, name: str, experiment: Make
) -> None:
    rule = rf"data.split.{name} must be left out where a table holds sequences without a clock"
    with pytest.raises(Fault, match=rule):
        windows_of(sequences("kind"), experiment, split=split)


def relabelled(split: str, data: WindowData, code: float) -> pd.DataFrame:
    """The same symbols, but in the sequences of one split all of one label that none other has."""
    items = sequences("kind")
    codes = np.minimum(items["kind"].to_numpy(), 1)
    codes[np.isin(data.instruments, data.instruments[data.origins[split]])] = code
    items["kind"] = codes
    return items


@pytest.mark.parametrize("split", ["val_select", "val_score", "test"])
def test_a_label_that_training_never_asked_for_is_refused(
    split: str, symbols: WindowData, experiment: Make
) -> None:
    rule = "data.target_columns kind must ask only for labels of training origins"
    with pytest.raises(Fault, match=rf"{rule}, got {split} asks for 1 labels \('c'\)"):
        windows_of(relabelled(split, symbols, 2), experiment)


def test_training_on_one_label_is_refused(symbols: WindowData, experiment: Make) -> None:
    with pytest.raises(FinscaleError, match="kind must have two labels among the training origins, got 'c'"):
        windows_of(relabelled("train", symbols, 2), experiment)


def test_a_label_that_is_shown_outside_training_alone_is_a_warning(experiment: Make) -> None:
    items = sequences("kind", "stars")
    test_rows = items.index.get_level_values(0).isin(["s3", "s2", "s1"])
    items["stars"] = np.where(test_rows, items["stars"], 1.0)
    config = experiment("classes", context_length=T, target_columns=("kind",))
    _, warnings = build_windows(items, items, experiment=config, horizon=H, data_hash="abc")
    assert warnings == ("stars shows 1 labels (1) in no training row; their embeddings are never trained",)


@pytest.mark.parametrize(
    ("columns", "data", "message"),
    [
        (
            ("kind", "price"),
            {"target_columns": ("price",)},
            "data.target_columns must be categorical columns",
        ),
        (("price",), {}, "the table must have categorical columns for data.task=classes, got only price"),
        (
            ("kind",),
            {"task": "forecast"},
            "the table must have features for data.task=forecast",
        ),
        (
            ("kind", "price"),
            {"task": "forecast", "target_columns": ("kind",)},
            "data.target_columns must be features",
        ),
        (
            ("kind",),
            {"task": "direction"},
            "must be forecast or classes where the table has no",
        ),
    ],
)
def test_a_question_that_the_columns_cannot_answer_is_refused(
    columns: tuple[str, ...], data: dict[str, Any], message: str, experiment: Make
) -> None:
    with pytest.raises(FinscaleError, match=message):
        windows_of(sequences(*columns), experiment, **data)


def test_a_forecast_beside_labels_is_of_the_real_valued_columns(experiment: Make) -> None:
    data = windows_of(sequences("kind", "price"), experiment, task="forecast")
    assert (data.spec.target_columns, data.spec.n_classes) == (("price",), ())
    rows = data.origins["test"]
    found = DeviceWindows(data, "cpu").targets(torch.from_numpy(rows))
    np.testing.assert_array_equal(found[:, :, 0], data.values[rows[:, None] + [1, 2], 0])
