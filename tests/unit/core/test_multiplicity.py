import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finscale.core.multiplicity import adjust_tests, benjamini_hochberg, holm


def test_holm_agrees_with_its_definition() -> None:
    p = [0.01, 0.04, 0.03, 0.005]
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_keeps_order_and_lies_between_raw_and_bonferroni(p: list[float]) -> None:
    adjusted, raw = holm(p), np.array(p)
    assert np.all(adjusted >= raw)
    assert np.all(adjusted <= np.minimum(len(p) * raw.max(), 1) + 1e-15)
    assert np.all(np.diff(adjusted[np.argsort(raw, kind="stable")]) >= 0)


def test_benjamini_hochberg_agrees_with_its_definition() -> None:
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert benjamini_hochberg([]).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_the_false_discovery_rate_asks_for_less_than_the_family_wise_error(p: list[float]) -> None:
    assert np.all(benjamini_hochberg(p) <= holm(p) + 1e-15)


@pytest.mark.parametrize("method", ["holm", "benjamini_hochberg"])
def test_a_test_that_could_not_be_made_does_not_count_in_the_family(method: str) -> None:
    found = {test.name: test for test in adjust_tests({"a": 0.02, "b": None, "c": 0.9}, method=method)}
    assert found["a"].adjusted == pytest.approx(0.04)
    assert [found[name].rejected for name in "abc"] == [True, False, False]
    assert (found["b"].p_value, found["b"].adjusted) == (None, None)
