from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from finscale.search.coordinates import COORDINATES, DISTRIBUTIONS, Coordinates
from finscale.search.samplers import SAMPLERS, propose

FREE: dict[str, BaseDistribution] = {
    "x": FloatDistribution(0.0, 1.0),
    "n": CategoricalDistribution((500, 50, 75)),
}
ADAPTIVE = ("gp", "tpe")
PRUNED = TrialState.PRUNED


@pytest.fixture(scope="module")
def rows(grid: pd.DataFrame) -> Coordinates:
    return Coordinates.of(grid)


def trial(
    rows: Coordinates,
    position: int,
    values: dict[str, Any],
    value: float | None,
    state: TrialState = TrialState.COMPLETE,
    losses: dict[int, float] | None = None,
) -> FrozenTrial:
    own = dict(zip(COORDINATES, rows.points[position].tolist(), strict=True))
    return create_trial(
        params={**own, **values},
        distributions={**DISTRIBUTIONS, **{name: FREE[name] for name in values}},
        value=value,
        state=state,
        intermediate_values=losses,
    )


def loss(rows: Coordinates, position: int, x: float, n: int) -> float:
    return float((x - 0.3) ** 2 + 0.001 * n + 4 * (rows.points[position][0] - rows.points[3][0]) ** 2)


def past(rows: Coordinates, n_trials: int) -> list[FrozenTrial]:
    rng, found = np.random.default_rng(0), []
    for _ in range(n_trials):
        position, x = int(rng.integers(len(rows.points))), float(rng.random())
        n = int(rng.choice([50, 75, 500]))
        found.append(trial(rows, position, {"x": x, "n": n}, loss(rows, position, x, n)))
    return found


def ask(sampler: str, rows: Coordinates, trials: Sequence[FrozenTrial], seed: int = 0) -> Any:
    return propose(sampler, trials=trials, rows=rows, free=FREE, seed=seed)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_proposal_is_a_function_of_trials_and_seed(sampler: str, rows: Coordinates) -> None:
    trials = past(rows, 12)
    first, again = (ask(sampler, rows, trials, seed=3) for _ in range(2))
    assert first == again
    assert first != ask(sampler, rows, trials[:-1], seed=3)
    assert first != ask(sampler, rows, trials, seed=4)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_values_keep_their_type_and_their_range(sampler: str, rows: Coordinates) -> None:
    for seed in range(4):
        position, values = ask(sampler, rows, past(rows, 9), seed)
        assert 0 <= position < len(rows.points)
        assert 0 <= values["x"] <= 1
        assert values["n"] in (50, 75, 500)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_study_without_any_value_still_gets_a_point(sampler: str, rows: Coordinates) -> None:
    failed = trial(rows, 0, {"x": 0.5, "n": 50}, None, TrialState.FAIL)
    running = trial(rows, 1, {"x": 0.6, "n": 50}, None, TrialState.RUNNING)
    assert 0 <= ask(sampler, rows, [failed, running])[1]["x"] <= 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_a_trial_did_not_draw_does_not_hinder(sampler: str, rows: Coordinates) -> None:
    trials = [*past(rows, 9), trial(rows, 0, {"x": 0.5}, 0.2)]
    assert set(ask(sampler, rows, trials)[1]) == {"x", "n"}


def test_the_gaussian_process_finds_the_bottom_of_a_bowl(rows: Coordinates) -> None:
    trials = past(rows, 10)
    for _ in range(12):
        position, values = ask("gp", rows, trials)
        trials.append(trial(rows, position, values, loss(rows, position, **values)))
    best = min(trials, key=lambda found: found.value)
    assert abs(best.params["x"] - 0.3) < 0.03
    assert best.params["n"] == 50
    assert best.params["shape"] == pytest.approx(rows.points[3][0], abs=0.03)


def test_tpe_spends_most_proposals_where_losses_are_low(rows: Coordinates) -> None:
    trials = past(rows, 40)
    found = [ask("tpe", rows, trials, seed)[1] for seed in range(20)]
    assert np.mean([values["n"] == 500 for values in found]) < 0.2
    assert np.mean([abs(values["x"] - 0.3) < 0.3 for values in found]) > 0.7


def test_the_sequence_fills_the_space_more_evenly_than_chance(rows: Coordinates) -> None:
    xs = sorted(ask("qmc", rows, past(rows, n), seed=1)[1]["x"] for n in range(64))
    steps = (np.arange(64) + 0.5) / 64
    assert np.abs(np.array(xs) - steps).max() < 0.05


@pytest.mark.parametrize("sampler", ADAPTIVE)
def test_a_failed_trial_repels_the_next_proposal(sampler: str, rows: Coordinates) -> None:
    """Told FAIL, it would not exist for a sampler, which would propose its point again."""
    trials = past(rows, 25)
    position, values = ask(sampler, rows, trials)
    around = [{**values, "x": min(1.0, max(0.0, values["x"] + d))} for d in (-0.05, 0.0, 0.05)]
    failures = [trial(rows, position, found, None, TrialState.FAIL) for found in around]
    worst = max(found.value for found in trials)
    told = [trial(rows, position, found, worst) for found in around]
    assert ask(sampler, rows, [*trials, *failures]) == ask(sampler, rows, [*trials, *told])


def test_a_running_trial_is_not_proposed_again(rows: Coordinates) -> None:
    trials = past(rows, 20)
    found = []
    for _ in range(6):
        position, values = ask("gp", rows, trials)
        found.append((position, values["n"], round(values["x"], 2)))
        trials.append(trial(rows, position, values, None, TrialState.RUNNING))
    assert len(set(found)) == 6


def test_tpe_learns_from_a_pruned_trial_and_the_gaussian_process_does_not(rows: Coordinates) -> None:
    def pruned(sign: int) -> list[FrozenTrial]:
        return [
            trial(
                rows,
                0,
                {"x": found.params["x"], "n": found.params["n"]},
                None,
                PRUNED,
                {5: sign * found.value},
            )
            for found in past(rows, 20)
        ]

    assert ask("tpe", rows, pruned(1)) != ask("tpe", rows, pruned(-1))
    complete = past(rows, 8)
    assert ask("gp", rows, [*complete, *pruned(1)]) == ask("gp", rows, [*complete, *pruned(-1)])


def test_sampling_is_silent_and_leaves_the_log_level(
    rows: Coordinates, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    before = optuna.logging.get_verbosity()
    for sampler in SAMPLERS:
        ask(sampler, rows, past(rows, 9))
    assert optuna.logging.get_verbosity() == before
    assert caplog.records == []
    assert [str(warning.message) for warning in recwarn] == []
