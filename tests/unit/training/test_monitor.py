import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from finscale.training.monitor import calibration_slope, flags_of

RANDOM = np.random.default_rng(5)


def _forecast(n: int, slope: float) -> tuple[np.ndarray, np.ndarray]:
    logits = RANDOM.normal(0, 1, n)
    y = (RANDOM.random(n) < 1 / (1 + np.exp(-slope * logits))).astype(float)
    return y, 1 / (1 + np.exp(-logits))


def test_calibration_slope_is_that_of_a_logistic_regression_on_the_logit() -> None:
    y, p = _forecast(400, slope=0.6)
    oracle = LogisticRegression(C=np.inf, tol=1e-10).fit(np.log(p / (1 - p))[:, None], y).coef_[0, 0]
    assert calibration_slope(y, p) == pytest.approx(oracle, abs=1e-4)


def test_calibration_slope_of_an_overconfident_forecast_is_below_one() -> None:
    assert calibration_slope(*_forecast(20_000, slope=0.5)) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("y", "p"),
    [([0, 1, 0, 1], [0.5] * 4), ([1, 1, 1, 1], [0.2, 0.4, 0.6, 0.8]), ([0, 0, 1, 1], [0.2, 0.4, 0.6, 0.8])],
    ids=["constant", "one class", "separated"],
)
def test_a_calibration_slope_that_does_not_exist_is_none(y: list[float], p: list[float]) -> None:
    assert calibration_slope(np.array(y, dtype=float), np.array(p)) is None


def test_a_constant_at_the_base_rate_is_constant_and_not_collapsed() -> None:
    y = (np.arange(100) < 40).astype(float)
    assert flags_of(y, np.full(100, 0.41), base_rate=0.4, task="direction") == ("constant",)


def test_a_constant_away_from_the_base_rate_is_collapsed() -> None:
    y = (np.arange(100) < 40).astype(float)
    assert flags_of(y, np.full(100, 0.6), base_rate=0.4, task="direction") == ("collapsed",)
    assert flags_of(np.zeros(100), np.full(100, 0.6), base_rate=0.0, task="direction") == ("collapsed",)


def test_direction_skill_above_twelve_thousandths_is_suspicious_and_other_tasks_are_not_judged() -> None:
    y, p = _forecast(5_000, slope=1.0)
    base_rate = float(y.mean())
    assert flags_of(y, p, base_rate=base_rate, task="direction") == ("suspicious_skill",)
    assert flags_of(y, p, base_rate=base_rate, task="threshold_1pct") == ()
    slight = base_rate + 0.05 * (p - 0.5)
    assert flags_of(y, slight, base_rate=base_rate, task="direction") == ()


def test_a_forecast_that_varies_is_not_collapsed_however_far_from_the_base_rate_it_lies() -> None:
    y = (np.arange(100) < 40).astype(float)
    assert flags_of(y, np.linspace(0.6, 0.7, 100), base_rate=0.4, task="direction") == ()
