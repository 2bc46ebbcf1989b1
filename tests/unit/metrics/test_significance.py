import numpy as np
import pandas as pd
import pytest
from scipy import stats

from finscale.core.errors import Fault
from finscale.metrics.significance import (
    block_length,
    date_block_intervals,
    date_means,
    diebold_mariano,
    model_confidence_set,
)

HORIZON = 10
N_DATES = 600


def overlapping(rng: np.random.Generator, *, horizon: int = HORIZON, n_dates: int = N_DATES) -> np.ndarray:
    """Zero-mean differences whose labels overlap for ``horizon`` bars."""
    return np.convolve(rng.normal(size=n_dates + horizon - 1), np.ones(horizon), "valid")


def frame(**columns: np.ndarray) -> pd.DataFrame:
    n_dates = len(next(iter(columns.values())))
    return pd.DataFrame(columns, index=pd.bdate_range("2020-01-01", periods=n_dates, name="date"))


def test_blocks_cover_overlapping_labels_where_independent_errors_fail() -> None:
    rng = np.random.default_rng(0)
    samples = [overlapping(rng) for _ in range(150)]
    found = [
        date_block_intervals(frame(a=y), horizon=HORIZON, seed=i, n_draws=400)["a"]
        for i, y in enumerate(samples)
    ]
    by_blocks = np.mean([interval.low <= 0 <= interval.high for interval in found])
    independent = np.mean([abs(y.mean()) <= 1.96 * y.std() / np.sqrt(len(y)) for y in samples])
    assert by_blocks >= 0.84
    assert independent <= 0.60


def test_blocks_cover_independent_losses_at_their_level() -> None:
    rng = np.random.default_rng(1)
    found = [
        date_block_intervals(frame(a=rng.normal(size=N_DATES)), horizon=1, seed=i, n_draws=400)["a"]
        for i in range(150)
    ]
    assert 0.89 <= np.mean([interval.low <= 0 <= interval.high for interval in found]) <= 0.99


def test_every_comparison_is_made_on_the_same_draws() -> None:
    y = overlapping(np.random.default_rng(2))
    found = date_block_intervals(frame(a=y, b=y + 1.0, c=-y), horizon=HORIZON, seed=5)
    a, b, c = found["a"], found["b"], found["c"]
    assert (b.low, b.high) == pytest.approx((a.low + 1, a.high + 1))
    assert (c.low, c.high) == pytest.approx((-a.high, -a.low))
    assert a.block_length == b.block_length == c.block_length


def test_draws_depend_on_the_seed_alone() -> None:
    table = frame(a=overlapping(np.random.default_rng(3)))
    first, again, other = (date_block_intervals(table, horizon=5, seed=seed)["a"] for seed in (1, 1, 2))
    assert first == again
    assert first != other
    shuffled = table.sample(frac=1, random_state=0)
    assert date_block_intervals(shuffled, horizon=5, seed=1)["a"] == first


def test_a_block_is_never_shorter_than_twice_the_horizon() -> None:
    rng = np.random.default_rng(4)
    assert block_length(rng.normal(size=500), horizon=7) >= 14
    persistent = overlapping(rng, horizon=60, n_dates=2000)
    assert block_length(persistent, horizon=1) > 10
    both = np.column_stack([rng.normal(size=2000), persistent])
    assert block_length(both, horizon=1) == block_length(persistent, horizon=1)


@pytest.mark.filterwarnings("error")
def test_differences_that_do_not_vary_have_an_interval_of_one_point() -> None:
    found = date_block_intervals(frame(a=np.full(200, 0.25)), horizon=3, seed=0)["a"]
    assert (found.mean, found.low, found.high, found.block_length) == (0.25, 0.25, 0.25, 6)
    assert found.excludes_zero


def test_too_few_blocks_give_a_mean_without_an_interval() -> None:
    found = date_block_intervals(frame(a=np.arange(39.0)), horizon=5, seed=0)["a"]
    assert (found.mean, found.low, found.high) == (19.0, None, None)
    assert not found.excludes_zero


def test_no_date_gives_no_mean() -> None:
    found = date_block_intervals(frame(a=np.array([np.nan, np.nan])), horizon=1, seed=0)["a"]
    assert (found.mean, found.low, found.n_dates) == (None, None, 0)


def test_only_dates_shared_by_all_comparisons_count() -> None:
    a, b = np.ones(100), np.ones(100)
    a[:10], b[5:20] = np.nan, np.nan
    found = date_block_intervals(frame(a=a, b=b), horizon=1, seed=0)
    assert found["a"].n_dates == found["b"].n_dates == 80


def test_repeated_dates_are_refused() -> None:
    table = frame(a=np.ones(50))
    with pytest.raises(Fault, match="one row per date"):
        date_block_intervals(pd.concat([table, table]), horizon=1, seed=0)


def test_rows_of_a_date_are_averaged_in_date_order() -> None:
    means = date_means(["2020-01-02", "2020-01-01", "2020-01-02"], [1.0, 5.0, 3.0])
    assert means.to_dict() == {"2020-01-01": 5.0, "2020-01-02": 2.0}
    assert date_means(["2020-01-01"] * 2, [np.nan, 4.0]).tolist() == [4.0]


def test_at_one_bar_diebold_mariano_is_students_t() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=80), rng.normal(0.1, 1, size=80)
    ours, theirs = diebold_mariano(a, b, horizon=1), stats.ttest_1samp(a - b, 0)
    assert ours.statistic == pytest.approx(theirs.statistic)
    assert ours.p_value == pytest.approx(theirs.pvalue)
    assert ours.mean == pytest.approx((a - b).mean())


def test_diebold_mariano_follows_harvey_leybourne_and_newbold() -> None:
    d, h = overlapping(np.random.default_rng(7), n_dates=120, horizon=3) + 0.3, 3
    n, e = len(d), d - d.mean()
    variance = sum(np.sum(e[abs(k) :] * e[: n - abs(k)]) / n for k in range(-h + 1, h))
    expected = d.mean() / np.sqrt(variance / n) * np.sqrt((n + 1 - 2 * h + h * (h - 1) / n) / n)
    found = diebold_mariano(d, np.zeros(n), horizon=h)
    assert found.statistic == pytest.approx(expected)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(expected), n - 1))


def test_diebold_mariano_keeps_its_size_where_independent_errors_fail() -> None:
    rng = np.random.default_rng(8)
    samples = [overlapping(rng) for _ in range(400)]
    rejected = np.mean([diebold_mariano(y, 0 * y, horizon=HORIZON).p_value < 0.05 for y in samples])
    naive = np.mean([stats.ttest_1samp(y, 0).pvalue < 0.05 for y in samples])
    assert rejected <= 0.10
    assert naive >= 0.40


def test_a_negative_variance_falls_back_to_bartlett() -> None:
    d = np.tile([1.0, -1.0], 20)
    d[0] = 1.5
    found = diebold_mariano(d, np.zeros(40), horizon=2)
    assert found.kernel == "bartlett"
    assert np.isfinite(found.statistic)
    assert diebold_mariano(d, np.zeros(40), horizon=1).kernel == "rectangular"


@pytest.mark.parametrize("loss", [[], [1.0], [1.0, 1.0, 1.0], [np.nan, 1.0, np.nan]])
def test_what_cannot_be_tested_has_no_p_value(loss: list[float]) -> None:
    found = diebold_mariano(loss, np.zeros(len(loss)), horizon=2)
    assert found.p_value is None
    assert found.n_dates == int(np.isfinite(loss).sum())


def test_dates_cover_many_instruments_where_rows_fail() -> None:
    rng, n_instruments, n_dates = np.random.default_rng(9), 30, 750
    dates = np.tile(np.arange(n_dates), n_instruments)
    by_date, by_row = [], []
    for seed in range(120):
        market, *own = (overlapping(rng, horizon=5, n_dates=n_dates) for _ in range(n_instruments + 1))
        rows = (np.sqrt(0.3) * market + np.sqrt(0.7) * np.array(own)).ravel()
        means = date_means(dates, rows).to_numpy()
        found = date_block_intervals(frame(a=means), horizon=5, seed=seed, n_draws=400)["a"]
        by_date.append(found.low <= 0 <= found.high)
        by_row.append(abs(rows.mean()) <= 1.96 * rows.std() / np.sqrt(len(rows)))
    assert 0.90 <= np.mean(by_date) <= 0.98
    assert np.mean(by_row) <= 0.45


def losses(rng: np.random.Generator, **excess: float) -> pd.DataFrame:
    """Losses of models that share the market's noise; each has an expected excess."""
    shared = overlapping(rng, horizon=5, n_dates=400)
    return frame(**{name: shared + value + 0.5 * rng.normal(size=400) for name, value in excess.items()})


def test_the_confidence_set_keeps_the_best_at_its_level() -> None:
    rng = np.random.default_rng(10)
    found = [
        model_confidence_set(losses(rng, a=0, b=0, c=0.05, d=0.4), horizon=5, seed=i, n_draws=300)
        for i in range(60)
    ]
    assert np.mean(["a" in models.kept for models in found]) >= 0.83
    assert all("d" in models.left_out for models in found)


def test_a_confidence_set_is_ordered_by_loss_and_split_by_its_p_values() -> None:
    found = model_confidence_set(losses(np.random.default_rng(11), c=0.6, a=0.0, b=0.3), horizon=5, seed=0)
    assert found.kept + found.left_out == ("a", "b", "c")
    assert all((found.p_values[name] > 0.1) == (name in found.kept) for name in "abc")
    assert found.block_length >= 10


def test_a_confidence_set_depends_on_the_seed_alone() -> None:
    table = losses(np.random.default_rng(12), a=0.0, b=0.05, c=0.1)
    first = model_confidence_set(table, horizon=5, seed=1, n_draws=200)
    shuffled = table.sample(frac=1, random_state=0)[["c", "a", "b"]]
    assert model_confidence_set(shuffled, horizon=5, seed=1, n_draws=200) == first


@pytest.mark.filterwarnings("error")
def test_models_with_the_same_losses_stand_or_fall_together() -> None:
    table = losses(np.random.default_rng(13), a=0.0, b=0.5)
    found = model_confidence_set(table.assign(twin=table["a"]), horizon=5, seed=0, n_draws=200)
    assert (found.status, set(found.kept), found.left_out) == ("ok", {"a", "twin"}, ("b",))
    tied = model_confidence_set(frame(a=np.ones(200), b=np.ones(200)), horizon=5, seed=0)
    assert (tied.status, set(tied.kept), tied.p_values) == ("ties", {"a", "b"}, {})


def test_a_confidence_set_without_room_is_a_status() -> None:
    table = losses(np.random.default_rng(14), a=0.0, b=0.5)
    assert model_confidence_set(table[["a"]], horizon=5, seed=0).status == "too_few_models"
    few = model_confidence_set(table.iloc[:39], horizon=5, seed=0)
    assert (few.status, few.kept, few.left_out) == ("too_few_dates", (), ())
    assert model_confidence_set(table.assign(a=np.nan), horizon=5, seed=0).n_dates == 0
    with pytest.raises(Fault, match="one row per date"):
        model_confidence_set(pd.concat([table, table]), horizon=5, seed=0)
