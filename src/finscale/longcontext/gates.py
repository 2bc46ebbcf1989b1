"""Decide what rows of accuracy and of memory allow to be said, each gate with its number and interval.

Accuracies are compared on the same sequences, pair by pair. A gate passes or fails where its whole 95 %
interval lies on one side of its threshold; everything else is not measurable: few sequences, missing runs,
modes that answer no better than chance where the question needs more (`finscale.longcontext.learned`).
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from finscale.core.seeding import generator
from finscale.longcontext.gate import Gate, Outcome
from finscale.longcontext.gate_config import GateConfig
from finscale.longcontext.learned import Chances, attempts, learned, shortest, unlearned
from finscale.longcontext.memory_gates import memory_gates
from finscale.longcontext.paired import LEVEL, estimated_mean, paired_scores
from finscale.longcontext.periodicity import p_of_period

__all__ = [
    "Gate",
    "above_chance_gates",
    "constants_gate",
    "gain_gates",
    "hybrid_gate",
    "judge_all",
    "oscillation_gates",
    "regression_gates",
    "same_gate",
]

_MIN_POINTS = 12


def judge_all(
    rows: pd.DataFrame,
    system: pd.DataFrame,
    config: GateConfig,
    *,
    chances: Chances,
    constants: Mapping[str, str],
    hybrids: Mapping[str, int],
    windowed: Sequence[str],
) -> tuple[Gate, ...]:
    """Return every gate.

    Parameters
    ----------
    rows : DataFrame
        Of `finscale.longcontext.rows.rows_table`.
    system : DataFrame
        Of `finscale.longcontext.streaming.StreamRow`; may be empty.
    config : GateConfig
        Thresholds.
    chances : mapping
        By task, what guessing scores; a task that is not named cannot be guessed.
    constants : mapping
        By mode, the constant c of a pi spiral (``pi``, ``prng`` ...); of them the modes compared.
    hybrids : mapping
        By mode, K.
    windowed : sequence of str
        Modes whose memory is claimed to be constant.
    """
    regressions = regression_gates(rows, config, chances=chances)
    return (
        *above_chance_gates(rows, chances=chances),
        *regressions,
        *gain_gates(rows, config, chances=chances),
        *memory_gates(system, config, windowed=windowed),
        *oscillation_gates(rows, chances=chances),
        *constants_gate(rows, chances=chances, constants=constants),
        hybrid_gate(regressions, hybrids=hybrids),
        *(same_gate(rows, config, mode, "none", chances=chances) for mode in _others(rows, "none")),
    )


def above_chance_gates(rows: pd.DataFrame, *, chances: Chances) -> list[Gate]:
    """Ask of every mode whether it does better than guessing in any task, at the shortest length of each."""
    near = shortest(rows)
    return [_above_chance(near, mode, chances) for mode in _modes(rows)]


def _above_chance(rows: pd.DataFrame, mode: str, chances: Chances) -> Gate:
    tried = attempts(rows, mode, chances)
    best = max(tried, key=lambda attempt: attempt.low - attempt.chance)
    numbers = {"estimate": best.acc, "low": best.low, "high": best.high, "n": best.n}
    passed, reason = best.above_chance, "; ".join(map(str, tried))
    common = {"name": "above_chance", "mode": mode, "threshold": best.chance}
    return Gate(**common, **numbers, outcome=_outcome(passed), reason=reason)


def regression_gates(rows: pd.DataFrame, config: GateConfig, *, chances: Chances) -> list[Gate]:
    """Ask of every mode but the baseline whether it keeps the baseline's accuracy at short lengths.

    In the tasks that one of the two does better than chance there: in the others there is nothing to lose.
    """
    short = rows[rows["length"] <= config.short_to]
    told = f"accuracy lost against {config.baseline} up to {config.short_to}"
    return [
        _lost(short, config, mode, name="short_range_regression", told=told, chances=chances)
        for mode in _others(rows, config.baseline)
    ]


def _lost(
    rows: pd.DataFrame, config: GateConfig, mode: str, *, name: str, told: str, chances: Chances
) -> Gate:
    pair = (config.baseline, mode)
    tasks = {task for one in pair for task in learned(rows, one, chances)}
    common, most = {"name": name, "mode": mode}, config.max_regression
    unable = unlearned(rows, pair, chances)
    if len(unable) == len(pair):
        reason = f"{told}: {'; '.join(unable)}"
        return Gate(**common, outcome="not_measurable", threshold=most, reason=reason)
    left_out = [task for task in dict.fromkeys(rows["task"]) if task not in tasks]
    at_chance = f" (both at chance in {', '.join(left_out)}, left out)" if left_out and tasks else ""
    scores = paired_scores(rows[rows["task"].isin(tasks)], *pair)
    return _at_most(scores, **common, threshold=most, told=told + at_chance)


def gain_gates(rows: pd.DataFrame, config: GateConfig, *, chances: Chances) -> list[Gate]:
    """Ask of every mode whether it gains on deep needles far out, and loses nothing on ``latest`` there.

    Both it and the baseline must find needles at the shortest length.
    """
    return [_gain(rows, config, mode, chances) for mode in _others(rows, config.baseline)]


def _gain(rows: pd.DataFrame, config: GateConfig, mode: str, chances: Chances) -> Gate:
    needles, far = rows[rows["task"] == "needle"], rows[rows["length"] >= config.long_from]
    deep = far[(far["task"] == "needle") & (far["depth"] <= config.deep_to)]
    common = {"name": "long_range_gain", "mode": mode}
    told = f"accuracy gained over {config.baseline} on deep needles from {config.long_from}"
    unable = unlearned(shortest(needles), (config.baseline, mode), chances)
    if unable:
        reason = f"{told}: {'; '.join(unable)}"
        return Gate(**common, outcome="not_measurable", threshold=config.min_gain, reason=reason)
    gain = _at_least(
        paired_scores(deep, mode, config.baseline), **common, threshold=config.min_gain, told=told
    )
    kept = f"accuracy lost against {config.baseline} on latest"
    loss = _lost(far[far["task"] == "latest"], config, mode, name="", told=kept, chances=chances)
    outcome = _both(gain.outcome, loss.outcome)
    return gain.model_copy(update={"outcome": outcome, "reason": f"{gain.reason}; {loss.reason}"})


def oscillation_gates(rows: pd.DataFrame, *, chances: Chances) -> list[Gate]:
    """Ask of every mode whether its accuracy on needles swings with the distance to them (5 % for all)."""
    modes, needles = _modes(rows), rows[rows["task"] == "needle"]
    level = (1 - LEVEL) / max(1, len(modes))
    return [_oscillation(needles[needles["mode"] == mode], mode, level, chances) for mode in modes]


def _oscillation(rows: pd.DataFrame, mode: str, level: float, chances: Chances) -> Gate:
    common = {"name": "no_oscillation", "mode": mode, "threshold": level}
    unable = unlearned(shortest(rows), (mode,), chances)
    if unable:
        return Gate(**common, outcome="not_measurable", reason=unable[0])
    means = rows.assign(distance=(1 - rows["depth"]) * rows["length"]).groupby("distance")["acc"].mean()
    if len(means) < _MIN_POINTS:
        reason = f"{len(means)} distances; a period needs {_MIN_POINTS}"
        return Gate(**common, outcome="not_measurable", n=len(means), reason=reason)
    at, accuracy = means.index.to_numpy(dtype=float), means.to_numpy(dtype=float)
    if np.ptp(accuracy) == 0:
        reason = "the accuracy is the same at every distance"
        return Gate(**common, outcome="pass", estimate=1.0, n=len(means), reason=reason)
    p_value = p_of_period(at, accuracy, rng=generator(0, "long_context", "oscillation", mode))
    reason = f"the strongest period of accuracy over {len(means)} distances has p = {p_value:.3f}"
    outcome = _outcome(p_value >= level)
    return Gate(**common, outcome=outcome, estimate=p_value, n=len(means), reason=reason)


def constants_gate(rows: pd.DataFrame, *, chances: Chances, constants: Mapping[str, str]) -> list[Gate]:
    """Rank the constants by accuracy, and ask whether pi beats each other one.

    Both must do some task better than chance at its shortest length. With several others the level of each
    interval is Bonferroni's.
    """
    modes = {constant: mode for mode, constant in constants.items()}
    ranked = _ranking(rows, constants)
    if "pi" not in modes or len(modes) < 2:
        reason = "no run of pi and of another constant" if not modes else f"only {', '.join(modes)} was run"
        return [Gate(name="constants", mode="pi", outcome="not_measurable", threshold=0.0, reason=reason)]
    others = [constant for constant in modes if constant != "pi"]
    level = 1 - (1 - LEVEL) / len(others)
    return [_beaten(rows, modes, other, level=level, ranked=ranked, chances=chances) for other in others]


def _beaten(
    rows: pd.DataFrame, modes: Mapping[str, str], other: str, *, level: float, ranked: str, chances: Chances
) -> Gate:
    pair = (modes["pi"], modes[other])
    common = {"name": "constants", "mode": " over ".join(pair), "threshold": 0.0}
    unable, scores = unlearned(shortest(rows), pair, chances), paired_scores(rows, *pair)
    if unable:
        return Gate(**common, outcome="not_measurable", reason="; ".join(unable))
    if not len(scores):
        return Gate(**common, outcome="not_measurable", reason="no sequences in common")
    estimate, low, high = estimated_mean(scores, level=level)
    told = "beats" if low > 0 else "loses to" if high < 0 else "is not told apart from"
    numbers = {"estimate": estimate, "low": low, "high": high, "n": len(scores)}
    reason = f"pi {told} {other}; by accuracy: {ranked}"
    return Gate(**common, outcome=_outcome(low > 0), **numbers, reason=reason)


def _ranking(rows: pd.DataFrame, constants: Mapping[str, str]) -> str:
    means = (
        rows[rows["mode"].isin(list(constants))].groupby("mode")["acc"].mean().sort_values(ascending=False)
    )
    return ", ".join(f"{constants[str(mode)]} {mean:.3f}" for mode, mean in means.items())


def hybrid_gate(regressions: Iterable[Gate], *, hybrids: Mapping[str, int]) -> Gate:
    """Ask whether at least one K keeps the short range."""
    by_mode = {gate.mode: gate for gate in regressions if gate.mode in hybrids}
    outcomes = [gate.outcome for gate in by_mode.values()]
    common = {"name": "some_hybrid_keeps_short_range", "mode": "hybrid", "n": len(by_mode)}
    if not by_mode:
        return Gate(**common, outcome="not_measurable", reason="no hybrid was run")
    told = ", ".join(f"K={hybrids[mode]} {gate.outcome}" for mode, gate in by_mode.items())
    open_still = "not_measurable" in outcomes
    outcome: Outcome = "pass" if "pass" in outcomes else "not_measurable" if open_still else "fail"
    return Gate(**common, outcome=outcome, reason=told)


def same_gate(rows: pd.DataFrame, config: GateConfig, mode: str, other: str, *, chances: Chances) -> Gate:
    """Ask whether a mode differs from another on ``latest``; it passes where it does.

    Both must do better than chance there, or find the needle at its shortest length: who finds the key, and
    names any value of it on ``latest``, ignores position; who does not find the key has shown nothing.
    """
    latest, needles = rows[rows["task"] == "latest"], shortest(rows[rows["task"] == "needle"])
    scores = paired_scores(latest, mode, other)
    common = {"name": f"differs_from_{other}", "mode": mode, "threshold": config.max_difference}
    unable = unlearned(pd.concat([latest, needles]), (mode, other), chances)
    if unable:
        return Gate(**common, outcome="not_measurable", reason="; ".join(unable))
    if not len(scores):
        return Gate(**common, outcome="not_measurable", reason="no sequences in common")
    estimate, low, high = estimated_mean(scores)
    apart, equal = low > 0 or high < 0, max(-low, high) <= config.max_difference
    outcome: Outcome = "pass" if apart else "fail" if equal else "not_measurable"
    told = "differs from" if apart else "is the same as" if equal else "may or may not differ from"
    reason = f"{told} {other} on latest, {estimate:+.3f}"
    return Gate(
        **common, outcome=outcome, estimate=estimate, low=low, high=high, n=len(scores), reason=reason
    )


def _at_most(scores: pd.Series, *, name: str, mode: str, threshold: float, told: str) -> Gate:
    return _compared(scores, name=name, mode=mode, threshold=threshold, told=told, at_most=True)


def _at_least(scores: pd.Series, *, name: str, mode: str, threshold: float, told: str) -> Gate:
    return _compared(scores, name=name, mode=mode, threshold=threshold, told=told, at_most=False)


def _compared(scores: pd.Series, *, name: str, mode: str, threshold: float, told: str, at_most: bool) -> Gate:
    common = {"name": name, "mode": mode, "threshold": threshold}
    if not len(scores):
        return Gate(**common, outcome="not_measurable", reason=f"{told}: no sequences in common")
    estimate, low, high = estimated_mean(scores)
    under, over = high <= threshold, low > threshold
    passed, failed = (under, over) if at_most else (low >= threshold, high < threshold)
    outcome: Outcome = "pass" if passed else "fail" if failed else "not_measurable"
    tail = (
        "" if passed or failed else f"; the interval holds {threshold:g}, ask more sequences, or more seeds"
    )
    reason = f"{told}: {estimate:+.3f} [{low:+.3f}, {high:+.3f}]{tail}"
    return Gate(
        **common, outcome=outcome, estimate=estimate, low=low, high=high, n=len(scores), reason=reason
    )


def _both(first: Outcome, second: Outcome) -> Outcome:
    if "fail" in (first, second):
        return "fail"
    return "pass" if (first, second) == ("pass", "pass") else "not_measurable"


def _outcome(passed: bool) -> Outcome:
    return "pass" if passed else "fail"


def _modes(rows: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(rows["mode"]))


def _others(rows: pd.DataFrame, mode: str) -> list[str]:
    return [other for other in _modes(rows) if other != mode]
