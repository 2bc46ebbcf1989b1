"""The table of trials, read from the study: one row per trial, finished or running."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from finscale.core.files import replacing

__all__ = ["TRIAL_COLUMNS", "describe_trial", "dimensions_of", "trial_row", "trials_table", "write_trials"]

TRIAL_COLUMNS = {
    "number": "int64",
    "state": "str",
    "kind": "str",
    "value": "float64",
    "outcome": "str",
    "reason": "str",
    "arch_id": "str",
    "model_family": "str",
    "d_model": "Int64",
    "n_layers": "Int64",
    "n_heads": "Int64",
    "d_ff": "Int64",
    "n_params": "Int64",
    "learning_rate": "float64",
    "epochs": "Int64",
    "weight_decay": "float64",
    "warmup_steps": "Int64",
    "dropout": "float64",
    "optimizer": "str",
    "schedule": "str",
    "precision": "str",
    "strategy": "str",
    "n_processes": "Int64",
    "micro_batch_size": "Int64",
    "accumulation_steps": "Int64",
    "effective_batch_size": "Int64",
    "activation_checkpointing": "boolean",
    "requested_micro_batch_size": "Int64",
    "requested_effective_batch_size": "Int64",
    "n_halvings": "Int64",
    "pruned_epoch": "Int64",
    "pruned_loss": "float64",
    "base_rate_loss": "float64",
    "val_select_n": "Int64",
    "flags": "str",
    "seconds": "float64",
    "best_epoch": "Int64",
    "stopped_epoch": "Int64",
    "n_steps": "Int64",
    "peak_memory_bytes": "Int64",
    "device": "str",
    "seed": "Int64",
    "environment": "str",
    "commit": "str",
    "grid_hash": "str",
    "data_hash": "str",
    "config_hash": "str",
    "recovered": "boolean",
    "source": "str",
    "started_at": "datetime64[us]",
    "finished_at": "datetime64[us]",
}
"""Columns of every table, with their types; a study's further dimensions follow."""

_HIDDEN = {
    "number",
    "state",
    "value",
    "outcome",
    "reason",
    "environment",
    "commit",
    "grid_hash",
    "data_hash",
    "recovered",
    "started_at",
    "finished_at",
}


def trial_row(trial: FrozenTrial, dimensions: Sequence[str] = ()) -> dict[str, Any]:
    """Return a trial as a row of the table; what is not known yet is None.

    Parameters
    ----------
    dimensions : sequence of str
        Names of what the study searches, of which those without a column get one.
    """
    known = {**trial.params, **trial.user_attrs}
    row = {name: known.get(name) for name in TRIAL_COLUMNS}
    further = {name: _plain(known.get(name)) for name in dimensions if name not in TRIAL_COLUMNS}
    return {
        **row,
        "number": trial.number,
        "state": trial.state.name,
        # Optuna gives a pruned trial its last loss, which is no result
        "value": trial.value if trial.state == TrialState.COMPLETE else None,
        "flags": " ".join(known.get("flags", ())),
        "recovered": bool(known.get("recovered")),
        "started_at": trial.datetime_start,
        "finished_at": trial.datetime_complete,
        **further,
    }


def trials_table(study: optuna.Study) -> pd.DataFrame:
    """Return every trial of a study, in the order of their numbers."""
    dimensions = dimensions_of(study)
    rows = [trial_row(trial, dimensions) for trial in study.get_trials(deepcopy=False)]
    further = [name for name in dimensions if name not in TRIAL_COLUMNS]
    table = pd.DataFrame(rows, columns=[*TRIAL_COLUMNS, *further]).astype(TRIAL_COLUMNS)
    return table.assign(**{name: _typed(table[name]) for name in further})


def dimensions_of(study: optuna.Study) -> tuple[str, ...]:
    """Return the names of what a study searches."""
    return tuple(study.user_attrs.get("dimensions", ()))


def write_trials(study: optuna.Study, path: Path) -> None:
    """Write the table as Parquet, atomically."""
    with replacing(path) as temporary:
        trials_table(study).to_parquet(temporary, index=False)


def describe_trial(trial: FrozenTrial, dimensions: Sequence[str] = ()) -> str:
    """Return one line that says all about a trial, for the log.

    The form is ``trial 7 complete value=0.512 kind=random arch_id=... ...``, from which
    `finscale.search.traces` reads it back: numbers in full, words with spaces in quotes. What was searched
    stands as it was asked for (``optimizer=adamw``, not the name of what was executed).
    """
    asked = {name: _plain(trial.params[name]) for name in dimensions if name in trial.params}
    row = {**trial_row(trial, dimensions), **asked}
    result = {"value": row["value"]} if row["value"] is not None else {}
    shown = {name: row[name] for name in row if name not in _HIDDEN and row[name] not in (None, "")}
    tail = f" reason={row['reason']!r}" if row["reason"] else ""
    return f"trial {trial.number} {row['outcome']} {_pairs({**result, **shown})}{tail}"


def _pairs(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_word(value)}" for name, value in values.items())


def _word(value: Any) -> str:
    """Write a value as one word; a number to its last digit."""
    text = repr(value) if isinstance(value, float) else str(value)
    return json.dumps(text) if " " in text or '"' in text else text


def _plain(value: Any) -> Any:
    """A list is written as it is typed on the command line: its values, with spaces."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else value


def _typed(values: pd.Series) -> pd.Series:
    """Give a further dimension the type of its values; mixed ones are text."""
    typed = values.convert_dtypes()
    return typed if typed.dtype != object else values.map(str, na_action="ignore").astype("string")
