"""Scores answer to scikit-learn and to plain loops."""

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from finscale.core.errors import Fault
from finscale.metrics import classification
from finscale.metrics.classification import PROBABILITY_FLOOR


def sample(n: int = 400, digits: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    p = rng.uniform(0.02, 0.98, n).round(digits)
    return (rng.uniform(size=n) < p**1.5).astype(int), p


def test_scores_agree_with_scikit_learn() -> None:
    y, p = sample()
    assert classification.log_loss(y, p) == pytest.approx(sklearn.metrics.log_loss(y, p), rel=1e-12)
    assert classification.brier(y, p) == pytest.approx(sklearn.metrics.brier_score_loss(y, p), rel=1e-12)
    assert classification.auc(y, p) == pytest.approx(sklearn.metrics.roc_auc_score(y, p), rel=1e-12)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=2, max_size=30))
def test_auc_is_the_share_of_pairs_in_order_ties_half(pairs: list[tuple[bool, int]]) -> None:
    y, p = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs]) / 4
    wins = [(a > b) + 0.5 * (a == b) for a in p[y] for b in p[~y]]
    found = classification.auc(y, p)
    assert np.isnan(found) if not wins else found == pytest.approx(np.mean(wins))


def test_rows_average_to_the_loss_and_sure_mistakes_stay_finite() -> None:
    y, p = sample()
    assert classification.log_loss_rows(y, p).mean() == pytest.approx(classification.log_loss(y, p))
    worst = classification.log_loss_rows([1, 0], [0.0, 1.0])
    np.testing.assert_allclose(worst, -np.log(PROBABILITY_FLOOR), rtol=1e-9)
    assert classification.log_loss_rows([1, 0], [1.0, 0.0]).max() < 2e-7


def test_the_true_rate_is_the_best_constant_forecast() -> None:
    y, _ = sample()
    constants = np.linspace(0.05, 0.95, 91)
    losses = [classification.log_loss(y, np.full(len(y), c)) for c in constants]
    assert constants[np.argmin(losses)] == pytest.approx(y.mean(), abs=0.006)


def test_calibration_error_of_bins_of_equal_mass() -> None:
    p = sample(n=600, digits=12)[1]
    y = np.random.default_rng(5).integers(0, 2, 600)
    order = np.argsort(p)
    groups = np.array_split(order, 15)
    by_hand = sum(len(g) / 600 * abs(y[g].mean() - p[g].mean()) for g in groups)
    assert classification.ece(y, p) == pytest.approx(by_hand, rel=1e-9)


def test_a_constant_forecast_is_off_by_its_mean_and_no_more() -> None:
    y, _ = sample()
    assert classification.ece(y, np.full(len(y), y.mean())) == pytest.approx(0, abs=1e-12)
    assert classification.ece(y, np.full(len(y), 0.9)) == pytest.approx(0.9 - y.mean())


def test_all_scores_come_in_one_record() -> None:
    y, p = sample()
    found = classification.scores(y, p)
    assert list(found) == ["log_loss", "brier", "auc", "ece", "positive_rate", "n"]
    for name in ("log_loss", "brier", "auc", "ece"):
        assert found[name] == getattr(classification, name)(y, p)
    assert (found["positive_rate"], found["n"]) == (y.mean(), 400)
    assert np.isnan(classification.scores([1, 1], [0.5, 0.6])["auc"])


@pytest.mark.parametrize(
    ("y", "p", "message"),
    [
        ([0, 1], [0.5], "outcomes and forecasts must be two non-empty vectors of equal length"),
        ([], [], "outcomes and forecasts must be two non-empty vectors"),
        ([0, 2], [0.5, 0.5], "outcomes must be 0 or 1, got [0.0, 2.0]"),
        ([0, np.nan], [0.5, 0.5], "outcomes must be 0 or 1"),
        ([0, 1], [0.5, 1.5], "forecast probabilities must lie between 0 and 1, got [1.5]"),
        ([0, 1], [np.nan, 0.5], "forecast probabilities must lie between 0 and 1"),
    ],
)
def test_faulty_input_is_refused(y: list[float], p: list[float], message: str) -> None:
    with pytest.raises(Fault) as found:
        classification.scores(y, p)
    assert message in str(found.value)
