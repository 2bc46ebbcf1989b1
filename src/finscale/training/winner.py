"""Retrain a cell's winner with fresh seeds, and lay what was found out as rows. No torch at import."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from finscale.archgrid.batching import BatchProvider, choose_batch
from finscale.core.budgets import Cell
from finscale.core.errors import FinscaleError
from finscale.core.files import read_json
from finscale.core.seeding import derive
from finscale.models.config import PatchTSTConfig
from finscale.training.config import ExecutionConfig, TrainingConfig, resolve_device
from finscale.training.events import Event, ignore
from finscale.training.result import TrainingResult
from finscale.training.run_spec import Provenance, RunSpec, fingerprint, plan_run, read_run_spec
from finscale.windows.data import WindowData
from finscale.windows.experiment import ExperimentConfig

if TYPE_CHECKING:
    from finscale.training.evaluate import Evaluation

__all__ = ["SeedRun", "date_loss_rows", "run_rows", "seeds_of", "train_seed", "winner_spec"]

SCORED_SPLITS = ("val_select", "val_score", "test")


@dataclass(frozen=True)
class SeedRun:
    """One training of the winner: what was asked, what happened, and its scores (None unless complete)."""

    spec: RunSpec
    result: TrainingResult
    evaluation: "Evaluation | None"


def seeds_of(seed: int, *, n_seeds: int) -> tuple[int, ...]:
    """Return fresh seeds, none of which a trial of the search has used.

    Examples
    --------
    >>> len(set(seeds_of(42, n_seeds=3)))
    3
    """
    return tuple(derive(seed, "final", number) % 2**31 for number in range(n_seeds))


def winner_spec(
    architecture: Mapping[str, int],
    searched: Mapping[str, Any],
    *,
    base: PatchTSTConfig,
    shared: Mapping[str, Any],
    experiment: ExperimentConfig,
    cell: Cell,
    n_features: int,
    batch_provider: BatchProvider,
    execution: ExecutionConfig,
    seed: int,
    provenance: Provenance,
) -> RunSpec:
    """Return the specification of one training of a cell's winner.

    Parameters
    ----------
    architecture : mapping
        d_model, n_layers, n_heads, d_ff.
    searched : mapping
        learning_rate, epochs, weight_decay, warmup_steps, dropout.
    base : PatchTSTConfig
        Everything of the model that was not searched.
    shared : mapping
        What every training of the experiment has in common (patience, caps, effective batch size ...).
    """
    model = type(base).read(
        {**base.model_dump(), **architecture, "dropout": searched["dropout"]}, subject="architecture"
    )
    values = {name: value for name, value in searched.items() if name != "dropout"}
    training = TrainingConfig.read({**values, **shared}, subject="training")
    batch = choose_batch(
        batch_provider,
        model,
        n_features=n_features,
        context_length=experiment.data.context_length,
        effective_batch_size=training.effective_batch_size,
        device=str(resolve_device(execution)),
        precision=execution.precision,
    )
    return plan_run(
        model,
        training,
        experiment=experiment,
        cell=cell,
        n_features=n_features,
        batch=batch,
        seed=seed,
        provenance=provenance,
    )


def train_seed(
    spec: RunSpec,
    data: WindowData,
    *,
    directory: Path,
    execution: ExecutionConfig,
    on_event: Callable[[Event], None] = ignore,
    should_stop: Callable[[], bool],
) -> SeedRun:
    """Train one seed in its own directory, going on from a checkpoint there, and score its best weights.

    A run that has finished under the same specification is not trained again: its record stands.
    """
    from finscale.training.evaluate import evaluate_run
    from finscale.training.loop import train

    done = _finished(directory, spec)
    if done is None:
        done = (
            spec,
            train(
                spec,
                data,
                directory=directory,
                execution=execution,
                on_event=on_event,
                should_stop=should_stop,
            ),
        )
    executed, result = done
    scored = result.outcome == "complete"
    return SeedRun(executed, result, evaluate_run(directory, data, execution=execution) if scored else None)


def _finished(directory: Path, spec: RunSpec) -> tuple[RunSpec, TrainingResult] | None:
    """The specification and record of a finished run in ``directory``, if it is the one asked for."""
    try:
        executed = read_run_spec(directory / "run_spec.json")
        result = TrainingResult.read(read_json(directory / "result.json"), subject="result")
    except FinscaleError:
        return None
    known = {"provenance": executed.provenance, "batch": executed.batch}
    same = executed == spec.model_copy(update=known) and result.fingerprint == fingerprint(spec)
    return (executed, result) if same and result.outcome != "stopped" else None


def run_rows(runs: Sequence[SeedRun], *, flags: Sequence[str] = (), **columns: Any) -> pd.DataFrame:
    """Return one row per (seed, split): the cell, the architecture, what ran, and the scores.

    Parameters
    ----------
    flags : sequence of str
        Words that belong on every row of the cell, beside what each run raised.
    columns : scalars
        Further columns, the same on every row.
    """
    return pd.DataFrame([{**_row(run, split, flags), **columns} for run in runs for split in SCORED_SPLITS])


def _row(run: SeedRun, split: str, flags: Sequence[str]) -> dict[str, Any]:
    spec, result = run.spec, run.result
    scores: Mapping[str, float] = run.evaluation.scores[split] if run.evaluation else {}
    raised = run.evaluation.flags[split] if run.evaluation else ()
    base, loss = scores.get("base_rate_loss", float("nan")), scores.get("log_loss", float("nan"))
    batch = result.batch or spec.batch
    return {
        "run_id": result.fingerprint,
        "budget": spec.cell.budget,
        "n_budget": spec.cell.n_budget,
        "horizon": spec.horizon,
        "cell": spec.cell.id,
        "seed": spec.seed,
        "split": split,
        "arch_id": spec.arch_id,
        **{name: getattr(spec.model, name) for name in ("d_model", "n_layers", "n_heads", "d_ff")},
        "n_params": result.n_params,
        "learning_rate": spec.training.learning_rate,
        "epochs": spec.training.epochs,
        "weight_decay": spec.training.weight_decay,
        "warmup_steps": result.executed.warmup_steps,
        "dropout": result.executed.dropout,
        **batch.model_dump(),
        "log_loss": loss,
        "base_rate_loss": base,
        "excess_loss": base - loss,
        "auc": scores.get("auc", float("nan")),
        "brier": scores.get("brier", float("nan")),
        "ece": scores.get("ece", float("nan")),
        "outcome": result.outcome,
        "flags": sorted({*flags, *result.flags, *raised}),
        "best_epoch": result.best_epoch,
        "stopped_epoch": result.stopped_epoch,
        "n_steps": result.n_steps,
        "seconds": result.seconds,
        "peak_memory_bytes": result.peak_memory_bytes,
        "device": result.device,
        **spec.provenance.model_dump(mode="json", exclude={"created_at", "dirty"}),
    }


def date_loss_rows(runs: Sequence[SeedRun]) -> pd.DataFrame:
    """Return the loss of every forecast date, one row per (budget, horizon, seed, split, date)."""
    frames = [_dates(run) for run in runs if run.evaluation]
    columns = ["budget", "horizon", "seed", "split", "date", "probability", "target", "log_loss"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def _dates(run: SeedRun) -> pd.DataFrame:
    assert run.evaluation is not None
    frame = run.evaluation.losses.copy()
    frame.insert(0, "budget", run.spec.cell.budget)
    frame.insert(1, "horizon", run.spec.horizon)
    frame.insert(2, "seed", run.spec.seed)
    return frame
