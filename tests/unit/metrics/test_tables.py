"""What is written down of a forecast is what is scored, for every kind."""

import numpy as np
import pandas as pd
import pytest

from finscale.metrics import classification, probabilistic, regression, tables
from finscale.metrics.tables import Columns

RANDOM = np.random.default_rng(0)
N, LEVELS = 50, (0.05, 0.5, 0.975)
Y, P = (RANDOM.random(N) < 0.4).astype(float), RANDOM.random(N)
RETURNS, SAID = RANDOM.standard_normal(N), RANDOM.standard_normal(N)
QUANTILES = np.sort(RANDOM.standard_normal((N, 3)), axis=1)
CODES, SHARES = RANDOM.integers(0, 2, (N, 2)).astype(float), np.tile([0.2, 0.5, 0.3, 0.9, 0.1], (N, 1))
NAMED = {"names": ("x", "y"), "n_classes": (3, 2)}

CASES = {
    "binary": (
        tables.binary_columns(Y, P),
        ["probability", "target", "log_loss"],
        classification.scores(Y, P),
    ),
    "regression": (
        tables.regression_columns(RETURNS, SAID),
        ["prediction", "target", "squared_error"],
        regression.scores(RETURNS, SAID),
    ),
    "quantile": (
        tables.quantile_columns(RETURNS, QUANTILES, LEVELS),
        ["q05", "q50", "q97.5", "target", "pinball_loss"],
        probabilistic.scores(RETURNS, QUANTILES, LEVELS),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_scores_are_read_back_from_the_columns_that_were_written(
    case: tuple[Columns, list[str], dict[str, float]],
) -> None:
    columns, names, expected = case
    assert list(columns) == names
    found = tables.scores(pd.DataFrame(columns))
    assert found == pytest.approx(expected, nan_ok=True)
    assert columns[names[-1]].mean() == pytest.approx(found[names[-1]])


def test_errors_are_means_over_steps_and_columns() -> None:
    errors = RANDOM.standard_normal((N, 4, 2))
    columns = tables.error_columns(errors)
    assert columns["squared_error"][3] == pytest.approx(np.square(errors[3]).mean())
    expected = {"squared_error": np.square(errors).mean(), "absolute_error": np.abs(errors).mean(), "n": N}
    assert tables.scores(pd.DataFrame(columns)) == pytest.approx(expected)


def test_the_log_loss_of_several_columns_is_the_plain_mean_of_theirs() -> None:
    columns = tables.classes_columns(CODES, SHARES, **NAMED)
    assert list(columns) == ["log_loss_x", "log_loss_y", "log_loss", "accuracy"]
    x, y = (-np.log(np.where(CODES[:, k] == 0, *said)) for k, said in enumerate([(0.2, 0.5), (0.9, 0.1)]))
    np.testing.assert_allclose(columns["log_loss_x"], x)
    np.testing.assert_allclose(columns["log_loss"], (x + y) / 2)
    hits = (CODES == [1, 0]).mean()
    expected = {"log_loss_x": x.mean(), "log_loss_y": y.mean(), "log_loss": (x + y).mean() / 2}
    frame = pd.DataFrame({**columns, "fold": 3.0})
    assert tables.scores(frame) == pytest.approx({**expected, "accuracy": hits, "n": N})
