"""A table of sequences becomes a panel whose clock is the position."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from finscale.core.errors import FinscaleError
from finscale.datasets.bars import BarsDataset
from finscale.features.bars import validate_bars
from finscale.features.compute import compute_features, data_hash
from finscale.features.data_card import data_card
from finscale.features.prepare import prepare_bars

Write = Callable[..., str]

TABLE = {
    "user": ["u9", "u9", "u10", "u9", "u10"],
    "item": [4, 5, 0, 6, 1],
    "price": [1.5, 2.5, 10.0, 3.5, 20.0],
    "kind": ["b", "a", "c", "b", "a"],
    "stars": [5, 1, 5, 3, 1],
}
SEQUENCES = {"sequence": "user", "position": "item"}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(suffix: str = "csv", **columns: Any) -> str:
        path, frame = tmp_path / f"t.{suffix}", pd.DataFrame({**TABLE, **columns})
        frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path, index=False)
        return str(path)

    return put


def load(path: str, **keys: Any) -> pd.DataFrame:
    chosen = {"channels": ["price"], "categories": ["kind", "stars"], **SEQUENCES, **keys}
    return BarsDataset(source={"kind": "file", "path": path, **chosen}).load()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_sequences_stand_together_in_the_order_of_their_first_rows(suffix: str, write: Write) -> None:
    found = validate_bars(load(write(suffix)), name="t")
    assert found.index.names == ["instrument", "position"]
    assert found.index.get_level_values(0).tolist() == ["u9"] * 3 + ["u10"] * 2
    seconds = pd.DatetimeIndex(found.index.get_level_values(1)).as_unit("s").asi8
    assert seconds.tolist() == [4, 5, 6, 0, 1]
    assert list(found.columns) == ["price", "kind", "stars"]
    assert found["price"].tolist() == [1.5, 2.5, 3.5, 10.0, 20.0]
    assert found["kind"].tolist() == [1, 0, 1, 2, 0]
    assert found["stars"].tolist() == [2, 0, 1, 2, 0]
    assert found.attrs["vocabularies"] == {"kind": ["a", "b", "c"], "stars": [1, 3, 5]}


def test_labels_survive_the_door_and_the_disk(write: Write, tmp_path: Path) -> None:
    checked = prepare_bars(load(write()), name="t")
    checked.to_parquet(tmp_path / "checked.parquet")
    back = pd.read_parquet(tmp_path / "checked.parquet")
    assert back.attrs["vocabularies"] == checked.attrs["vocabularies"] != {}
    features = compute_features(back, list(back.columns)).frame
    pd.testing.assert_frame_equal(features, checked, check_freq=False)


def test_labels_without_a_sequence_are_columns_of_a_series(write: Write) -> None:
    path = write(date=pd.date_range("2020-01-01", periods=5).astype(str))
    found = load(path, sequence=None, position=None)
    assert found.index.equals(pd.date_range("2020-01-01", periods=5, name="session"))
    assert found["kind"].tolist() == [1, 0, 2, 1, 0]


def test_other_labels_under_the_same_codes_are_other_data(write: Write) -> None:
    first = prepare_bars(load(write()), name="t")
    other = prepare_bars(load(write(kind=["y", "x", "z", "y", "x"])), name="t")
    np.testing.assert_array_equal(first.to_numpy(), other.to_numpy())
    names = list(first.columns)
    assert data_hash(first, names) == data_hash(first.copy(), names) != data_hash(other, names)


def test_the_card_tells_sequences_positions_and_labels(write: Write) -> None:
    checked = prepare_bars(load(write()), name="t")
    card = data_card(checked, **checked.attrs)
    assert card.line().startswith(
        "t.csv (source file), positions 0 to 6, 2 sequences (u9, u10), 5 rows, kind of 3 labels, "
        "stars of 3 labels"
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item": [4, 5, 0, 7, 1]}, "1 steps that do not (first in sequence u9: from 5 to 7)"),
        ({"item": [4, 5, 0, 5, 1]}, "first in sequence u9: from 5 to 5"),
        ({"item": [4, 5, 1, 6, 0]}, "t.csv.item must go up by 1 from item to item of a sequence"),
        ({"item": [4, 5, 0.5, 6, 1]}, "t.csv.item must hold whole numbers below 2^33, got 1 rows"),
        ({"item": [4, 5, None, 6, 1]}, "t.csv.item must hold whole numbers"),
        ({"item": [4, 5, 2**33, 6, 1]}, "t.csv.item must hold whole numbers below 2^33"),
        ({"item": list("abcde")}, "t.csv.item must hold numbers"),
        (
            {"user": ["u9", "u9", None, "u9", "u10"]},
            "t.csv.user must name a sequence in every row, got 1 rows",
        ),
        ({"kind": ["b", None, "c", "b", "a"]}, "t.csv.kind must have a label in every row"),
        ({"stars": [5, 1, 5, 3.5, 1]}, "t.csv.stars must hold texts or whole numbers"),
    ],
)
def test_a_row_that_has_no_place_or_no_label_is_refused(
    columns: dict[str, Any], message: str, write: Write
) -> None:
    with pytest.raises(FinscaleError) as found:
        load(write(**columns))
    assert message in str(found.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"position": None}, "source.file.sequence and position must be given together"),
        ({"channels": [], "categories": []}, "sequence must stand beside channels or categories"),
        ({"date_column": "item"}, "date_column must be left out beside sequence"),
        ({"calendar": "XNYS"}, "channels must stand without calendar"),
        ({"categories": ["price"]}, "categories must name other columns than channels, each once"),
        ({"categories": ["kind", "kind"]}, "categories must name other columns than channels, each once"),
        ({"categories": ["knd"]}, "t.csv must have the column knd, got"),
        ({"sequence": "usr"}, "t.csv must have the column usr, got"),
    ],
)
def test_keys_that_do_not_go_together_and_unknown_columns_are_refused(
    keys: dict[str, Any], message: str, write: Write
) -> None:
    with pytest.raises(FinscaleError) as found:
        load(write(), **keys)
    assert message in str(found.value)


def test_dates_are_refused_where_there_are_none(write: Write) -> None:
    with pytest.raises(FinscaleError, match=r"data.start must be left out of sequences, which have no dates"):
        prepare_bars(load(write()), name="t", start="2020-01-01")


def test_a_table_of_sequences_is_no_member_of_a_panel(write: Write) -> None:
    member = {"kind": "file", "path": write(), "categories": ["kind"], **SEQUENCES}
    source = {"kind": "panel", "members": {"A": member, "B": member}}
    with pytest.raises(FinscaleError, match=r"members.A.sequence must be left out in a panel, got 'user'"):
        BarsDataset(source=source)
