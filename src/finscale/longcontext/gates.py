"""Decide what rows of accuracy and of memory allow to be said, each gate with its number and interval.

Accuracies are compared on the same sequences, pair by pair. A gate passes or fails where its whole 95 %
interval lies on one side of its threshold; everything else is not measurable: few sequences, missing runs.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from finscale.core.config import Record
from finscale.core.seeding import generator
from finscale.longcontext.gate_config import GateConfig
from finscale.longcontext.paired import LEVEL, Floats, estimated_mean, paired_scores
from finscale.longcontext.periodicity import p_of_period

__all__ = [
    "Gate",
    "Outcome",
    "constants_gate",
    "gain_gates",
    "hybrid_gate",
    "judge_all",
    "memory_gates",
    "oscillation_gates",
    "regression_gates",
    "same_gate",
]

Outcome = Literal["pass", "fail", "not_measurable"]

_MIN_POINTS = 12


class Gate(Record):
    """One question to the numbers, and their answer.

    Parameters
    ----------
    name : str
        Of the gate.
    mode : str
        Which it was asked of.
    outcome : str
        ``pass``, ``fail`` or ``not_measurable``.
    estimate, low, high : float or None
        What was measured, with its 95 % interval; None where nothing was.
    threshold : float or None
        Where the gate stands.
    n : int
        Sequences, pairs of them or points that were used.
    reason : str
        In words.
    """

    name: str
    mode: str
    outcome: Outcome
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    threshold: float | None = None
    n: int = 0
    reason: str


def judge_all(
    rows: pd.DataFrame,
    system: pd.DataFrame,
    config: GateConfig,
    *,
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
    constants : mapping
        By mode, the constant c of a pi spiral (``pi``, ``prng`` ...); of them the modes compared.
    hybrids : mapping
        By mode, K.
    windowed : sequence of str
        Modes whose memory is claimed to be constant.
    """
    regressions = regression_gates(rows, config)
    return (
        *regressions,
        *gain_gates(rows, config),
        *memory_gates(system, config, windowed=windowed),
        *oscillation_gates(rows),
        *constants_gate(rows, config, constants=constants),
        hybrid_gate(regressions, hybrids=hybrids),
        *(same_gate(rows, config, mode, "none") for mode in _others(rows, "none")),
    )


def regression_gates(rows: pd.DataFrame, config: GateConfig) -> list[Gate]:
    """Ask of every mode but the baseline whether it keeps the baseline's accuracy at short lengths."""
    short = rows[rows["length"] <= config.short_to]
    return [
        _at_most(
            paired_scores(short, config.baseline, mode),
            name="short_range_regression",
            mode=mode,
            threshold=config.max_regression,
            told=f"accuracy lost against {config.baseline} up to {config.short_to}",
        )
        for mode in _others(rows, config.baseline)
    ]


def gain_gates(rows: pd.DataFrame, config: GateConfig) -> list[Gate]:
    """Ask of every mode whether it gains on deep needles far out, and loses nothing on ``latest`` there."""
    return [_gain(rows, config, mode) for mode in _others(rows, config.baseline)]


def _gain(rows: pd.DataFrame, config: GateConfig, mode: str) -> Gate:
    far = rows[rows["length"] >= config.long_from]
    deep = far[(far["task"] == "needle") & (far["depth"] <= config.deep_to)]
    common = {"name": "long_range_gain", "mode": mode}
    told = f"accuracy gained over {config.baseline} on deep needles from {config.long_from}"
    gain = _at_least(
        paired_scores(deep, mode, config.baseline), **common, threshold=config.min_gain, told=told
    )
    loss = _at_most(
        paired_scores(far[far["task"] == "latest"], config.baseline, mode),
        **common,
        threshold=config.max_regression,
        told=f"accuracy lost against {config.baseline} on latest",
    )
    outcome = _both(gain.outcome, loss.outcome)
    return gain.model_copy(update={"outcome": outcome, "reason": f"{gain.reason}; {loss.reason}"})


def memory_gates(system: pd.DataFrame, config: GateConfig, *, windowed: Sequence[str]) -> list[Gate]:
    """Ask whether the state of a windowed mode has one size, and memory grows by no more than allowed."""
    return [_memory(system, config, mode) for mode in windowed]


def _memory(system: pd.DataFrame, config: GateConfig, mode: str) -> Gate:
    common = {"name": "memory_growth", "mode": mode, "threshold": config.max_growth}
    if system.empty or system[(system["mode"] == mode)].empty:
        return Gate(**common, outcome="not_measurable", reason="it was not streamed")
    read = system[(system["mode"] == mode) & (system["length"] >= config.memory_from)].sort_values("length")
    if read["length"].nunique() < 2:
        reason = f"fewer than two streams from {config.memory_from} symbols"
        return Gate(**common, outcome="not_measurable", n=len(read), reason=reason)
    # the peak of a process holds its imports, which outweigh a small model's stream
    memory = read["peak_bytes"].where(read["device"] == "cuda", read["rss_bytes"])
    growth = float(memory.iloc[-1] / memory.iloc[0] - 1)
    states = int(read["state_bytes"].nunique())
    first, last = int(read["length"].iloc[0]), int(read["length"].iloc[-1])
    reason = f"memory grew by {growth:.1%} from {first} to {last} symbols, its state had {states} size(s)"
    passed = growth <= config.max_growth and states == 1
    return Gate(**common, outcome=_outcome(passed), estimate=growth, n=len(read), reason=reason)


def oscillation_gates(rows: pd.DataFrame) -> list[Gate]:
    """Ask of every mode whether its accuracy on needles swings with the distance to them (5 % for all)."""
    modes, needles = _modes(rows), rows[rows["task"] == "needle"]
    level = (1 - LEVEL) / max(1, len(modes))
    return [_oscillation(needles[needles["mode"] == mode], mode, level) for mode in modes]


def _oscillation(rows: pd.DataFrame, mode: str, level: float) -> Gate:
    common = {"name": "no_oscillation", "mode": mode, "threshold": level}
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


def constants_gate(rows: pd.DataFrame, config: GateConfig, *, constants: Mapping[str, str]) -> list[Gate]:
    """Rank the constants by accuracy, and ask whether pi beats each other one.

    With several others the level of each interval is Bonferroni's.
    """
    modes = {constant: mode for mode, constant in constants.items()}
    ranked = _ranking(rows, constants)
    if "pi" not in modes or len(modes) < 2:
        reason = "no run of pi and of another constant" if not modes else f"only {', '.join(modes)} was run"
        return [Gate(name="constants", mode="pi", outcome="not_measurable", threshold=0.0, reason=reason)]
    others = [constant for constant in modes if constant != "pi"]
    return [_beaten(rows, modes, other, n_tests=len(others), ranked=ranked) for other in others]


def _beaten(rows: pd.DataFrame, modes: Mapping[str, str], other: str, *, n_tests: int, ranked: str) -> Gate:
    scores = paired_scores(rows, modes["pi"], modes[other])
    common = {"name": "constants", "mode": f"{modes['pi']} over {modes[other]}", "threshold": 0.0}
    if not len(scores):
        return Gate(**common, outcome="not_measurable", reason="no sequences in common")
    estimate, low, high = estimated_mean(scores, level=1 - (1 - LEVEL) / n_tests)
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


def same_gate(rows: pd.DataFrame, config: GateConfig, mode: str, other: str) -> Gate:
    """Ask whether a mode differs from another on ``latest``; it passes where it does."""
    scores = paired_scores(rows[rows["task"] == "latest"], mode, other)
    common = {"name": f"differs_from_{other}", "mode": mode, "threshold": config.max_difference}
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


def _at_most(scores: Floats, *, name: str, mode: str, threshold: float, told: str) -> Gate:
    return _compared(scores, name=name, mode=mode, threshold=threshold, told=told, at_most=True)


def _at_least(scores: Floats, *, name: str, mode: str, threshold: float, told: str) -> Gate:
    return _compared(scores, name=name, mode=mode, threshold=threshold, told=told, at_most=False)


def _compared(scores: Floats, *, name: str, mode: str, threshold: float, told: str, at_most: bool) -> Gate:
    common = {"name": name, "mode": mode, "threshold": threshold}
    if not len(scores):
        return Gate(**common, outcome="not_measurable", reason=f"{told}: no sequences in common")
    estimate, low, high = estimated_mean(scores)
    under, over = high <= threshold, low > threshold
    passed, failed = (under, over) if at_most else (low >= threshold, high < threshold)
    outcome: Outcome = "pass" if passed else "fail" if failed else "not_measurable"
    tail = "" if passed or failed else f"; the interval holds {threshold:g}, ask more sequences"
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
