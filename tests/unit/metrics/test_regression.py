"""Scores of a point forecast answer to plain loops and to scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics

from finscale.core.errors import Fault
from finscale.metrics import regression


def sample() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    f = rng.normal(size=300)
    return f + rng.standard_t(4, 300), 0.5 * f + 0.2


def test_scores_agree_with_scikit_learn() -> None:
    y, f = sample()
    found = regression.scores(y, f)
    assert found["squared_error"] == pytest.approx(sklearn.metrics.mean_squared_error(y, f), rel=1e-12)
    assert found["absolute_error"] == pytest.approx(sklearn.metrics.mean_absolute_error(y, f), rel=1e-12)
    r2 = sklearn.metrics.r2_score(y, f)
    assert regression.skill(found["squared_error"], y.var()) == pytest.approx(r2, rel=1e-9)


def test_rows_average_to_the_scores() -> None:
    y, f = sample()
    found = regression.scores(y, f)
    assert regression.squared_error_rows(y, f).mean() == pytest.approx(found["squared_error"])
    assert regression.absolute_error_rows(y, f).mean() == pytest.approx(found["absolute_error"])
    assert found["n"] == 300


@pytest.mark.filterwarnings("error")
def test_bias_is_forecast_minus_outcome_and_correlation_ignores_units() -> None:
    y, f = sample()
    assert regression.scores(y, y + 2.0)["bias"] == pytest.approx(2.0)
    found, rescaled = regression.scores(y, f), regression.scores(10 * y, f - 3)
    assert found["correlation"] == pytest.approx(np.corrcoef(y, f)[0, 1])
    assert rescaled["correlation"] == pytest.approx(found["correlation"])
    assert np.isnan(regression.scores(y, np.zeros(300))["correlation"])


def test_skill_is_one_for_the_perfect_and_nothing_for_the_baseline() -> None:
    assert regression.skill(0.0, 2.0) == 1
    assert regression.skill(2.0, 2.0) == 0
    assert regression.skill(3.0, 2.0) == -0.5
    assert np.isnan(regression.skill(0.0, 0.0))
    with pytest.raises(Fault, match="losses must be at least 0"):
        regression.skill(-1.0, 2.0)


@pytest.mark.parametrize(
    ("y", "f", "message"),
    [
        ([0.0, 1.0], [0.5], "two non-empty vectors of equal length"),
        ([], [], "two non-empty vectors"),
        ([np.nan, 1.0], [0.0, 0.0], "outcomes must be finite numbers, got 1 that are not"),
        ([0.0, 1.0], [np.inf, np.nan], "forecasts must be finite numbers, got 2 that are not"),
    ],
)
def test_faulty_input_is_refused(y: list[float], f: list[float], message: str) -> None:
    with pytest.raises(Fault, match=message):
        regression.scores(y, f)
