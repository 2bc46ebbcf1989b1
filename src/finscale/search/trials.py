"""The table of trials, read from the study: one row per trial, finished or running."""

from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial

from finscale.core.files import replacing

__all__ = ["TRIAL_COLUMNS", "describe_trial", "trial_row", "trials_table", "write_trials"]

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
    "micro_batch_size": "Int64",
    "accumulation_steps": "Int64",
    "effective_batch_size": "Int64",
    "activation_checkpointing": "boolean",
    "requested_micro_batch_size": "Int64",
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
    "started_at": "datetime64[us]",
    "finished_at": "datetime64[us]",
}
"""Every column of the table, with its type."""

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
    "config_hash",
    "started_at",
    "finished_at",
}


def trial_row(trial: FrozenTrial) -> dict[str, Any]:
    """Return a trial as a row of the table; what is not known yet is None."""
    known = {**trial.params, **trial.user_attrs}
    row = {name: known.get(name) for name in TRIAL_COLUMNS}
    return {
        **row,
        "number": trial.number,
        "state": trial.state.name,
        "value": trial.value,
        "flags": " ".join(known.get("flags", ())),
        "started_at": trial.datetime_start,
        "finished_at": trial.datetime_complete,
    }


def trials_table(study: optuna.Study) -> pd.DataFrame:
    """Return every trial of a study, in the order of their numbers."""
    rows = [trial_row(trial) for trial in study.get_trials(deepcopy=False)]
    return pd.DataFrame(rows, columns=list(TRIAL_COLUMNS)).astype(TRIAL_COLUMNS)


def write_trials(study: optuna.Study, path: Path) -> None:
    """Write the table as Parquet, atomically."""
    with replacing(path) as temporary:
        trials_table(study).to_parquet(temporary, index=False)


def describe_trial(trial: FrozenTrial) -> str:
    """Return one line that says all about a trial, for the log.

    The form is ``trial 7 complete value=0.512 kind=random arch_id=... ...``, from which it can be read back.
    """
    row = trial_row(trial)
    result = {"value": row["value"]} if trial.value is not None else {}
    shown = {**result, **{name: row[name] for name in row if name not in _HIDDEN and row[name] is not None}}
    tail = f" reason={row['reason']!r}" if row["reason"] else ""
    return f"trial {trial.number} {row['outcome']} {_pairs(shown)}{tail}"


def _pairs(values: dict[str, Any]) -> str:
    return " ".join(
        f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in values.items()
    )
