"""Records name every fault at once, hashes follow content, files are replaced whole."""

import json
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from finscale.core.config import Record
from finscale.core.errors import Fault, FinscaleError, raise_faults
from finscale.core.files import read_json, replacing, write_json
from finscale.core.hashing import content_hash
from finscale.core.seeding import derive, generator


class Circle(Record):
    kind: Literal["circle"] = "circle"
    radius: float = 1.0


class Square(Record):
    kind: Literal["square"] = "square"
    side: int = 2


class Drawing(Record):
    title: str
    shape: Annotated[Circle | Square, Field(discriminator="kind")] = Circle()


def test_every_fault_is_named_with_a_suggestion_for_a_typo():
    with pytest.raises(FinscaleError) as raised:
        Drawing.read({"titel": "a", "shape": {"kind": "square", "sied": 3, "side": "x"}}, subject="drawing")
    text = str(raised.value)
    assert "drawing.title must be given" in text
    assert "drawing.titel must be a known key, got 'a'; did you mean 'title'?" in text
    assert "did you mean 'side'?" in text
    assert "drawing.shape.square.side must be a valid integer" in text


def test_a_misspelt_choice_gets_a_suggestion_and_a_strange_one_none():
    with pytest.raises(FinscaleError, match=r"kind must be 'square', got 'sqare'; did you mean 'square'\?$"):
        Square.read({"kind": "sqare"})
    with pytest.raises(FinscaleError, match=r"kind must be 'square', got 'xyz'$"):
        Square.read({"kind": "xyz"})


def test_a_panel_hashes_by_its_instruments_too():
    names = pd.MultiIndex.from_arrays([["a", "a", "b"], [1, 2, 1]], names=["instrument", "session"])
    other = names.set_levels(["a", "c"], level=0)
    frame = pd.DataFrame({"close": [1.0, 2.0, 3.0]}, index=names)
    assert content_hash(frame) == content_hash(frame.copy())
    assert content_hash(frame) != content_hash(frame.set_axis(other, axis=0))


def test_a_record_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Circle().radius = 2.0


def test_leaves_are_flat():
    assert Drawing(title="a").leaves("d") == {"d.title": "a", "d.shape.kind": "circle", "d.shape.radius": 1.0}


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_the_hash_of_a_mapping_does_not_depend_on_its_order(values):
    assert content_hash(values) == content_hash(dict(reversed(values.items())))


def test_different_content_has_different_hashes():
    frame = pd.DataFrame({"a": [1.0, 2.0]}, index=pd.date_range("2020-01-01", periods=2))
    shifted = frame.set_axis(frame.index + pd.Timedelta(days=1))
    contents = [
        frame,
        frame.rename(columns={"a": "b"}),
        frame * 2,
        shifted,
        np.arange(2),
        np.arange(2.0),
        [0, 1],
        "01",
    ]
    assert len({content_hash(content) for content in contents}) == len(contents)
    assert content_hash(frame) == content_hash(frame.copy())
    assert content_hash("ab", "c") != content_hash("a", "bc")


def test_named_streams_are_independent_and_reproducible():
    assert derive(1, "a") == derive(1, "a")
    assert len({derive(1, "a"), derive(1, "b"), derive(2, "a"), derive(1, "a", "b")}) == 4
    assert generator(1, "a").random() == generator(1, "a").random()


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"kept": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"lost": float("nan")})

    def fail_while_replacing():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail_while_replacing()
    assert json.loads(path.read_text()) == {"kept": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", ["{", "\xff", ""])
def test_broken_json_is_the_users_kind_of_error(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(Fault, match="valid JSON"):
        read_json(path)
    with pytest.raises(Fault, match="run the search"):
        read_json(tmp_path / "absent.json", remedy="run the search")


class Listed(Record):
    shares: tuple[float, ...] = ()
    names: tuple[str, ...] | None = None
    word: str = ""


def test_a_list_can_be_typed_as_one_string_or_a_single_value():
    listed = Listed.read({"shares": "0.5 0.25 1e-3", "names": "a b", "word": "a b"})
    assert listed == Listed(shares=(0.5, 0.25, 0.001), names=("a", "b"), word="a b")
    assert Listed.read({"shares": 1}).shares == (1.0,)
    assert Listed.read({"names": None}).names is None


class _Pair(Record):
    low: int
    high: int

    @model_validator(mode="after")
    def _is_sound(self) -> "_Pair":
        faults = [Fault(name, "be above 0", getattr(self, name)) for name in ("low", "high")]
        raise_faults(fault for fault in faults if fault.got <= 0)
        return self


def test_several_faults_of_one_validator_are_told_one_by_one() -> None:
    with pytest.raises(FinscaleError) as caught:
        _Pair.read({"low": -1, "high": -2}, subject="pair")
    assert (
        str(caught.value) == "2 faults:\n  1. low must be above 0, got -1\n  2. high must be above 0, got -2"
    )
    assert [str(fault) for fault in caught.value.faults] == [
        "low must be above 0, got -1",
        "high must be above 0, got -2",
    ]
    with pytest.raises(Fault) as alone:
        _Pair.read({"low": -1, "high": 2})
    assert alone.value.faults == ()
