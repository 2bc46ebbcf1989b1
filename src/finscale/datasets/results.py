"""The append-only log of everything that finished: one CSV row per training or trial."""

import contextlib
import csv
import fcntl
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset

from finscale.core.files import write_text

__all__ = ["COLUMNS", "ResultsLog", "append_rows"]

COLUMNS = (
    *("run_id", "started_at", "finished_at", "experiment", "cell", "run_type", "number", "seed"),
    *("status", "error", "arch_id", "model_family", "d_model", "n_layers", "n_heads", "d_ff", "n_params"),
    *("learning_rate", "epochs", "weight_decay", "warmup_steps", "dropout"),
    *("optimizer", "schedule", "precision"),
    *("micro_batch_size", "accumulation_steps", "effective_batch_size", "activation_checkpointing"),
    *("val_select_loss", "val_score_loss", "test_loss", "base_rate_val_select_loss"),
    *("base_rate_val_score_loss", "base_rate_test_loss", "baselines"),
    *("val_select_n", "val_score_n", "test_n", "val_score_auc", "test_auc", "val_score_brier", "test_brier"),
    *("val_score_ece", "test_ece", "best_epoch", "stopped_epoch", "n_steps"),
    *("seconds", "max_temperature_c", "peak_memory_bytes", "device"),
    *("environment", "commit", "data_hash", "config_hash", "flags"),
)
"""Of the log; ``baselines`` are losses by split and name, as JSON: on test of a training, else val_select."""

Rows = Sequence[Mapping[Any, Any]]


class ResultsLog(AbstractDataset[pd.DataFrame, pd.DataFrame]):
    """``experiment_results.csv``: saving appends rows whose ``run_id`` is new; several writers are safe.

    A ``max_temperature_c`` that no sensor told is written as ``unknown``.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        return pd.read_csv(self._filepath)

    def save(self, data: pd.DataFrame) -> None:
        temperature = data.get("max_temperature_c", pd.Series(index=data.index, dtype=object))
        known = temperature.astype(object).where(temperature.notna(), "unknown")
        rows = data.assign(max_temperature_c=known).to_dict("records")
        append_rows(self._filepath, rows, columns=COLUMNS, key="run_id")

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


def append_rows(path: Path, rows: Rows, *, columns: Sequence[str], key: str | None = None) -> None:
    """Append rows to a CSV file; any number of processes may do so at once.

    A last line that a kill cut short is dropped, and a file with other columns is written anew with these.

    Parameters
    ----------
    rows : sequence of mapping
        A value that is missing is left empty, one without a column left out.
    key : str, optional
        Column of which every value is written once: rows that the file knows are skipped.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _sole_writer(path):
        is_new = not path.exists() or path.stat().st_size == 0
        if not is_new:
            _mend(path, columns)
        known = set() if is_new or key is None else {row[key] for row in _read(path)}
        fresh = [row for row in rows if key is None or str(row[key]) not in known]
        with path.open("a", newline="", encoding="utf-8") as file:
            file.write(_csv(fresh, columns, header=is_new))


@contextlib.contextmanager
def _sole_writer(path: Path) -> Iterator[None]:
    """Wait for the others; the lock lies beside the file, which a mended one may replace."""
    with (path.parent / f".{path.name}.lock").open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _mend(path: Path, columns: Sequence[str]) -> None:
    with path.open("rb") as file:
        header = file.readline().decode("utf-8").rstrip("\r\n")
        file.seek(-1, io.SEEK_END)
        is_whole = file.read() == b"\n"
    if not is_whole or header != ",".join(columns):
        write_text(path, _csv(_read(path), columns, header=True))


def _read(path: Path) -> list[dict[str, Any]]:
    """Return the rows whose lines are whole."""
    whole, _, _ = path.read_bytes().decode("utf-8", errors="ignore").rpartition("\n")
    return list(csv.DictReader(io.StringIO(whole)))


def _csv(rows: Iterable[Mapping[Any, Any]], columns: Sequence[str], *, header: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
