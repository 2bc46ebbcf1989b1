"""A verdict says nothing that a guesser's numbers would have said too."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from finscale.longcontext.config import LongContextConfig, read_block
from finscale.longcontext.gate_config import GateConfig
from finscale.longcontext.gates import (
    above_chance_gates,
    constants_gate,
    gain_gates,
    judge_all,
    oscillation_gates,
    regression_gates,
    same_gate,
)
from finscale.longcontext.learned import attempts, chances_of, learned, shortest, unlearned
from finscale.longcontext.rows import RetrievalRow, accuracy, rows_table
from finscale.longcontext.tasks import dense_samples
from finscale.longcontext.verdict import sentences, verdict_of

CONFIG = GateConfig(short_to=256, long_from=4096, memory_from=1024)
CHANCES = {"needle": 0.125, "latest": 0.25}
GUESSES = {"needle": 0.125, "latest": 0.25}
KNOWS = {"needle": 0.9, "latest": 0.9}
Shares = dict[Any, float]


def rows_of(mode: str, shares: Shares, *, lengths: tuple[int, ...] = (256, 4096)) -> list[RetrievalRow]:
    """Rows of 400 sequences a place, as many of them right as said by task, or by task and length."""
    rows = []
    for length in lengths:
        for task in ("needle", "latest"):
            share = shares.get((task, length), shares.get(task))
            for depth in (0.1, 0.5, 0.9) if share is not None else ():
                scores = (np.arange(400) < round(share * 400)).astype(float)
                place = {"task": task, "length": length, "depth": depth, "mode": mode, "seed": 0}
                rows.append(RetrievalRow(**place, **accuracy(scores), runtime_s=1.0))
    return rows


def table(**modes: Shares) -> pd.DataFrame:
    return rows_table([row for mode, shares in modes.items() for row in rows_of(mode, shares)])


def test_chance_is_what_a_guesser_scores(demo: LongContextConfig, blocks: dict[str, Any]) -> None:
    chances, rng = chances_of(demo), np.random.default_rng(0)
    assert (chances["needle"], chances["latest"], chances["overwrite"]) == (1 / 8, 1 / 4, 1 / 20)
    samples, right = dense_samples(rng, 200, 256, symbols=demo.decoder_symbols), []
    for tokens, scored in zip(samples.tokens, samples.scored, strict=True):
        places = np.flatnonzero(scored)
        guesses = [rng.choice(np.unique(tokens[1:at:2])) for at in places]
        right.append(np.mean(guesses == tokens[places + 1]))
    assert chances["dense"] == pytest.approx(np.mean(right), abs=0.01)
    assert chances["dense"] > 1 / 8
    assert chances_of(read_block("base", blocks)) == {}


def test_a_mode_has_learned_what_its_whole_interval_says() -> None:
    rows = table(knows=KNOWS, near={"needle": 0.15, "latest": 0.25}, guesses=GUESSES)
    assert learned(rows, "knows", CHANCES) == ["latest", "needle"]
    assert learned(rows, "near", CHANCES) == ["needle"]
    assert learned(rows, "guesses", CHANCES) == learned(rows, "absent", CHANCES) == []
    (few,) = attempts(rows_table(rows_of("few", {"needle": 0.14}, lengths=(256,))), "few", CHANCES)
    assert few.low < few.chance < few.acc
    assert not few.above_chance
    said = unlearned(rows, ("knows", "guesses", "absent"), CHANCES)
    assert [line.split(" [")[0] for line in said] == ["no better than chance: guesses at latest 0.250"]
    assert said[0].endswith("chance 0.125")


def test_a_task_that_cannot_be_guessed_is_learned_with_its_first_right_answer() -> None:
    rows = table(none={"needle": 0.0}, once={"needle": 0.0025})
    assert learned(rows, "none", {}) == []
    assert learned(rows, "once", {}) == ["needle"]


def test_what_is_learned_is_seen_at_the_shortest_length() -> None:
    fades = {("needle", 256): 0.9, ("needle", 4096): 0.1}
    late = rows_table([*rows_of("fades", fades), *rows_of("late", {"needle": 0.1}, lengths=(4096,))])
    assert set(shortest(late)["length"]) == {256, 4096}
    outcomes = {gate.mode: gate.outcome for gate in above_chance_gates(late, chances=CHANCES)}
    assert outcomes == {"fades": "pass", "late": "fail"}


def outcome_of(gates: list[Any]) -> tuple[str, str]:
    (gate,) = gates
    return gate.outcome, gate.reason


def test_a_regression_needs_something_that_could_be_lost() -> None:
    outcome, reason = outcome_of(regression_gates(table(rope=GUESSES, x=GUESSES), CONFIG, chances=CHANCES))
    assert outcome == "not_measurable"
    assert "no better than chance: rope at latest 0.250" in reason
    assert "no better than chance: x at" in reason
    lost = regression_gates(table(rope=KNOWS, x=GUESSES), CONFIG, chances=CHANCES)
    assert outcome_of(lost)[0] == "fail"
    kept = regression_gates(table(rope=GUESSES, x=KNOWS), CONFIG, chances=CHANCES)
    assert outcome_of(kept)[0] == "pass"


def test_tasks_that_neither_has_learned_do_not_water_a_regression_down() -> None:
    rows = table(rope={"needle": 0.9, "latest": 0.25}, x={"needle": 0.8, "latest": 0.25})
    (gate,) = regression_gates(rows, CONFIG, chances=CHANCES)
    assert gate.estimate == pytest.approx(0.1)
    assert "both at chance in latest, left out" in gate.reason


def far(needle: float, latest: float, *, near: Shares = KNOWS) -> Shares:
    return {**near, ("needle", 4096): needle, ("latest", 4096): latest}


@pytest.mark.parametrize(
    ("rope", "mode", "expected"),
    [
        (far(0.3, 0.6), far(0.9, 0.6), "pass"),
        (far(0.125, 0.25), far(0.9, 0.9), "pass"),
        # both forget the needle that they knew: a gain there was not
        (far(0.125, 0.6), far(0.125, 0.6), "fail"),
        # neither knows the order far out: there is nothing on latest that a mode could lose
        (far(0.3, 0.25), far(0.9, 0.25), "not_measurable"),
        (far(0.3, 0.25, near=GUESSES), far(0.9, 0.6), "not_measurable"),
        (far(0.3, 0.6), far(0.125, 0.6, near=GUESSES), "not_measurable"),
        (GUESSES, GUESSES, "not_measurable"),
    ],
)
def test_a_gain_is_one_between_modes_that_find_needles_nearby(
    rope: Shares, mode: Shares, expected: str
) -> None:
    outcome, reason = outcome_of(gain_gates(table(rope=rope, x=mode), CONFIG, chances=CHANCES))
    assert outcome == expected
    assert ("no better than chance" in reason) == (expected == "not_measurable")


def test_constants_are_ranked_among_modes_that_have_learned() -> None:
    def judged(pi: Shares, prng: Shares) -> str:
        constants = {"a": "pi", "b": "prng"}
        return outcome_of(constants_gate(table(a=pi, b=prng), chances=CHANCES, constants=constants))[0]

    assert judged(KNOWS, KNOWS) == "fail"
    assert judged(KNOWS, {"needle": 0.5, "latest": 0.5}) == "pass"
    assert judged(GUESSES, GUESSES) == judged(KNOWS, GUESSES) == judged(GUESSES, KNOWS) == "not_measurable"


def test_position_is_ignored_by_who_finds_the_key_and_not_by_who_finds_nothing() -> None:
    def judged(none: Shares, mode: Shares) -> str:
        return same_gate(table(none=none, x=mode), CONFIG, "x", "none", chances=CHANCES).outcome

    finds = {"needle": 1.0, "latest": 0.25}
    assert judged(finds, finds) == "fail"
    assert judged(KNOWS, finds) == "pass"
    assert judged(GUESSES, GUESSES) == judged(KNOWS, GUESSES) == judged(GUESSES, KNOWS) == "not_measurable"
    assert judged({"latest": 0.25}, {"latest": 0.25}) == "not_measurable"
    assert judged({"latest": 0.9}, {"latest": 0.9}) == "fail"


@pytest.mark.parametrize(
    ("share", "expected"), [(0.9, "pass"), (0.125, "not_measurable"), (0.0, "not_measurable")]
)
def test_what_is_chance_everywhere_does_not_count_as_steady(share: float, expected: str) -> None:
    lengths = (1000, 1300, 1700, 2300, 3100)
    rows = rows_table(rows_of("m", {"needle": share}, lengths=lengths))
    assert outcome_of(oscillation_gates(rows, chances=CHANCES))[0] == expected


def test_guessers_get_no_verdict_but_that_they_guess(smoke: LongContextConfig) -> None:
    named = {"constants": {"pi": "pi", "prng": "prng"}, "hybrids": {"hybrid": 128}, "windowed": ()}

    def said(shares: Callable[[str], Shares]) -> list[str]:
        rows = table(**{mode: shares(mode) for mode in ("rope", "none", "pi", "prng", "hybrid")})
        return list(
            sentences(judge_all(rows, pd.DataFrame(), CONFIG, chances=CHANCES, **named), baseline="rope")
        )

    first, last = said(lambda mode: GUESSES)
    assert first == (
        "Nothing about positions follows from 'rope', 'none', 'pi', 'prng' and 'hybrid': no better than "
        "chance even at the shortest length."
    )
    assert last.startswith("Not measurable with these runs: short_range_regression (4), long_range_gain (4)")
    alike = " ".join(said(lambda mode: KNOWS))
    assert "position is ignored" in alike
    assert "non-periodic, not pi" in alike
    assert "Nothing about positions" not in alike
    chance = {"needle": 0.5, "latest": 0.5}
    untrained = verdict_of(table(rope=chance, none=chance, window=chance), pd.DataFrame(), smoke)
    assert "pass" not in {gate.outcome for gate in untrained.gates}
    assert len(untrained.sentences) == 3
