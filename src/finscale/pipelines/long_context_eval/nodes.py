"""Train small decoders or load a checkpoint, ask them what they remember, judge and draw the answers."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from finscale.longcontext.attention_probe import AttentionRow, attention_rows, attention_table
from finscale.longcontext.config import LongContextConfig, read_block
from finscale.longcontext.decoders import pack, training_record, unpack
from finscale.longcontext.distance_probe import DistanceRow, distance_rows, distance_table
from finscale.longcontext.evaluate import evaluate_decoder
from finscale.longcontext.evaluate_text import evaluate_text
from finscale.longcontext.position_probe import position_rows, position_table
from finscale.longcontext.rows import RetrievalRow, metrics_lines, rows_table
from finscale.longcontext.streaming import StreamRow
from finscale.longcontext.system import streams, system_table
from finscale.longcontext.train import Step, curves_table, train_decoder
from finscale.longcontext.verdict import Verdict, verdict_of
from finscale.reporting.long_context_report import long_context_figures, render_long_context
from finscale.reporting.long_context_results import LongContextResults
from finscale.reporting.long_context_section import LongContextSection
from finscale.runtime.progress import Tracker, track
from finscale.runtime.stopping import STOP

__all__ = [
    "draw_retrieval",
    "evaluate_retrieval",
    "judge_retrieval",
    "measure_positions",
    "measure_streams",
    "probe_decoders",
    "train_decoders",
]

_SHOWN_EVERY = 50


def train_decoders(
    long_context: str, long_context_blocks: dict[str, Any], ablation_value: str | None
) -> tuple[dict[str, Any], pd.DataFrame, dict[str, Any]]:
    """Train one decoder per mode and seed; return weights, training curves and record.

    A block with a checkpoint has none to train: it is read, and tuned where asked, when it is evaluated.
    """
    config = read_block(long_context, long_context_blocks, value=ablation_value)
    trained = config.trained if config.pretrained is None else ()
    runs = [(mode, seed) for mode in trained for seed in config.seeds]
    n_steps = config.training.n_steps if config.training else 0
    with track("decoder steps", len(runs) * n_steps) as tracker:
        listen = _StepListener(tracker)
        decoders = [train_decoder(config, mode=mode, seed=seed, on_event=listen) for mode, seed in runs]
    record = training_record(config, decoders).model_dump(mode="json")
    return pack(decoders), curves_table(decoders), record


def evaluate_retrieval(
    weights: dict[str, Any],
    record: dict[str, Any],
    long_context: str,
    long_context_blocks: dict[str, Any],
    ablation_value: str | None,
) -> tuple[pd.DataFrame, str]:
    """Ask every mode the same questions; return one row per task, length, depth, mode and seed."""
    config = read_block(long_context, long_context_blocks, value=ablation_value)
    with track("retrieval rows", config.n_rows) as tracker:
        rows = list(_rows(config, weights, record, _RowListener(tracker)))
    table = rows_table(rows)
    return table, metrics_lines(table)


def measure_streams(
    long_context: str, long_context_blocks: dict[str, Any], ablation_value: str | None
) -> tuple[pd.DataFrame, str]:
    """Read long sequences in chunks; return one row per mode and length, as a table and as CSV."""
    config = read_block(long_context, long_context_blocks, value=ablation_value)
    n = len(config.streaming.modes) * len(config.streaming.lengths) if config.streaming else 0
    with track("streams", n) as tracker:
        table = system_table(streams(config, on_event=_StreamListener(tracker)))
    return table, table.to_csv(index=False)


def judge_retrieval(
    rows: pd.DataFrame,
    system: pd.DataFrame,
    long_context: str,
    long_context_blocks: dict[str, Any],
    ablation_value: str | None,
) -> dict[str, Any]:
    """Return every gate and the sentences that follow from them."""
    config = read_block(long_context, long_context_blocks, value=ablation_value)
    return verdict_of(rows, system, config).model_dump(mode="json")


def probe_decoders(
    weights: dict[str, Any],
    record: dict[str, Any],
    long_context: str,
    long_context_blocks: dict[str, Any],
    ablation_value: str | None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Look inside every decoder: attention at the needle, and the loss by distance; none of a checkpoint."""
    config = read_block(long_context, long_context_blocks, value=ablation_value)
    attention: list[AttentionRow] = []
    losses: list[DistanceRow] = []
    with track("decoders probed", len(config.modes) * len(config.seeds)) as tracker:
        for mode, seed, model in unpack(weights, record, config) if config.pretrained is None else ():
            STOP.raise_if_requested("Stopped between two decoders; the rows of accuracy are saved.")
            attention += attention_rows(model, config, mode=mode, seed=seed)
            losses += distance_rows(model, config, mode=mode, seed=seed)
            tracker.advance(f"{mode} seed {seed}", log=False)
    return attention_table(attention), distance_table(losses)


def measure_positions(
    long_context: str, long_context_blocks: dict[str, Any], ablation_value: str | None
) -> pd.DataFrame:
    """Measure what the codes of the block's modes can tell apart."""
    config = read_block(long_context, long_context_blocks, value=ablation_value)
    return position_table(list(position_rows(config)))


def draw_retrieval(
    rows: pd.DataFrame,
    system: pd.DataFrame,
    attention: pd.DataFrame,
    losses: pd.DataFrame,
    positions: pd.DataFrame,
    verdict: dict[str, Any],
    record: dict[str, Any],
    provenance: dict[str, Any],
    long_context: str,
    long_context_blocks: dict[str, Any],
    ablation_value: str | None,
) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """Draw every figure of the block, its page, and what the main report shows of it."""
    config = read_block(long_context, long_context_blocks, value=ablation_value)
    commit = provenance["commit"] + (" (modified)" if provenance["dirty"] else "")
    place = f"commit {commit} · environment {provenance['environment']}"
    line = f"{place} · block {long_context} {record['training_hash']}"
    results = LongContextResults.of(
        config,
        verdict=Verdict.read(verdict, subject="verdict"),
        rows=rows,
        system=system,
        attention=attention,
        losses=losses,
        positions=positions,
    )
    figures = long_context_figures(results, config, provenance=line)
    section = LongContextSection.of(results, figures, provenance=line).model_dump(mode="json")
    return figures, render_long_context(results, figures, provenance=line), section


def _rows(
    config: LongContextConfig, weights: dict[str, Any], record: dict[str, Any], listen: "_RowListener"
) -> Iterator[RetrievalRow]:
    if config.pretrained is None:
        for mode, seed, model in unpack(weights, record, config):
            yield from evaluate_decoder(model, config, mode=mode, seed=seed, on_event=listen)
        return
    from finscale.longcontext.tuned import load_tuned

    for mode in config.modes:
        for seed in config.seeds:
            checkpoint = load_tuned(config, mode=mode, seed=seed)
            yield from evaluate_text(checkpoint, config, mode=mode, seed=seed, on_event=listen)


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
        depth = "" if row.depth is None else f", depth {row.depth}"
        where = f"{row.mode} seed {row.seed}: {row.task} at {row.length}{depth}"
        self.tracker.advance(f"{where}: {row.acc:.2f}", log=False)


class _StreamListener:
    """Show a stream that was read, and stop when asked to."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker

    def __call__(self, row: StreamRow) -> None:
        STOP.raise_if_requested("Stopped between two streams; rows of accuracy are saved.")
        speed = f"{row.tokens_per_cpu_s:,.0f} per processor second"
        self.tracker.advance(f"{row.mode}: {row.length} symbols, {speed}", log=True)
