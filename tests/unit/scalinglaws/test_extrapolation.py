import numpy as np
import pytest
from scipy import stats

from finscale.scalinglaws.extrapolation import average_extrapolations, leave_largest_out

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
    assert average_extrapolations(LADDER[:2], np.array([1.0, 0.9])) is None
    assert leave_largest_out(LADDER[:2], np.array([1.0, 0.9])) == ()
    assert leave_largest_out(np.array([1e4, 1e4, 1e5]), np.array([1.0, 0.9, 0.8])) == ()


TRUTHS = {
    "constant": 0 * LADDER,
    "line": -10 * np.log10(LADDER / 1e4) / 4,
    "law": 20 * (LADDER / 1e4) ** -0.3,
}


@pytest.mark.parametrize("truth", TRUTHS)
@pytest.mark.parametrize("n_budgets", [4, 5])
def test_the_averaged_band_covers_the_largest_budget(truth: str, n_budgets: int) -> None:
    rng = np.random.default_rng(7)
    n, loss = LADDER[:n_budgets], TRUTHS[truth][:n_budgets]
    found = [average_extrapolations(n, loss + rng.normal(size=n_budgets)) for _ in range(120)]
    assert 0.80 <= np.mean([band.inside for band in found]) <= 0.99


def test_the_average_is_the_weighted_mean_of_its_forms() -> None:
    loss = np.array([1.0, 0.8, 0.75, 0.5, 0.45])
    found, forms = average_extrapolations(LADDER, loss), by_form(LADDER, loss)
    assert sum(found.weights.values()) == pytest.approx(1.0)
    assert set(found.weights) == {"constant", "log_linear", "power_law"}
    mean = sum(weight * forms[form].predicted for form, weight in found.weights.items())
    assert found.predicted == pytest.approx(mean)
    assert found.error == pytest.approx(0.45 - mean)
    lows, highs = ([getattr(forms[form], end) for form in found.weights] for end in ("low", "high"))
    assert min(lows) <= found.low <= max(lows)
    assert min(highs) <= found.high <= max(highs)


def test_five_percent_of_the_mixture_lies_below_the_band() -> None:
    loss = np.array([1.0, 0.8, 0.75, 0.5])
    n = LADDER[:4]
    found = average_extrapolations(n, loss)
    x, y = np.log10(n[:3]), loss[:3]
    slope, intercept = np.polyfit(x, y, 1)
    s = np.sqrt(((y - intercept - slope * x) ** 2).sum())
    spread = s * np.sqrt(1 + 1 / 3 + (7 - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum())
    flat = y.std(ddof=1) * np.sqrt(4 / 3)
    for end, share in ((found.low, 0.05), (found.high, 0.95)):
        line = stats.t.cdf((end - intercept - slope * 7) / spread, 1)
        constant = stats.t.cdf((end - y.mean()) / flat, 2)
        weights = found.weights
        assert weights["log_linear"] * line + weights["constant"] * constant == pytest.approx(share, abs=1e-6)


def test_weights_follow_bic_on_the_points_that_remain() -> None:
    loss = np.array([1.0, 0.8, 0.75, 0.5])
    line = stats.linregress(np.log10(LADDER[:3]), loss[:3])
    rss = {"constant": loss[:3].var() * 3, "log_linear": loss[:3].var() * 3 * (1 - line.rvalue**2)}
    bic = {
        form: 3 * np.log(rss[form] / 3) + k * np.log(3) for form, k in (("constant", 1), ("log_linear", 2))
    }
    odds = np.exp((bic["constant"] - bic["log_linear"]) / 2)
    weights = average_extrapolations(LADDER[:4], loss).weights
    assert weights["log_linear"] / weights["constant"] == pytest.approx(odds)


def test_a_moved_largest_budget_does_not_move_the_band() -> None:
    loss = np.array([1.0, 0.8, 0.75, 0.5, 0.45])
    before, after = (average_extrapolations(LADDER, np.append(loss[:4], last)) for last in (0.45, 99.0))
    assert (before.low, before.high, before.weights) == (after.low, after.high, after.weights)
    assert not after.inside
