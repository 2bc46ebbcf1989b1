import numpy as np
import pytest
from scipy import stats

from finscale.scalinglaws.extrapolation import leave_largest_out

LADDER = np.logspace(4, 8, 5)


def by_form(n_params: np.ndarray, loss: np.ndarray) -> dict:
    return {found.form: found for found in leave_largest_out(n_params, loss)}


def test_the_line_gives_the_textbook_prediction_interval() -> None:
    loss = np.array([1.0, 0.8, 0.75, 0.5, 0.45])
    x, y = np.log10(LADDER[:4]), loss[:4]
    slope, intercept = np.polyfit(x, y, 1)
    s = np.sqrt(((y - intercept - slope * x) ** 2).sum() / 2)
    half = stats.t.ppf(0.95, 2) * s * np.sqrt(1 + 1 / 4 + (8 - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum())
    found = by_form(LADDER, loss)["log_linear"]
    assert found.predicted == pytest.approx(intercept + slope * 8)
    assert (found.low, found.high) == pytest.approx((found.predicted - half, found.predicted + half))


def test_the_constant_gives_the_textbook_prediction_interval() -> None:
    loss = np.array([1.0, 0.8, 0.75, 0.5, 0.45])
    half = stats.t.ppf(0.95, 3) * loss[:4].std(ddof=1) * np.sqrt(1 + 1 / 4)
    found = by_form(LADDER, loss)["constant"]
    assert (found.low, found.high) == pytest.approx((loss[:4].mean() - half, loss[:4].mean() + half))


def test_a_power_law_predicts_its_own_continuation() -> None:
    found = by_form(LADDER, 0.5 + 30 * LADDER**-0.4)
    assert found["power_law"].error == pytest.approx(0, abs=1e-6)
    assert abs(found["log_linear"].error) > 0.1
    assert found["power_law"].n_params == 1e8


def test_the_held_out_point_does_not_touch_its_prediction() -> None:
    loss = np.array([1.0, 0.8, 0.75, 0.5, 0.45])
    moved = np.append(loss[:4], 99.0)
    before, after = by_form(LADDER, loss), by_form(LADDER, moved)
    assert {form: p.predicted for form, p in before.items()} == {
        form: p.predicted for form, p in after.items()
    }
    assert not any(found.inside for found in after.values())


def test_the_largest_is_held_out_wherever_it_stands() -> None:
    loss = np.array([1.0, 0.8, 0.75, 0.5, 0.45])
    order = [4, 1, 0, 3, 2]
    shuffled = by_form(LADDER[order], loss[order])
    assert shuffled["log_linear"].predicted == pytest.approx(by_form(LADDER, loss)["log_linear"].predicted)


@pytest.mark.parametrize(("form", "lowest"), [("constant", 0.86), ("log_linear", 0.86), ("power_law", 0.86)])
def test_prediction_intervals_cover_at_their_level(form: str, lowest: float) -> None:
    truth = {"constant": 0 * LADDER, "log_linear": -0.1 * np.log10(LADDER), "power_law": 3 * LADDER**-0.25}[
        form
    ]
    rng = np.random.default_rng(5)
    found = [by_form(LADDER, truth + rng.normal(0, 0.003, 5))[form].inside for _ in range(300)]
    assert lowest <= np.mean(found) <= 0.945


def test_without_a_degree_of_freedom_there_is_no_prediction() -> None:
    assert set(by_form(LADDER[:4], np.array([1.0, 0.9, 0.7, 0.6]))) == {"constant", "log_linear"}
    assert leave_largest_out(LADDER[:2], np.array([1.0, 0.9])) == ()
    assert leave_largest_out(np.array([1e4, 1e4, 1e5]), np.array([1.0, 0.9, 0.8])) == ()
