"""Labels become codes in one order, for the rows of training and for new ones."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finscale.core.errors import Fault
from finscale.windows.vocabulary import code_labels, vocabulary_of

ROWS = st.one_of(st.lists(st.text(max_size=3), min_size=1), st.lists(st.integers(-9, 9), min_size=1))


@given(labels=ROWS)
def test_a_code_is_the_place_of_its_label_in_ascending_order(labels: list[Any]) -> None:
    values = pd.Series(labels)
    vocabulary = vocabulary_of(values, subject="x")
    assert vocabulary == tuple(sorted(set(labels)))
    assert [vocabulary[code] for code in code_labels(values, vocabulary, subject="x")] == labels


@pytest.mark.parametrize(
    ("values", "vocabulary"),
    [
        (pd.Series(["b", "a"], dtype="category"), ("a", "b")),
        (pd.Series([True, False]), ("False", "True")),
        (pd.Series([2.0, 1.0]), (1, 2)),
        (pd.Series(["10", "9"]), ("10", "9")),
        (pd.Series([10, 9]), (9, 10)),
    ],
)
def test_texts_whole_numbers_and_truths_are_labels(values: pd.Series, vocabulary: tuple[Any, ...]) -> None:
    found = vocabulary_of(values, subject="x")
    assert found == vocabulary
    assert [type(label) for label in found] == [type(label) for label in vocabulary]
    assert code_labels(values, found, subject="x").dtype == np.int64


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", None], "t.x must have a label in every row"),
        ([1.0, np.nan], "t.x must have a label in every row"),
        ([0.5, 1.0], "t.x must hold texts or whole numbers, got '0.5'"),
        ([np.inf], "t.x must hold texts or whole numbers, got 'inf'"),
        (["a", 1], r"t.x must hold texts or whole numbers, not both, got 2 labels \(1, 'a'\)"),
        ([pd.Timestamp("2020-01-01")], "t.x must hold texts or whole numbers"),
    ],
)
def test_what_is_no_label_is_refused(values: list[Any], message: str) -> None:
    with pytest.raises(Fault, match=message):
        vocabulary_of(pd.Series(values), subject="t.x")


def test_a_new_label_is_refused_by_name() -> None:
    with pytest.raises(Fault, match=r"x must hold the 2 labels of the vocabulary, got 1 labels \('c'\)"):
        code_labels(pd.Series(["a", "c"]), ("a", "b"), subject="x")
