"""Task names are read once, and a wrong one is answered with the list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finscale.core.errors import Fault
from finscale.windows.tasks import parse_task


@given(percent=st.one_of(st.integers(1, 99), st.floats(0.01, 99).map(lambda x: round(x, 2))))
def test_any_percentage_above_zero_is_a_threshold(percent: float) -> None:
    assert parse_task(f"threshold_{percent}pct").rise == pytest.approx(percent / 100)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("direction", "binary"),
        ("regression", "regression"),
        ("quantile", "quantile"),
        ("forecast", "forecast"),
        ("classes", "classes"),
    ],
)
def test_only_a_threshold_has_a_rise(name: str, kind: str) -> None:
    task = parse_task(name)
    assert (task.name, task.kind, task.rise) == (name, kind, None)
    assert parse_task("threshold_1pct").kind == "binary"


@pytest.mark.parametrize("name", ["foo", "threshold_pct", "threshold_-1pct", "Direction", "threshold_1"])
def test_an_unknown_task_is_answered_with_the_list(name: str) -> None:
    with pytest.raises(Fault) as found:
        parse_task(name)
    assert "data.task must be direction, regression, quantile, forecast, classes, or threshold_<x>pct" in str(
        found.value
    )
    assert repr(name) in str(found.value)


def test_a_misspelt_task_is_answered_with_the_nearest() -> None:
    with pytest.raises(Fault, match=r"did you mean 'threshold_2pct'\?"):
        parse_task("treshold_2pct")


@pytest.mark.parametrize("name", ["threshold_0pct", "threshold_0.0pct", "threshold_1000pct"])
def test_a_rise_of_nothing_or_of_everything_is_refused(name: str) -> None:
    with pytest.raises(Fault, match="above 0 and under 1000"):
        parse_task(name)
