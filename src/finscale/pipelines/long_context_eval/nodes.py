"""Train small decoders, ask them what they remember, draw the answers."""

from typing import Any

import pandas as pd

from finscale.longcontext.config import read_block
from finscale.longcontext.decoders import pack, training_record, unpack
from finscale.longcontext.evaluate import evaluate_decoder
from finscale.longcontext.rows import RetrievalRow, metrics_lines, rows_table
from finscale.longcontext.train import Step, curves_table, train_decoder
from finscale.reporting.long_context import accuracy_against_length, accuracy_by_depth
from finscale.runtime.progress import Tracker, track
from finscale.runtime.stopping import STOP

__all__ = ["draw_retrieval", "evaluate_retrieval", "train_decoders"]

_SHOWN_EVERY = 50


def train_decoders(
    long_context: str, long_context_blocks: dict[str, Any]
) -> tuple[dict[str, Any], pd.DataFrame, dict[str, Any]]:
    """Train one decoder per positional encoding and seed; return weights, training curves and record."""
    config = read_block(long_context, long_context_blocks)
    runs = [(mode, seed) for mode in config.model.positions for seed in config.seeds]
    with track("decoder steps", len(runs) * config.training.n_steps) as tracker:
        listen = _StepListener(tracker)
        decoders = [train_decoder(config, mode=mode, seed=seed, on_event=listen) for mode, seed in runs]
    record = training_record(config, decoders).model_dump(mode="json")
    return pack(decoders), curves_table(decoders), record


def evaluate_retrieval(
    weights: dict[str, Any], record: dict[str, Any], long_context: str, long_context_blocks: dict[str, Any]
) -> tuple[pd.DataFrame, str]:
    """Ask every decoder the same questions; return one row per task, length, depth, encoding and seed."""
    config = read_block(long_context, long_context_blocks)
    with track("retrieval rows", config.n_rows) as tracker:
        listen = _RowListener(tracker)
        rows = [
            row
            for mode, seed, model in unpack(weights, record, config)
            for row in evaluate_decoder(model, config, mode=mode, seed=seed, on_event=listen)
        ]
    table = rows_table(rows)
    return table, metrics_lines(table)


def draw_retrieval(
    rows: pd.DataFrame,
    record: dict[str, Any],
    provenance: dict[str, Any],
    long_context: str,
    long_context_blocks: dict[str, Any],
) -> tuple[Any, Any]:
    """Draw accuracy against length, and the heat-map over length and depth."""
    config = read_block(long_context, long_context_blocks)
    commit = provenance["commit"] + (" (modified)" if provenance["dirty"] else "")
    place = f"commit {commit} · environment {provenance['environment']}"
    labels = {
        "title": config.experiment_name,
        "provenance": f"{place} · block {long_context} {record['training_hash']}",
    }
    against_length = accuracy_against_length(
        rows,
        n_active=config.symbols.n_active,
        n_overwrites=config.symbols.n_overwrites,
        longest_trained=max(config.training.lengths),
        **labels,
    )
    return against_length, accuracy_by_depth(rows, **labels)


class _StepListener:
    """Show a training step, log every fiftieth, and stop when asked to."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker

    def __call__(self, step: Step) -> None:
        STOP.raise_if_requested("Stopped while training decoders; they start again with the same command.")
        shown = step.step % _SHOWN_EVERY == 0
        note = f"{step.mode} seed {step.seed}: loss {step.loss:.3f}, accuracy {step.accuracy:.2f}"
        self.tracker.advance(note, log=shown)


class _RowListener:
    """Show an evaluated row, and stop when asked to."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker

    def __call__(self, row: RetrievalRow) -> None:
        STOP.raise_if_requested("Stopped between two rows; the trained decoders are saved.")
        where = f"{row.mode} seed {row.seed}: {row.task} at {row.length}, depth {row.depth}"
        self.tracker.advance(f"{where}: {row.acc:.2f}", log=False)
