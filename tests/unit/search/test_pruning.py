"""Which trial ends early, by each rule."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState

from finscale.search.pruning import PRUNABLE, Pruner, PrunerName, _bracket, _curve

EVERYONE = float("inf")
WHEN = datetime(2026, 1, 1)


def a_trial(
    number: int,
    losses: Sequence[float],
    *,
    state: TrialState = TrialState.COMPLETE,
    kind: str = "sampler",
    epochs: int = 50,
) -> FrozenTrial:
    """A trial that reported ``losses`` at epochs 1, 2, ..."""
    return FrozenTrial(
        number=number,
        state=state,
        value=None,
        datetime_start=WHEN,
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={"kind": kind, "epochs": epochs},
        system_attrs={},
        intermediate_values=dict(enumerate(losses, start=1)),
        trial_id=number,
    )


def judged(
    rule: PrunerName,
    rivals: Sequence[FrozenTrial],
    losses: Sequence[float],
    *,
    min_epochs: int = 2,
    reduction: int = 3,
    rivals_below: float = EVERYONE,
    **about: Any,
) -> bool:
    """Whether a running trial with these losses, beside these rivals, is hopeless at its last epoch."""
    trials = [*rivals, a_trial(len(rivals), losses, state=TrialState.RUNNING, **about)]
    pruner = Pruner(rule, min_epochs, reduction)
    return pruner.is_hopeless(trials, len(rivals), epoch=len(losses), rivals_below=rivals_below)


def complete(*values: float, epochs: int = 50, kind: str = "random") -> list[FrozenTrial]:
    """Rivals whose loss is constant."""
    return [a_trial(k, [value] * 10, epochs=epochs, kind=kind) for k, value in enumerate(values)]


FIVE = complete(0.1, 0.2, 0.3, 0.4, 0.5)


# -- every rule ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["median", "asha", "hyperband"])
@pytest.mark.parametrize("kind", ["extreme", "random", "supplemental", "transfer"])
def test_trials_whose_loss_the_analysis_needs_are_never_pruned(rule: PrunerName, kind: str) -> None:
    assert kind not in PRUNABLE
    assert not judged(rule, FIVE, [0.9, 0.9], kind=kind)
    assert judged("asha", FIVE, [0.9, 0.9], kind="grid")


@pytest.mark.parametrize("rule", ["median", "asha"])
def test_a_trial_is_compared_with_schedules_of_its_own_length_alone(rule: PrunerName) -> None:
    assert judged(rule, FIVE, [0.9, 0.9], epochs=50)
    assert not judged(rule, FIVE, [0.9, 0.9], epochs=100)


@pytest.mark.parametrize("rule", ["median", "asha"])
def test_nobody_is_judged_before_the_first_epoch_or_at_the_last(rule: PrunerName) -> None:
    assert not judged(rule, FIVE, [0.9], min_epochs=2)
    short = complete(0.1, 0.2, 0.3, 0.4, 0.5, epochs=2)
    assert not judged(rule, short, [0.9, 0.9], epochs=2)


@pytest.mark.parametrize("rule", ["median", "asha"])
def test_the_lowest_loss_so_far_counts_and_not_the_last(rule: PrunerName) -> None:
    assert not judged(rule, FIVE, [0.05, 0.9])
    assert judged(rule, FIVE, [0.9, 0.45])


@pytest.mark.parametrize("rule", ["median", "asha"])
def test_losses_of_later_epochs_do_not_count(rule: PrunerName) -> None:
    late = [a_trial(k, [0.8, 0.8, 0.01]) for k in range(5)]
    assert not judged(rule, late, [0.7, 0.7])


def test_epochs_reported_before_a_restart_do_not_count_until_they_come_again() -> None:
    trials = [*FIVE, a_trial(5, [0.9, 0.9, 0.01], state=TrialState.RUNNING)]
    assert Pruner("asha", 2, 3).is_hopeless(trials, 5, epoch=2, rivals_below=EVERYONE)


@pytest.mark.parametrize("rule", ["median", "asha"])
def test_rivals_can_be_cut_at_a_number(rule: PrunerName) -> None:
    assert judged(rule, FIVE, [0.9, 0.9], rivals_below=5)
    assert not judged(rule, FIVE, [0.9, 0.9], rivals_below=1)


def test_without_a_rule_everybody_goes_on() -> None:
    assert not judged("none", FIVE, [9.0, 9.0])


# -- median --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("loss", "ends"), [(0.29, False), (0.3, False), (0.31, True)])
def test_the_median_of_complete_rivals_divides(loss: float, ends: bool) -> None:
    assert judged("median", FIVE, [loss, loss]) == ends


def test_four_complete_rivals_are_too_few_for_a_median() -> None:
    running = a_trial(4, [0.1, 0.1], state=TrialState.RUNNING)
    assert not judged("median", [*FIVE[:4], running], [0.9, 0.9])


# -- asha ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("loss", "ends"), [(0.15, False), (0.25, True)])
def test_one_in_three_goes_on_from_a_rung(loss: float, ends: bool) -> None:
    assert judged("asha", FIVE, [loss, loss]) == ends


def test_only_rungs_are_looked_at() -> None:
    ends = [judged("asha", FIVE, [0.9] * epoch) for epoch in range(1, 20)]
    assert [epoch for epoch, end in enumerate(ends, start=1) if end] == [2, 6, 18]


def test_fewer_than_the_reduction_at_a_rung_all_go_on() -> None:
    assert not judged("asha", FIVE[:1], [0.9, 0.9])
    assert judged("asha", FIVE[:2], [0.9, 0.9])


def test_a_rival_that_was_pruned_below_a_rung_does_not_stand_on_it() -> None:
    pruned = [a_trial(k, [0.1, 0.1], state=TrialState.PRUNED) for k in range(5)]
    assert judged("asha", pruned, [0.9] * 2)
    assert not judged("asha", pruned, [0.9] * 6)


def test_a_rival_that_ran_out_of_patience_stands_on_every_later_rung() -> None:
    early = [a_trial(k, [0.1, 0.1]) for k in range(5)]
    assert judged("asha", early, [0.9] * 6)


losses = st.lists(st.floats(0.1, 0.9), min_size=6, max_size=6)


@given(others=st.lists(losses, max_size=12), reduction=st.integers(2, 4))
def test_the_best_at_a_rung_always_goes_on(others: list[list[float]], reduction: int) -> None:
    rivals = [a_trial(k, found, state=TrialState.RUNNING) for k, found in enumerate(others)]
    best = min((min(found[:2]) for found in others), default=0.5)
    assert not judged("asha", rivals, [best, best], reduction=reduction)


@given(others=st.lists(losses, min_size=12, max_size=30), reduction=st.integers(2, 4))
def test_of_all_that_reach_a_rung_one_in_as_many_would_go_on(
    others: list[list[float]], reduction: int
) -> None:
    """Each judged last: so many trials with losses of their own pass as the rung has room for."""
    distinct = [[first + k * 1e-6, *rest] for k, (first, *rest) in enumerate(others)]
    trials = [a_trial(k, [found[0]] * 2, state=TrialState.RUNNING) for k, found in enumerate(distinct)]
    if len({found[0] for found in distinct}) < len(distinct):
        return
    pruner = Pruner("asha", 2, reduction)
    ended = [pruner.is_hopeless(trials, k, epoch=2, rivals_below=EVERYONE) for k in range(len(trials))]
    assert ended.count(False) == len(trials) // reduction


# -- hyperband -----------------------------------------------------------------------------------------------


def test_hyperband_deals_trials_out_in_the_papers_proportions() -> None:
    pruner = Pruner("hyperband", 10, 3)
    brackets = Counter(_bracket(pruner, _curve(a_trial(k, [0.5], epochs=100))) for k in range(3000))
    # s_max = 2: n = ceil(3 / (s + 1) * 3**s) trials begin in the bracket of s
    assert [brackets[b] / 3000 for b in range(3)] == pytest.approx([9 / 17, 5 / 17, 3 / 17], abs=0.03)


def test_a_bracket_is_judged_from_its_own_first_rung_on() -> None:
    pruner = Pruner("hyperband", 2, 3)
    rungs = [2, 6, 18]
    number_in = {
        b: next(k for k in range(5, 99) if _bracket(pruner, _curve(a_trial(k, [1.0]))) == b)
        for b in range(len(rungs))
    }
    for bracket, number in number_in.items():
        trials = FIVE + [a_trial(k, [], state=TrialState.FAIL) for k in range(5, number)]
        trials.append(a_trial(number, [0.9] * 20, state=TrialState.RUNNING))
        ended = [
            e for e in range(1, 20) if pruner.is_hopeless(trials, number, epoch=e, rivals_below=EVERYONE)
        ]
        assert ended == rungs[bracket:]


@pytest.mark.parametrize(("bracket", "others"), [(0, 1), (1, 0)])
def test_a_bracket_has_its_own_rivals_and_those_that_are_never_pruned(bracket: int, others: int) -> None:
    pruner = Pruner("hyperband", 2, 3)
    places = [_bracket(pruner, _curve(a_trial(k, [1.0]))) for k in range(99)]
    rung, number = 2 * 3**bracket, max(k for k in range(99) if places[k] == bracket)

    def ends(kind: str, peers: int) -> bool:
        trials = [a_trial(k, [0.1] * 10 if places[k] == peers else [], kind=kind) for k in range(99)]
        trials[number] = a_trial(number, [0.9] * rung, state=TrialState.RUNNING)
        return pruner.is_hopeless(trials, number, epoch=rung, rivals_below=EVERYONE)

    assert ends("sampler", bracket)
    assert not ends("sampler", others)
    assert ends("random", others)
