import numpy as np
import pytest
from scipy import stats

from finscale.scalinglaws.exponent import exponent_interval, profile_alpha
from finscale.scalinglaws.forms import ALPHA_BOUNDS

LADDER = np.logspace(4.3, 8.3, 6)


def law(alpha: float, *, sd: float, seed: int, n_params: np.ndarray = LADDER) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sd, len(n_params))
    return 0.6 + (n_params / n_params[0]) ** -alpha + noise


def test_a_clean_law_is_identified() -> None:
    found = exponent_interval(LADDER, law(0.4, sd=1e-3, seed=0))
    assert found.status == "identified"
    assert found.low < 0.4 < found.high
    assert found.estimate == pytest.approx(0.4, abs=0.02)


def test_a_noisy_law_keeps_its_interval_and_gives_no_number() -> None:
    found = exponent_interval(LADDER[:4], law(0.4, sd=0.05, seed=0, n_params=LADDER[:4]))
    assert found.status == "unidentified"
    assert found.estimate is None
    assert found.high - found.low >= 0.3 or found.low == ALPHA_BOUNDS[0] or found.high == ALPHA_BOUNDS[1]


def test_three_budgets_never_give_an_exponent() -> None:
    assert exponent_interval(LADDER[:3], law(0.4, sd=0, seed=0)[:3]).status == "too_few_budgets"


@pytest.mark.parametrize("alpha", [ALPHA_BOUNDS[0], ALPHA_BOUNDS[1], 2.0])
def test_an_interval_that_touches_the_grid_is_unidentified(alpha: float) -> None:
    assert exponent_interval(LADDER, law(alpha, sd=0, seed=0)).status == "unidentified"


def test_a_flat_loss_leaves_every_exponent_possible() -> None:
    found = exponent_interval(LADDER, np.full(6, 0.7))
    assert (found.status, found.low, found.high) == ("unidentified", *ALPHA_BOUNDS)


def test_the_ends_of_the_interval_lie_on_the_threshold() -> None:
    loss = law(0.5, sd=5e-3, seed=4)
    found, profile = exponent_interval(LADDER, loss), profile_alpha(LADDER, loss)
    threshold = profile.rss.min() * (1 + stats.f.ppf(0.9, 1, 3) / 3)
    assert [profile.rss_at(found.low), profile.rss_at(found.high)] == pytest.approx([threshold] * 2)
    assert profile.rss_at((found.low + found.high) / 2) < threshold


def test_the_interval_covers_at_its_level() -> None:
    found = [exponent_interval(LADDER, law(0.5, sd=0.01, seed=seed)) for seed in range(300)]
    covered = np.mean([interval.low <= 0.5 <= interval.high for interval in found])
    assert 0.86 <= covered <= 0.94


@pytest.mark.parametrize(
    ("n_budgets", "drop", "least", "most"), [(4, 5.0, 0.0, 0.10), (6, 50.0, 0.95, 1.0), (6, 0.0, 0.0, 0.02)]
)
def test_an_exponent_is_given_where_the_data_carry_it(
    n_budgets: int, drop: float, least: float, most: float
) -> None:
    rng = np.random.default_rng(8)
    n = 10 ** (6.3 + 0.5 * np.arange(n_budgets))
    truth = drop * n**-0.3 / np.ptp(n**-0.3)
    found = [exponent_interval(n, truth + rng.normal(size=n_budgets)).status for _ in range(300)]
    assert least <= np.mean([status == "identified" for status in found]) <= most


def test_three_different_sizes_never_give_an_exponent() -> None:
    n = np.array([1e5, 1e5, 1e6, 1e7])
    assert exponent_interval(n, np.array([1.0, 1.0, 0.5, 0.3])).status == "too_few_budgets"
