import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from finscale.search.coverage import coverage


def trial(n_layers: int, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    value = 0.5 if state == TrialState.COMPLETE else None
    return optuna.trial.create_trial(
        state=state, value=value, user_attrs={"n_layers": n_layers, "d_model": 16, "n_heads": 2}
    )


def test_it_tells_what_was_tried_of_what_the_grid_has(grid: pd.DataFrame) -> None:
    depths = sorted(grid["n_layers"].unique())
    found = coverage(grid, [trial(int(depths[0])), trial(int(depths[2])), trial(int(depths[2])), trial(5)])
    layers, widths, heads = found
    assert (layers.dimension, widths.dimension, heads.dimension) == ("n_layers", "d_model", "n_heads")
    assert layers.in_grid == tuple(depths)
    assert layers.tried == tuple(sorted({depths[0], depths[2], 5}))
    assert layers.missing == tuple(depth for depth in depths if depth not in (depths[0], depths[2]))


def test_a_trial_without_a_result_has_tried_nothing(grid: pd.DataFrame) -> None:
    trials = [trial(2, TrialState.RUNNING), trial(3, TrialState.FAIL)]
    assert coverage(grid, trials)[0].tried == ()
