"""Train what was planned, side by side or one by one: with progress, stops and records."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from finscale.core.errors import Interrupted
from finscale.runtime.cluster import make_executor
from finscale.runtime.listeners import SeedsListener, log_seed_run, watch_training
from finscale.runtime.stopping import STOP
from finscale.search.config import SearchConfig
from finscale.search.executors import once_resumed
from finscale.search.finals import train_side_by_side
from finscale.search.planner import require_processes
from finscale.training.config import ExecutionConfig
from finscale.training.run_inputs import bar_facts, save_inputs
from finscale.training.run_spec import RunSpec
from finscale.training.winner import SeedRun, finished_run, train_seed
from finscale.windows.build import few_positives
from finscale.windows.data import WindowData
from finscale.windows.folds import fold_folder
from finscale.windows.view import view_windows

__all__ = ["cell_flags", "train_all"]


def train_all(
    specs: Sequence[RunSpec],
    folders: Sequence[Path],
    folds: Sequence[WindowData],
    *,
    windows_folder: Path,
    bars: pd.DataFrame,
    execution: ExecutionConfig,
    hpo: SearchConfig,
    shared: str | None,
    kind: str = "final",
    on_run: Callable[[SeedRun], None] = lambda run: None,
) -> list[SeedRun]:
    """Train every specification, going on from its checkpoint, and score its best epoch.

    Parameters
    ----------
    folders : sequence of Path
        Of each training.
    folds : sequence of WindowData
        In order; ``windows_folder`` holds them.
    bars : DataFrame
        Prepared bars, of which each training records what scores new ones.
    shared : str or None
        Address of the store through which nodes of a cluster read and write (``paths.shared``).
    kind : str
        Of the trainings, as trackers file them.
    on_run : callable
        Told of every training that has ended.

    Raises
    ------
    Interrupted
        When asked to stop; checkpoints hold what was reached.
    """
    require_processes(hpo, execution, models=[spec.model.model_dump() for spec in specs])
    waiting = [pair for pair in zip(specs, folders, strict=True) if finished_run(pair[1], pair[0]) is None]
    apart = hpo.executor != "inline" and (hpo.n_processes > 1 or len(waiting) > 1)
    if waiting and apart:
        _train_side_by_side(waiting, windows_folder, execution, hpo, shared)
    facts, runs = bar_facts(bars), []
    for spec, folder in zip(specs, folders, strict=True):
        run = _train(spec, folds[spec.fold], folder, execution)
        save_inputs(folder, view_windows(folds[spec.fold], spec.view), facts)
        log_seed_run(run, kind=kind)
        on_run(run)
        runs.append(run)
    return runs


def cell_flags(folds: Sequence[WindowData], *, used_defaults: bool) -> list[str]:
    """Return the words that belong on every row of a cell."""
    return [
        *(["few_positives"] if any(map(few_positives, folds)) else []),
        *(["allow_defaults"] if used_defaults else []),
    ]


def _train_side_by_side(
    waiting: Sequence[tuple[RunSpec, Path]],
    windows_folder: Path,
    execution: ExecutionConfig,
    hpo: SearchConfig,
    shared: str | None,
) -> None:
    """Use all worker slots; each training's record is then found finished."""
    specs = [spec for spec, _ in waiting]
    cell = specs[0].cell.id
    asked = {"should_stop": STOP.requested, "should_pause": STOP.should_pause}
    with (
        SeedsListener(cell, specs) as listener,
        make_executor(hpo, on_report=listener, shared=shared, **asked) as executor,
    ):
        is_done = train_side_by_side(
            specs,
            [folder for _, folder in waiting],
            windows_directories=[fold_folder(windows_folder, spec.fold) for spec in specs],
            execution=execution,
            executor=executor,
            should_stop=STOP.requested,
        )
    if not is_done:
        raise Interrupted(
            f"Training of {cell} stopped; checkpoints hold what its seeds reached.", STOP.exit_code
        )


def _train(spec: RunSpec, windows: WindowData, folder: Path, execution: ExecutionConfig) -> SeedRun:
    fold = f" fold {spec.fold}" if windows.spec.n_folds > 1 else ""
    length = spec.view.context_length if spec.view else None
    bars = f" last {length} bars" if length else ""
    with watch_training(f"Train {spec.cell.id}{fold}{bars} seed {spec.seed}", spec.training.epochs) as listen:
        run = train_seed(
            spec,
            windows,
            directory=folder,
            execution=execution,
            on_event=listen,
            should_stop=once_resumed(STOP.requested, STOP.should_pause),
        )
    if run.result.outcome == "stopped":
        saved = f"epoch {run.result.stopped_epoch}, step {run.result.n_steps}"
        raise Interrupted(
            f"Training of {spec.cell.id} stopped; its checkpoint holds {saved}.", STOP.exit_code
        )
    return run
