"""Retrain a cell's winner with fresh seeds, and lay what was found out as rows. No torch at import."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from finscale.archgrid.base import GridConfig
from finscale.archgrid.batching import BatchProvider, choose_batch
from finscale.core.budgets import Cell
from finscale.core.errors import FinscaleError
from finscale.core.files import read_json
from finscale.core.seeding import derive
from finscale.training.calibration import CALIBRATED_ON, Calibration, fit_calibration, record_calibration
from finscale.training.config import ExecutionConfig, TrainingConfig, resolve_device
from finscale.training.event_log import logged
from finscale.training.events import Event, ignore
from finscale.training.result import TrainingResult
from finscale.training.run_spec import Provenance, RunSpec, fingerprint, plan_run, read_run_spec
from finscale.training.scoring import SCORINGS, Scoring
from finscale.windows.data import WindowData
from finscale.windows.experiment import ExperimentConfig
from finscale.windows.origins import ORIGIN
from finscale.windows.tasks import parse_task
from finscale.windows.view import WindowView

if TYPE_CHECKING:
    from finscale.training.evaluate import Evaluation

__all__ = ["SeedRun", "calibrate_seed", "date_loss_rows", "finished_run", "run_rows", "seeds_of"]
__all__ += ["train_seed", "winner_spec"]

SCORED_SPLITS = ("val_select", "val_score", "test")


@dataclass(frozen=True)
class SeedRun:
    """One training of the winner on one fold: what was asked, what happened, its scores if complete.

    Where it was asked for also the ``calibration`` of its quantiles; scores are those of the raw ones.
    """

    spec: RunSpec
    result: TrainingResult
    evaluation: "Evaluation | None"
    calibration: Calibration | None = None


def seeds_of(seed: int, *, n_seeds: int) -> tuple[int, ...]:
    """Return fresh seeds, none of which a trial of the search has used.

    Examples
    --------
    >>> len(set(seeds_of(42, n_seeds=3)))
    3
    """
    return tuple(derive(seed, "final", number) % 2**31 for number in range(n_seeds))


def winner_spec(
    model: GridConfig,
    searched: Mapping[str, Any],
    *,
    shared: Mapping[str, Any],
    experiment: ExperimentConfig,
    cell: Cell,
    n_features: int,
    batch_provider: BatchProvider,
    n_sharing: int,
    execution: ExecutionConfig,
    seed: int,
    fold: int = 0,
    view: WindowView | None = None,
    provenance: Provenance,
) -> RunSpec:
    """Return the specification of one training of a cell's winner.

    Parameters
    ----------
    model : GridConfig
        The winner's, of any family with a grid; its dropout is one of the searched parameters.
    searched : mapping
        learning_rate, epochs, weight_decay, warmup_steps, dropout, and whatever else a trial drew, which
        outranks ``shared``.
    shared : mapping
        What every training of the experiment has in common (patience, caps, effective batch size ...).
    n_features : int
        F of the windows, before the view.
    n_sharing : int
        Trainings that share the memory of one device.
    view : WindowView or None
        The part of the windows that the winner reads.
    """
    dropout = {name: searched[name] for name in ("dropout",) if name in searched}
    model = type(model).read({**model.model_dump(), **dropout}, subject="model")
    values = {name: value for name, value in searched.items() if name != "dropout"}
    training = TrainingConfig.read({**shared, **values}, subject="training")
    seen = view or WindowView()
    batch = choose_batch(
        batch_provider,
        model,
        **seen.sizes(n_features=n_features, context_length=experiment.data.context_length),
        effective_batch_size=training.effective_batch_size,
        device=str(resolve_device(execution)),
        precision=execution.precision,
        n_sharing=n_sharing,
    )
    return plan_run(
        model,
        training,
        experiment=experiment,
        cell=cell,
        n_features=n_features,
        batch=batch,
        seed=seed,
        fold=fold,
        view=view,
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

    done = finished_run(directory, spec)
    if done is None:
        done = (
            spec,
            train(
                spec,
                data,
                directory=directory,
                execution=execution,
                on_event=logged(directory, on_event),
                should_stop=should_stop,
            ),
        )
    executed, result = done
    scored = result.outcome == "complete"
    return SeedRun(executed, result, evaluate_run(directory, data, execution=execution) if scored else None)


def calibrate_seed(run: SeedRun, data: WindowData, *, directory: Path, conformal: bool) -> SeedRun:
    """Return a run with its quantiles calibrated and recorded so, or without, as ``conformal`` says.

    What an earlier call left in the directory of the run is replaced or removed.
    """
    calibration = None
    if conformal and run.evaluation is not None:
        rows = run.evaluation.rows[CALIBRATED_ON]
        calibration = fit_calibration(rows, data.spec, fingerprint=run.result.fingerprint)
    record_calibration(directory, calibration)
    return dataclasses.replace(run, calibration=calibration)


def finished_run(directory: Path, spec: RunSpec) -> tuple[RunSpec, TrainingResult] | None:
    """Return the specification and record of a finished run in ``directory``, if it is the one asked for."""
    try:
        executed = read_run_spec(directory / "run_spec.json")
        result = TrainingResult.read(read_json(directory / "result.json"), subject="result")
    except FinscaleError:
        return None
    known = {"provenance": executed.provenance, "batch": executed.batch}
    same = executed == spec.model_copy(update=known) and result.fingerprint == fingerprint(spec)
    return (executed, result) if same and result.outcome != "stopped" else None


def run_rows(runs: Sequence[SeedRun], *, flags: Sequence[str] = (), **columns: Any) -> pd.DataFrame:
    """Return one row per (seed, split): the cell, the architecture, what ran, and the scores of its kind.

    ``excess_loss`` is ``base_rate_loss`` less the loss.
    The folds of a walk-forward are pooled: a score of a seed is that of all its folds' rows together.

    Parameters
    ----------
    runs : sequence of SeedRun
        Every fold of every seed.
    flags : sequence of str
        Words that belong on every row of the cell, beside what each run raised.
    columns : scalars
        Further columns, the same on every row.
    """
    seeds = {run.spec.seed: [other for other in runs if other.spec.seed == run.spec.seed] for run in runs}
    rows = [_row(folds, split, flags) for folds in seeds.values() for split in SCORED_SPLITS]
    return pd.DataFrame([{**row, **columns} for row in rows])


def _row(folds: Sequence[SeedRun], split: str, flags: Sequence[str]) -> dict[str, Any]:
    spec, result = folds[0].spec, folds[0].result
    pooled = _pooled_scores(folds, split)
    raised = {flag for run in folds for flag in (*run.result.flags, *_flags(run, split))}
    scoring = _scoring(spec)
    base, loss = (pooled.get(name, float("nan")) for name in ("base_rate_loss", scoring.measure.column))
    batch = result.batch or spec.batch
    outcomes = [run.result.outcome for run in folds]
    return {
        "run_id": result.fingerprint,
        "budget": spec.cell.budget,
        "n_budget": spec.cell.n_budget,
        "horizon": spec.horizon,
        "cell": spec.cell.id,
        "seed": spec.seed,
        "n_folds": len(folds),
        "split": split,
        "arch_id": spec.arch_id,
        "model_family": spec.model.family,
        **{name: getattr(spec.model, name, None) for name in ("d_model", "n_layers", "n_heads", "d_ff")},
        "n_params": result.n_params,
        "learning_rate": spec.training.learning_rate,
        "epochs": spec.training.epochs,
        "weight_decay": spec.training.weight_decay,
        "warmup_steps": result.executed.warmup_steps,
        "optimizer": result.executed.optimizer,
        "schedule": result.executed.schedule,
        "precision": result.executed.precision,
        "dropout": result.executed.dropout,
        **batch.model_dump(),
        "n": pooled.get("n", float("nan")),
        scoring.measure.column: loss,
        "base_rate_loss": base,
        "excess_loss": base - loss,
        **{name: pooled.get(name, float("nan")) for name in scoring.measure.scores},
        **_calibrations(folds),
        "outcome": next((outcome for outcome in outcomes if outcome != "complete"), "complete"),
        "flags": sorted({*flags, *raised}),
        "best_epoch": result.best_epoch,
        "stopped_epoch": result.stopped_epoch,
        "n_steps": sum(run.result.n_steps for run in folds),
        **_instants(folds),
        "seconds": sum(run.result.seconds for run in folds),
        "peak_memory_bytes": max(run.result.peak_memory_bytes for run in folds),
        "device": result.device,
        **spec.provenance.model_dump(mode="json", exclude={"created_at", "dirty"}),
    }


def _calibrations(folds: Sequence[SeedRun]) -> dict[str, str]:
    """By how much quantiles were moved, fold by fold, as JSON; no column where none was asked for."""
    found = [run.calibration.model_dump(mode="json") for run in folds if run.calibration]
    return {"calibration": json.dumps(found)} if found else {}


def _instants(folds: Sequence[SeedRun]) -> dict[str, datetime | None]:
    began = [run.result.started_at for run in folds if run.result.started_at is not None]
    ended = [run.result.finished_at for run in folds]
    return {
        "started_at": min(began).astimezone(UTC) if began else None,
        "finished_at": max(ended).astimezone(UTC),
    }


def _flags(run: SeedRun, split: str) -> Sequence[str]:
    return run.evaluation.flags.get(split, ()) if run.evaluation else ()


def _pooled_scores(folds: Sequence[SeedRun], split: str) -> Mapping[str, float]:
    """Score the rows of all folds at once; nothing where a fold has no scores, or no such origins."""
    found = [run.evaluation for run in folds if run.evaluation and split in run.evaluation.scores]
    if len(found) < len(folds):
        return {}
    if len(found) == 1:
        return found[0].scores[split]
    rows = pd.concat([evaluation.losses for evaluation in found])
    rows = rows[rows["split"] == split]
    n_rows = np.array([evaluation.scores[split]["n"] for evaluation in found])
    base_losses = [evaluation.scores[split]["base_rate_loss"] for evaluation in found]
    return {
        **_scoring(folds[0].spec).scores(rows),
        "base_rate_loss": float(np.average(base_losses, weights=n_rows)),
    }


def _scoring(spec: RunSpec) -> type[Scoring]:
    return SCORINGS[parse_task(spec.experiment.data.task).kind]


def date_loss_rows(runs: Sequence[SeedRun]) -> pd.DataFrame:
    """Return the loss of every forecast, one row per (budget, horizon, seed, fold, split, origin)."""
    frames = [_dates(run) for run in runs if run.evaluation]
    if frames:
        return pd.concat(frames, ignore_index=True)
    losses = [_scoring(run.spec).measure.column for run in runs[:1]]
    return pd.DataFrame(columns=["budget", "horizon", "seed", "fold", "split", *ORIGIN, *losses])


def _dates(run: SeedRun) -> pd.DataFrame:
    assert run.evaluation is not None
    frame = run.evaluation.losses.copy()
    frame.insert(0, "budget", run.spec.cell.budget)
    frame.insert(1, "horizon", run.spec.horizon)
    frame.insert(2, "seed", run.spec.seed)
    frame.insert(3, "fold", run.spec.fold)
    return frame
