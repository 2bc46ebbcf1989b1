import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from finscale.search.samplers import propose

SPACE = {"x": FloatDistribution(0.0, 1.0), "n": CategoricalDistribution((500, 50, 75))}


def trial(x: float, n: int, value: float | None, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    return create_trial(params={"x": x, "n": n}, distributions=SPACE, value=value, state=state)


def bowl(*points: tuple[float, int]) -> list[FrozenTrial]:
    return [trial(x, n, (x - 0.3) ** 2 + 0.001 * n) for x, n in points]


PAST = bowl((0.0, 50), (0.1, 75), (0.6, 500), (0.9, 50), (0.5, 75), (0.2, 500), (0.4, 50))


def test_a_proposal_is_a_function_of_trials_and_seed() -> None:
    first, again = (propose("gp", trials=PAST, distributions=SPACE, seed=3) for _ in range(2))
    assert first == again
    assert first != propose("gp", trials=PAST[:-1], distributions=SPACE, seed=3)


def test_the_gaussian_process_goes_where_the_loss_is_low() -> None:
    found = propose("gp", trials=PAST, distributions=SPACE, seed=0)
    assert abs(found["x"] - 0.3) < 0.15
    assert found["n"] == 50


def test_choices_keep_their_values_and_their_order() -> None:
    seen = {propose("gp", trials=PAST[:k], distributions=SPACE, seed=k)["n"] for k in range(7)}
    assert seen <= {50, 75, 500}
    assert len(seen) > 1


def test_a_failed_trial_repels_the_next_proposal() -> None:
    """Told FAIL, it would not exist for the Gaussian process, which would propose its point again."""
    past = list(PAST)
    first = propose("gp", trials=past, distributions=SPACE, seed=0)["x"]
    past += [trial(first + d, 50, None, TrialState.FAIL) for d in (-0.05, 0.0, 0.05)]
    assert abs(propose("gp", trials=past, distributions=SPACE, seed=0)["x"] - first) > 0.08


def test_a_running_trial_is_not_proposed_again() -> None:
    first = propose("gp", trials=PAST, distributions=SPACE, seed=0)
    running = trial(first["x"], first["n"], None, TrialState.RUNNING)
    second = propose("gp", trials=[*PAST, running], distributions=SPACE, seed=0)
    assert (second["n"], round(second["x"], 2)) != (first["n"], round(first["x"], 2))


def test_a_study_without_any_value_still_gets_a_point() -> None:
    past = [trial(0.5, 50, None, TrialState.FAIL), trial(0.6, 50, None, TrialState.RUNNING)]
    found = propose("gp", trials=past, distributions=SPACE, seed=0)
    assert 0 <= found["x"] <= 1
    assert found["n"] in (50, 75, 500)


def test_sampling_is_silent_and_leaves_the_log_level(caplog: pytest.LogCaptureFixture) -> None:
    before = optuna.logging.get_verbosity()
    propose("gp", trials=PAST, distributions=SPACE, seed=1)
    assert optuna.logging.get_verbosity() == before
    assert caplog.records == []
