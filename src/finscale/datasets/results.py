"""The append-only log of everything that finished: one CSV row per training or trial."""

import csv
import fcntl
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset

__all__ = ["COLUMNS", "ResultsLog"]

COLUMNS = (
    *("run_id", "finished_at", "experiment", "cell", "run_type", "number", "seed", "status", "error"),
    *("arch_id", "d_model", "n_layers", "n_heads", "d_ff", "n_params"),
    *("learning_rate", "epochs", "weight_decay", "warmup_steps", "dropout"),
    *("micro_batch_size", "accumulation_steps", "effective_batch_size"),
    *("val_select_loss", "val_score_loss", "test_loss", "base_rate_val_select_loss"),
    *("base_rate_val_score_loss", "base_rate_test_loss", "best_epoch", "stopped_epoch", "n_steps"),
    *("seconds", "peak_memory_bytes", "device", "environment", "commit", "data_hash", "config_hash", "flags"),
)


class ResultsLog(AbstractDataset[pd.DataFrame, pd.DataFrame]):
    """``experiment_results.csv``: saving appends rows whose ``run_id`` is new; several writers are safe."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        return pd.read_csv(self._filepath)

    def save(self, data: pd.DataFrame) -> None:
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        with self._filepath.open("a+", newline="", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            known = {row.get("run_id") for row in csv.DictReader(file)}
            rows = data[~data["run_id"].isin(known)]
            file.write(_csv(rows.to_dict("records"), header=file.tell() == 0))

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


def _csv(rows: Sequence[dict[Any, Any]], *, header: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
