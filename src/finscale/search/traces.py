"""Read what a log or an old table says about trials, as far as it says it.

Three forms are read: the log lines of `finscale.search.trials.describe_trial`, older lines of the form
``Trial 7: arch_id=12 d_model=128 n_layers=12 params=2.0M lr=0.0005 ... val_loss=0.6123`` (``arch_id`` is a
position in a grid that the log does not hold, and ``n_heads`` may be missing), and JSON lists of
``{"number": 7, "params": {"arch_idx": 12, "learning_rate": 5e-4}, "value": 0.6123}``, the older grid beside.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from finscale.archgrid.base import DIMENSIONS
from finscale.core.errors import Fault
from finscale.search.trials import TRIAL_COLUMNS

__all__ = ["Trace", "read_traces"]

_OURS = re.compile(r"\btrial (\d+) (complete|pruned|diverged|oom|failed) (\w+=.*)")
_OLD = re.compile(r"\bTrial (\d+): (\w+=.*)")
_PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)')
_COUNT = re.compile(r"(\d+)(?:\.(\d+))?([KMB]?)", re.IGNORECASE)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}
_NAMES = {
    "lr": "learning_rate",
    "wd": "weight_decay",
    "warmup": "warmup_steps",
    "heads": "n_heads",
    "layers": "n_layers",
    "params": "n_params",
    "param_count": "n_params",
    "batch": "effective_batch_size",
    "batch_size": "effective_batch_size",
    "val_loss": "value",
}
"""Older names, and what they are called here."""

_POSITIONS = ("arch_idx", "arch_index", "arch_id")
_READERS: Mapping[str, Callable[[Path], pd.DataFrame]] = {
    ".json": pd.read_json,
    ".csv": pd.read_csv,
    ".parquet": pd.read_parquet,
}
_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
_REMEDY = "name a log of a search, or a JSON list of {number, params, value}"


@dataclass(frozen=True)
class Trace:
    """What a source says about one trial.

    Parameters
    ----------
    number : int
        As numbered there.
    source : str
        File, with the line or position.
    outcome : str
        See `TrialOutcome`.
    value : float or None
        Its loss.
    known : mapping
        Everything else by present names; ``n_params`` is a pair (from, to) where it was written rounded.
    ambiguity : str
        Why its architecture cannot be told, if so; empty otherwise.
    """

    number: int
    source: str
    outcome: str
    value: float | None
    known: Mapping[str, Any] = field(default_factory=dict)
    ambiguity: str = ""


def read_traces(path: Path) -> list[Trace]:
    """Read every trial that a log or a JSON file tells of; of several lines about one of a study, the last.

    Raises
    ------
    Fault
        When the file is missing, tells of none, or names a grid that cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Fault("hpo.recover", "name a readable file", str(path), f"{error}; {_REMEDY}") from None
    found = list(_from_json(path, text) if path.suffix == ".json" else _from_log(path, text))
    if not found:
        raise Fault(str(path), "tell of at least one trial", "none", _REMEDY)
    last = {(trace.known.get("config_hash"), trace.number): trace for trace in found}
    return sorted(last.values(), key=lambda trace: trace.number)


def _from_log(path: Path, text: str) -> Iterator[Trace]:
    for line, content in _whole_lines(text):
        source = f"{path.name}:{line}"
        if ours := _OURS.search(content):
            pairs = ours[3].partition(" reason=")[0]
            yield _trace(int(ours[1]), source, ours[2], dict(_pairs(pairs)))
        elif old := _OLD.search(content):
            known = {name: value for name, value in _pairs(old[2]) if name not in _POSITIONS}
            yield _trace(int(old[1]), source, None, known)


def _whole_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield (number, line); what a terminal wrapped, and indented, is joined again."""
    number, whole = 1, ""
    for at, line in enumerate(text.splitlines(), start=1):
        if line[:1].isspace():
            whole = f"{whole} {line.strip()}"
            continue
        yield number, whole
        number, whole = at, line
    yield number, whole


def _pairs(text: str) -> Iterator[tuple[str, Any]]:
    for name, value in _PAIR.findall(text):
        text = json.loads(value) if value.startswith('"') else value
        # a hash may look like a number
        yield name, text if TRIAL_COLUMNS.get(name) == "str" else _scalar(text)


def _scalar(text: str) -> Any:
    """Read a number, True or False, or leave it a word."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return {"True": True, "False": False}.get(text, text)


def _from_json(path: Path, text: str) -> Iterator[Trace]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise Fault(str(path), "be valid JSON", str(error), _REMEDY) from None
    trials, grid = content, None
    if isinstance(content, Mapping):
        trials, grid = content.get("trials"), _older_grid(path, content.get("grid"))
    if not isinstance(trials, list) or not all(isinstance(trial, Mapping) for trial in trials):
        raise Fault(str(path), "hold a list of trials", type(trials).__name__, _REMEDY)
    for at, trial in enumerate(trials):
        yield _from_entry(trial, at, f"{path.name}[{at}]", grid)


def _from_entry(
    trial: Mapping[str, Any], at: int, source: str, grid: Sequence[Mapping[str, Any]] | None
) -> Trace:
    given = dict(trial.get("params", {}))
    position = next((given[name] for name in _POSITIONS if isinstance(given.get(name), int)), None)
    known = {name: value for name, value in given.items() if name not in _POSITIONS}
    ambiguity = ""
    if position is not None and grid is None:
        ambiguity = f"position {position} of a grid that is not at hand"
    elif position is not None and grid is not None:
        if not 0 <= position < len(grid):
            ambiguity = f"position {position} of a grid of {len(grid)} rows"
        else:
            known |= {name: grid[position][name] for name in DIMENSIONS if name in grid[position]}
    outcome = _STATES.get(str(trial.get("state", "COMPLETE")), "failed")
    return _trace(
        int(trial.get("number", at)), source, outcome, {**known, "value": trial.get("value")}, ambiguity
    )


def _older_grid(path: Path, grid: Any) -> list[dict[str, Any]] | None:
    """Return the rows of the grid that positions point into: written out, or in a file beside."""
    if grid is None or isinstance(grid, list):
        return grid
    beside = path.parent / str(grid)
    try:
        frame = _READERS[beside.suffix](beside)
    except (KeyError, OSError, ValueError) as error:
        rule = "name a grid as .json, .csv or .parquet beside it"
        raise Fault(f"{path}: grid", rule, grid, f"{type(error).__name__}: {error}") from None
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict(orient="records")]


def _trace(
    number: int, source: str, outcome: str | None, known: Mapping[str, Any], ambiguity: str = ""
) -> Trace:
    """Bring names and counts into their present form; without an outcome, the value decides."""
    named = {_NAMES.get(name, name): value for name, value in known.items()}
    value = named.pop("value", None)
    is_finite = isinstance(value, int | float) and math.isfinite(value)
    if isinstance(named.get("n_params"), str):
        named["n_params"] = _count_range(named["n_params"])
    if outcome in (None, "complete"):
        outcome = "complete" if is_finite else "diverged"
    return Trace(number, source, outcome, float(value) if is_finite else None, named, ambiguity)


def _count_range(text: str) -> tuple[float, float] | None:
    """Return what a rounded count may have been: ``2.0M`` is 1.95 to 2.05 million."""
    match = _COUNT.fullmatch(text)
    if match is None:
        return None
    unit = _UNITS[match[3].upper()]
    half = unit * 0.5 * 10 ** -len(match[2] or "")
    middle = float(f"{match[1]}.{match[2] or 0}") * unit
    return middle - half, middle + half
