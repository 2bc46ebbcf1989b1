"""Say what the gates allow, in sentences that follow from their outcomes. No torch."""

from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from finscale.core.config import Record
from finscale.longcontext.config import LongContextConfig
from finscale.longcontext.gate import Gate
from finscale.longcontext.gates import judge_all
from finscale.longcontext.learned import chances_of

__all__ = ["Verdict", "sentences", "verdict_of"]


_AT_CHANCE = "Nothing about positions follows from {}: no better than chance even at the shortest length."


class Verdict(Record):
    """What one block shows: ``verdict.json``.

    Parameters
    ----------
    experiment_name : str
        Of the block.
    gates : tuple of Gate
        All of them, those that could not be measured too.
    sentences : tuple of str
        The decision, each sentence out of gates.
    """

    experiment_name: str
    gates: tuple[Gate, ...]
    sentences: tuple[str, ...]


def verdict_of(rows: pd.DataFrame, system: pd.DataFrame, config: LongContextConfig) -> Verdict:
    """Return the gates of a block and what follows from them.

    Parameters
    ----------
    rows : DataFrame
        Of `finscale.longcontext.rows.rows_table`.
    system : DataFrame
        Of `finscale.longcontext.streaming.StreamRow`; empty where nothing was streamed.
    config : LongContextConfig
        Of the block.
    """
    gates = judge_all(
        rows,
        system,
        config.gates,
        chances=chances_of(config),
        constants=_constants(config),
        hybrids=_hybrids(config),
        windowed=_windowed(config),
    )
    return Verdict(
        experiment_name=config.experiment_name,
        gates=gates,
        sentences=(*_one_training(config), *sentences(gates, baseline=config.gates.baseline)),
    )


def sentences(gates: Iterable[Gate], *, baseline: str) -> Iterator[str]:
    """Yield the decision; a gate that could not be measured never reads as passed."""
    every = list(gates)
    yield from _told("above_chance", every, _AT_CHANCE, "fail")
    yield from _long_range(_of(every, "long_range_gain"), baseline)
    yield from _short_range(every, baseline)
    yield from _against_prng(_of(every, "constants"))
    yield from _against_none(_of(every, "differs_from_none"))
    yield from _told("no_oscillation", every, "Accuracy swings with distance under {}.", "fail")
    yield from _told("memory_growth", every, "Memory stays constant under {}.", "pass")
    yield from _told("memory_growth", every, "Memory grows under {}.", "fail")
    yield from _unmeasured(every)


def _long_range(gates: list[Gate], baseline: str) -> Iterator[str]:
    won = [gate.mode for gate in gates if gate.outcome == "pass"]
    lost = [gate.mode for gate in gates if gate.outcome == "fail"]
    if won:
        beat, lose = f"beat{_s(won)}", f"lose{_s(won)}"
        yield f"Far out {_list(won)} {beat} '{baseline}' on deep needles and {lose} nothing on latest."
    if lost:
        yield f"The claimed gain over '{baseline}' far out does not hold for {_list(lost)}."


def _short_range(gates: list[Gate], baseline: str) -> Iterator[str]:
    lost = [gate.mode for gate in _of(gates, "short_range_regression") if gate.outcome == "fail"]
    hybrid = _of(gates, "some_hybrid_keeps_short_range")
    if not lost:
        return
    yield f"At short lengths {_list(lost)} lose{_s(lost)} accuracy against '{baseline}'."
    if hybrid and hybrid[0].outcome == "pass":
        yield f"A hybrid keeps the short range and is the default ({hybrid[0].reason})."
    elif hybrid and hybrid[0].outcome == "fail":
        yield f"No hybrid keeps the short range either ({hybrid[0].reason})."
    else:
        yield "A hybrid would be the default; whether one keeps the short range was not measured: sweep K."


def _against_prng(gates: list[Gate]) -> Iterator[str]:
    against = next((gate for gate in gates if gate.mode.endswith("prng")), None)
    if against is None or against.outcome == "not_measurable" or against.low is None or against.high is None:
        return
    if against.outcome == "pass":
        yield f"The irrational phase of pi beats a hash of the position ({against.reason})."
    elif against.high < 0:
        yield f"A hash of the position beats the irrational phase of pi ({against.reason})."
    else:
        same = "Pi is not told apart from a hash of the position"
        yield f"{same}: what helps, if anything, is non-periodic, not pi."


def _against_none(gates: list[Gate]) -> Iterator[str]:
    same = [gate.mode for gate in gates if gate.outcome == "fail"]
    if same:
        yield f"On latest {_list(same)} cannot be told from no positions at all: position is ignored."


def _told(name: str, gates: list[Gate], sentence: str, outcome: str) -> Iterator[str]:
    modes = [gate.mode for gate in _of(gates, name) if gate.outcome == outcome]
    if modes:
        yield sentence.format(_list(modes))


def _unmeasured(gates: list[Gate]) -> Iterator[str]:
    """Name every gate that has open cases, and how many."""
    names = list(dict.fromkeys(gate.name for gate in gates if gate.outcome == "not_measurable"))
    counts = [sum(gate.name == name and gate.outcome == "not_measurable" for gate in gates) for name in names]
    if names:
        told = ", ".join(f"{name} ({n})" for name, n in zip(names, counts, strict=True))
        yield f"Not measurable with these runs: {told}."


def _one_training(config: LongContextConfig) -> Iterator[str]:
    if config.pretrained is None and len(config.seeds) == 1:
        yield "One seed each: what another training would have answered is in none of these intervals."


def _of(gates: Iterable[Gate], name: str) -> list[Gate]:
    return [gate for gate in gates if gate.name == name]


def _list(modes: list[str]) -> str:
    """Name modes in quotes: one of them is called none."""
    *others, last = (f"'{mode}'" for mode in modes)
    return f"{', '.join(others)} and {last}" if others else last


def _s(modes: list[str]) -> str:
    return "s" if len(modes) == 1 else ""


def _positions(settings: dict[str, Any]) -> dict[str, Any]:
    positions = settings.get("positions", "rope")
    return {"kind": positions} if isinstance(positions, str) else positions


def _constants(config: LongContextConfig) -> dict[str, str]:
    """Return the spirals that differ from the first in their constant alone."""
    spirals = {mode: _positions(settings) for mode, settings in config.settings.items()}
    spirals = {mode: code for mode, code in spirals.items() if code["kind"] == "pi_spiral"}
    if not spirals:
        return {}
    first = _but_constant(next(iter(spirals.values())))
    return {
        mode: code.get("constant", "pi") for mode, code in spirals.items() if _but_constant(code) == first
    }


def _but_constant(code: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in code.items() if name != "constant"}


def _hybrids(config: LongContextConfig) -> dict[str, int]:
    codes = {mode: _positions(settings) for mode, settings in config.settings.items()}
    return {mode: code.get("K", 16_000) for mode, code in codes.items() if code["kind"] == "hybrid"}


def _windowed(config: LongContextConfig) -> tuple[str, ...]:
    if config.system is not None:
        return config.modes if config.system.window_size is not None else ()
    return tuple(
        mode for mode, settings in config.settings.items() if settings.get("window_size") is not None
    )
