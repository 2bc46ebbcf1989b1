"""Gates: each passes and fails on constructed results, and missing runs never read as a pass."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from finscale.longcontext.config import LongContextConfig
from finscale.longcontext.gate import Gate
from finscale.longcontext.gate_config import GateConfig
from finscale.longcontext.gates import (
    constants_gate,
    gain_gates,
    hybrid_gate,
    oscillation_gates,
    regression_gates,
    same_gate,
)
from finscale.longcontext.memory_gates import memory_gates
from finscale.longcontext.paired import estimated_mean, paired_scores
from finscale.longcontext.periodicity import p_of_period
from finscale.longcontext.rows import RetrievalRow, accuracy, rows_table
from finscale.longcontext.verdict import sentences, verdict_of

CONFIG = GateConfig(short_to=256, long_from=4096, memory_from=1024)
CHANCES = {"needle": 0.125, "latest": 0.25}
DEPTHS = (0.1, 0.5, 0.9)


def asked(
    share: Callable[[str, int, float], float] | float,
    mode: str,
    *,
    lengths: Iterable[int] = (256, 4096),
    tasks: Iterable[str] = ("needle", "latest"),
    n: int = 400,
) -> list[RetrievalRow]:
    """Return rows of a mode whose first sequences are right, as many as ``share`` says."""
    rows = []
    for task in tasks:
        for length in lengths:
            for depth in DEPTHS:
                right = share(task, length, depth) if callable(share) else share
                scores = (np.arange(n) < round(right * n)).astype(float)
                place = {"task": task, "length": length, "depth": depth, "mode": mode, "seed": 0}
                rows.append(RetrievalRow(**place, **accuracy(scores), runtime_s=1.0))
    return rows


def table(**modes: Any) -> pd.DataFrame:
    return rows_table([row for mode, share in modes.items() for row in asked(share, mode)])


def test_short_range_regression_passes_fails_and_stays_open() -> None:
    rows = table(rope=0.9, same=0.9, worse=0.8)
    gates = {gate.mode: gate for gate in regression_gates(rows, CONFIG, chances=CHANCES)}
    assert gates["same"].outcome == "pass"
    assert gates["worse"].outcome == "fail"
    assert gates["worse"].estimate == pytest.approx(0.1)
    assert gates["worse"].low < 0.1 < gates["worse"].high
    few = rows_table([*asked(0.9, "rope", n=10), *asked(0.9, "same", n=10)])
    assert regression_gates(few, CONFIG, chances=CHANCES)[0].outcome == "not_measurable"
    alone = rows_table([*asked(0.9, "rope", lengths=[4096]), *asked(0.9, "same", lengths=[4096])])
    assert regression_gates(alone, CONFIG, chances=CHANCES)[0].outcome == "not_measurable"


def test_a_gain_counts_on_deep_needles_far_out_and_only_without_a_loss_on_latest() -> None:
    def far(task: str, length: int, depth: float, *, needle: float, latest: float) -> float:
        return (needle if task == "needle" else latest) if length == 4096 else 1.0

    def mode(needle: float, latest: float) -> Callable[[str, int, float], float]:
        return lambda task, length, depth: far(task, length, depth, needle=needle, latest=latest)

    rows = table(rope=mode(0.3, 0.5), wins=mode(0.9, 0.5), ties=mode(0.4, 0.5), forgets=mode(0.9, 0.2))
    gates = {gate.mode: gate for gate in gain_gates(rows, CONFIG, chances=CHANCES)}
    assert {name: gate.outcome for name, gate in gates.items()} == {
        "wins": "pass",
        "ties": "fail",
        "forgets": "fail",
    }
    assert gates["wins"].estimate == pytest.approx(0.6)
    no_latest = rows[rows["task"] == "needle"]
    assert {gate.outcome for gate in gain_gates(no_latest, CONFIG, chances=CHANCES)} == {
        "not_measurable",
        "fail",
    }


def test_shallow_needles_do_not_count_as_a_gain() -> None:
    rows = table(rope=0.2, near=lambda task, length, depth: 1.0 if depth > 0.5 else 0.4)
    assert gain_gates(rows, CONFIG, chances=CHANCES)[0].outcome == "fail"


def stream(mode: str, length: int, peak: int, state: int) -> dict[str, Any]:
    memory = {"device": "cpu", "rss_bytes": peak, "peak_bytes": 10 * length}
    return {"mode": mode, "length": length, "state_bytes": state, **memory}


def test_memory_must_have_one_state_and_grow_by_no_more_than_allowed() -> None:
    flat = pd.DataFrame([stream("w", 1024, 1000, 64), stream("w", 4096, 1040, 64)])
    assert memory_gates(flat, CONFIG, windowed=["w"])[0].outcome == "pass"
    grows = pd.DataFrame([stream("w", 1024, 1000, 64), stream("w", 4096, 1060, 64)])
    assert memory_gates(grows, CONFIG, windowed=["w"])[0].outcome == "fail"
    cache = pd.DataFrame([stream("w", 1024, 1000, 64), stream("w", 4096, 1000, 128)])
    assert memory_gates(cache, CONFIG, windowed=["w"])[0].outcome == "fail"
    unnoted = flat.assign(rss_bytes=np.nan, peak_bytes=np.nan)
    for missing in (flat[:1], flat[:0], flat.assign(mode="other"), unnoted):
        assert memory_gates(missing, CONFIG, windowed=["w"])[0].outcome == "not_measurable"


def test_a_swing_of_accuracy_is_found_and_noise_is_not() -> None:
    rng, at = np.random.default_rng(5), np.arange(1, 41) * 100.0
    p_of_noise = [p_of_period(at, 0.5 + 0.02 * rng.normal(size=40), rng=rng) for _ in range(12)]
    assert np.mean(np.array(p_of_noise) < 0.05) < 0.25
    assert 0.3 < np.mean(p_of_noise) < 0.7
    swing = 0.5 + 0.2 * np.sin(2 * np.pi * at / 700)
    assert p_of_period(at, swing + 0.02 * rng.normal(size=40), rng=rng) < 0.01


def test_oscillation_is_judged_over_enough_distances() -> None:
    lengths = [1000, 1300, 1700, 2300, 3100]
    steady = rows_table(asked(0.9, "m", lengths=lengths))
    assert oscillation_gates(steady, chances=CHANCES)[0].outcome == "pass"
    swings = asked(
        lambda task, length, depth: 0.5 + 0.4 * np.sin(2 * np.pi * (1 - depth) * length / 500),
        "m",
        lengths=range(1000, 3000, 130),
    )
    assert oscillation_gates(rows_table(swings), chances=CHANCES)[0].outcome == "fail"
    assert oscillation_gates(table(m=0.9), chances=CHANCES)[0].outcome == "not_measurable"


def test_pi_must_beat_each_other_constant() -> None:
    constants = {"a": "pi", "b": "prng", "c": "phi"}
    gates = constants_gate(table(a=0.8, b=0.5, c=0.8), chances=CHANCES, constants=constants)
    assert [gate.outcome for gate in gates] == ["pass", "fail"]
    assert "pi 0.800, phi 0.800, prng 0.500" in gates[0].reason
    alone = constants_gate(table(a=0.8), chances=CHANCES, constants={"a": "pi"})
    assert [gate.outcome for gate in alone] == ["not_measurable"]
    absent = constants_gate(table(a=0.8), chances=CHANCES, constants={"a": "pi", "b": "prng"})
    assert [gate.outcome for gate in absent] == ["not_measurable"]


def gate(name: str, mode: str, outcome: str, **numbers: float) -> Gate:
    return Gate(name=name, mode=mode, outcome=outcome, reason="as constructed", **numbers)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (("pass", "fail"), "pass"),
        (("fail", "fail"), "fail"),
        (("fail", "not_measurable"), "not_measurable"),
        ((), "not_measurable"),
    ],
)
def test_one_k_that_keeps_the_short_range_is_enough(outcomes: tuple[str, ...], expected: str) -> None:
    names = {f"K{i}": 64 * i for i in range(len(outcomes))}
    gates = [gate("short_range_regression", mode, o) for mode, o in zip(names, outcomes, strict=True)]
    assert hybrid_gate(gates, hybrids=names).outcome == expected


def test_a_mode_that_is_the_same_as_none_is_told_so_only_with_enough_sequences() -> None:
    rows = table(none=0.5, same=0.5, other=0.9)
    assert same_gate(rows, CONFIG, "same", "none", chances=CHANCES).outcome == "fail"
    assert same_gate(rows, CONFIG, "other", "none", chances=CHANCES).outcome == "pass"
    rng = np.random.default_rng(0)
    few = [
        RetrievalRow(
            **{"task": "latest", "length": 256, "depth": 0.5, "mode": mode, "seed": 0, "runtime_s": 1.0},
            **accuracy(rng.integers(0, 2, 12).astype(float)),
        )
        for mode in ("none", "x")
    ]
    assert same_gate(rows_table(few), CONFIG, "x", "none", chances=CHANCES).outcome == "not_measurable"


def test_only_the_same_sequences_are_compared() -> None:
    rows = [*asked(1.0, "a", lengths=[256], n=4), *asked(0.5, "b", lengths=[256, 512], n=4)]
    assert paired_scores(rows_table(rows), "a", "b").tolist() == [0, 0, 1, 1] * 6
    other = [*asked(1.0, "a", lengths=[256], n=4), *asked(1.0, "b", lengths=[512], n=4)]
    assert len(paired_scores(rows_table(other), "a", "b")) == 0


def test_equal_scores_leave_room_for_what_was_not_seen() -> None:
    assert estimated_mean(pd.Series(np.zeros(30), index=[0] * 30)) == (0.0, -0.1, 0.1)


def test_seeds_that_disagree_widen_what_their_many_sequences_would_settle() -> None:
    gains = pd.Series(np.repeat([0.3, 0.1, -0.1], 1000), index=np.repeat([0, 1, 2], 1000))
    mean, low, high = estimated_mean(gains)
    half = 4.302653 * 0.2 / np.sqrt(3)  # Student's t with two degrees of freedom
    assert (mean, low, high) == pytest.approx((0.1, 0.1 - half, 0.1 + half), abs=1e-6)
    _, low, high = estimated_mean(gains.set_axis([0] * 3000))
    assert 0.08 < low < 0.1 < high < 0.12


def test_one_seed_is_said_to_know_nothing_of_another_training(smoke: LongContextConfig) -> None:
    rows = table(**dict.fromkeys(smoke.modes, 1.0))
    several = smoke.model_copy(update={"seeds": (0, 1)})
    assert verdict_of(rows, pd.DataFrame(), smoke).sentences[0].startswith("One seed each")
    assert "One seed" not in " ".join(verdict_of(rows, pd.DataFrame(), several).sentences)


def said(*gates: Gate) -> str:
    return " ".join(sentences(gates, baseline="rope"))


def test_the_sentences_follow_from_the_gates() -> None:
    same = gate("constants", "pi over prng", "fail", low=-0.1, high=0.1)
    assert "non-periodic, not pi" in said(same)
    assert "A hash of the position beats" in said(same.model_copy(update={"high": -0.05}))
    assert "pi beats a hash" in said(same.model_copy(update={"outcome": "pass", "low": 0.05}))
    assert "non-periodic" not in said(same.model_copy(update={"outcome": "not_measurable"}))
    assert "position is ignored" in said(gate("differs_from_none", "pi", "fail"))
    assert "position is ignored" not in said(gate("differs_from_none", "pi", "pass"))
    lost = gate("short_range_regression", "pi", "fail")
    assert "is the default" in said(lost, gate("some_hybrid_keeps_short_range", "hybrid", "pass"))
    assert "No hybrid keeps" in said(lost, gate("some_hybrid_keeps_short_range", "hybrid", "fail"))
    assert "sweep K" in said(lost, gate("some_hybrid_keeps_short_range", "hybrid", "not_measurable"))
    assert "'pi' beats 'rope' on deep needles" in said(gate("long_range_gain", "pi", "pass"))
    assert "does not hold for 'pi'" in said(gate("long_range_gain", "pi", "fail"))
    assert "Accuracy swings with distance under 'pi'" in said(gate("no_oscillation", "pi", "fail"))
    assert "Memory stays constant under 'w'" in said(gate("memory_growth", "w", "pass"))
    assert "Memory grows under 'w'" in said(gate("memory_growth", "w", "fail"))


def test_what_was_not_run_is_named_and_never_passes(smoke: LongContextConfig) -> None:
    rows = table(rope=0.5)
    verdict = verdict_of(rows, pd.DataFrame(), smoke)
    assert "pass" not in {gate.outcome for gate in verdict.gates}
    assert verdict.sentences[-1].startswith("Not measurable with these runs:")
    assert "memory_growth (1)" in verdict.sentences[-1]
