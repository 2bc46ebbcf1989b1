"""What a cell will cost before it is run: the time of its search and of its final trainings, and memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from optuna.trial import FrozenTrial

from finscale.archgrid.memory import predict_memory
from finscale.core.config import Record
from finscale.search.best import lowest
from finscale.search.bound_space import BoundSpace
from finscale.search.config import SearchConfig
from finscale.search.extremes import forced_rows
from finscale.search.pace import Pace, pace_of_steps, pace_of_trials, to_be_timed
from finscale.search.planner import Planner, training_config
from finscale.search.proposals import Proposal, Proposer, is_counted
from finscale.search.settled import settle
from finscale.search.survey import recorded_trials, windows_read
from finscale.training.config import TrainingConfig, resolve_device
from finscale.training.run_spec import RunSpec
from finscale.windows.data import WindowData
from finscale.windows.view import WindowView

__all__ = ["Forecast", "Span", "forecast_cell"]


class Span(Record):
    """Seconds of several trainings, one after another.

    Parameters
    ----------
    least : float
        Were each the cheapest candidate.
    expected : float
        Over the candidates' mean; forced extremes and a winner that is known count as what they are.
    most : float
        Were each the dearest candidate, through the most epochs that the space allows.
    """

    least: float
    expected: float
    most: float

    def __add__(self, other: "Span") -> "Span":
        return Span(
            least=self.least + other.least,
            expected=self.expected + other.expected,
            most=self.most + other.most,
        )

    def __mul__(self, factor: float) -> "Span":
        return Span(least=self.least * factor, expected=self.expected * factor, most=self.most * factor)


class Forecast(Record):
    """One cell.

    Parameters
    ----------
    n_grid, n_trials, n_left : int
        Architectures of the grid; trials of the search in all, and those that are left.
    n_trainings : int
        Final trainings that are left.
    source : str
        Where the speed comes from.
    epochs, most_epochs : float, int
        For which the expected time is counted, and the most that the space allows.
    search, final : Span
        Of the trials and of the final trainings that are left.
    trial_bytes, final_bytes : int
        Predicted peak of the training step of the largest candidate, and of the winner where it is known, as
        executed: this device's precision and micro-batch.
    """

    cell: str
    n_grid: int
    n_trials: int
    n_left: int
    n_trainings: int
    source: str
    epochs: float
    most_epochs: int
    search: Span
    final: Span
    trial_bytes: int
    final_bytes: int


def forecast_cell(
    config: SearchConfig,
    planner: Planner,
    *,
    grid: pd.DataFrame,
    tolerance: float,
    folds: Sequence[WindowData],
    searches: bool,
    n_seeds: int,
    n_done: int,
) -> Forecast:
    """Forecast a cell at the speed of its finished trials, else at that of a few timed steps here.

    Nothing is written.

    Parameters
    ----------
    config : SearchConfig
        Its ``n_trials`` are those of the study.
    planner : Planner
        Of the study.
    grid, tolerance
        See `finscale.search.run.run_search`.
    folds : sequence of WindowData
        Of a walk-forward; the search reads the first.
    searches : bool
        Whether the trials that are left will be run.
    n_seeds, n_done : int
        Final trainings of every fold, and how many of all have ended already; they begin anew where the
        search is not finished.

    Raises
    ------
    FinscaleError
        What the search would raise before its first trial.
    """
    cell = _CellCost.of(config, planner, grid, tolerance, folds[0])
    n_all = n_seeds * len(folds)
    n_left = cell.n_left if searches else 0
    n_trainings = n_all if n_left else max(0, n_all - n_done)
    each = [cell.training_span(fold) for fold in folds]
    final = sum(each[1:], each[0]) * (n_trainings / len(folds))
    return Forecast(
        cell=planner.cell.id,
        n_grid=len(grid),
        n_trials=cell.n_trials,
        n_left=n_left,
        n_trainings=n_trainings,
        source=cell.pace.source,
        epochs=cell.epochs,
        most_epochs=cell.most_epochs,
        search=cell.search_span(folds[0], n_left),
        final=final,
        trial_bytes=cell.memory(cell.table, planner),
        final_bytes=cell.memory(cell.finalists, planner),
    )


@dataclass(frozen=True)
class _CellCost:
    """A cell's candidates, how fast they train, and how long."""

    space: BoundSpace
    table: pd.DataFrame
    finalists: pd.DataFrame
    pace: Pace
    training: TrainingConfig
    epochs: float
    most_epochs: int
    n_trials: int
    n_left: int
    forced: tuple[str, ...]

    @classmethod
    def of(
        cls,
        config: SearchConfig,
        planner: Planner,
        grid: pd.DataFrame,
        tolerance: float,
        windows: WindowData,
    ) -> "_CellCost":
        """Settle the search as it will be, and read or measure its pace."""
        settled = settle(
            config.space,
            experiment=planner.experiment,
            grid=grid,
            features=windows.spec.features,
            tolerance=tolerance,
            training_defaults=planner.training_defaults,
        )
        space, table = settled.space, settled.candidates.table
        proposer = Proposer(table, config, space, seed=planner.seed)
        typical = training_config(planner.training_defaults, proposer.typical().training)
        trials = recorded_trials(planner.study_directory)
        n_left = max(0, proposer.n_trials - sum(map(is_counted, trials)))
        forces = config.chosen_sampler(has_conditions=space.has_conditions) not in ("sample", "grid")
        return cls(
            space=space,
            table=table,
            finalists=table if n_left else _finalists(table, trials),
            pace=pace_of_trials(trials, table) or _timed_pace(planner, space, table, windows),
            training=typical,
            epochs=_mean_epochs(trials) or float(_capped(typical, typical.epochs)),
            most_epochs=_capped(typical, max(_epochs_of(space), default=typical.epochs)),
            n_trials=proposer.n_trials,
            n_left=n_left,
            forced=_forced(table, trials) if forces else (),
        )

    def search_span(self, windows: WindowData, n_left: int) -> Span:
        """Return the time of so many trials: forced extremes first, then the candidates' mean."""
        usual, longest = self._seconds(windows, self.epochs), self._seconds(windows, self.most_epochs)
        first = usual.set_axis(self.table["arch_id"])
        extremes = first[~first.index.duplicated()][list(self.forced[:n_left])]
        rest = n_left - len(extremes)
        return Span(
            least=n_left * usual.min(),
            expected=extremes.sum() + rest * usual.mean(),
            most=n_left * longest.max(),
        )

    def training_span(self, windows: WindowData) -> Span:
        """Return the time of one final training."""
        usual = self._seconds(windows, self.epochs)[self.finalists.index]
        longest = self._seconds(windows, self.most_epochs)[self.finalists.index]
        return Span(least=usual.min(), expected=usual.mean(), most=longest.max())

    def memory(self, rows: pd.DataFrame, planner: Planner) -> int:
        """Return the predicted peak of the one of these candidates that takes most."""
        spec = _spec(planner, self.space, rows.iloc[int(rows["memory_bytes"].to_numpy().argmax())])
        view = spec.view or WindowView()
        length = planner.experiment.data.context_length
        return predict_memory(
            spec.model,
            **view.sizes(n_features=planner.n_features, context_length=length),
            micro_batch_size=spec.batch.micro_batch_size,
            precision=planner.execution.precision,
            device_type=resolve_device(planner.execution).type,  # type: ignore[arg-type]
            activation_checkpointing=spec.batch.activation_checkpointing,
        ).total

    def _seconds(self, windows: WindowData, epochs: float) -> pd.Series:
        n_train, n_scored = (len(windows.origins[split]) for split in ("train", "val_select"))
        n_windows = windows_read(self.training, n_train, epochs=epochs)
        return self.pace.seconds(self.table, n_windows=n_windows, n_scored=epochs * n_scored)


def _timed_pace(planner: Planner, space: BoundSpace, table: pd.DataFrame, windows: WindowData) -> Pace:
    from finscale.training.step_times import time_steps

    rows = table.iloc[to_be_timed(table)]
    specs = [_spec(planner, space, row) for _, row in rows.iterrows()]
    timed = [time_steps(spec, windows, planner.execution) for spec in specs]
    return pace_of_steps(rows, timed, source=f"steps timed on {resolve_device(planner.execution).type}")


def _spec(planner: Planner, space: BoundSpace, row: pd.Series) -> RunSpec:
    """Return the typical training of a candidate."""
    values = {str(name): value for name, value in row.to_dict().items()}
    return planner.spec(0, Proposal("timed", values, {}, space.training(values, space.center(values))))


def _forced(table: pd.DataFrame, trials: Sequence[FrozenTrial]) -> tuple[str, ...]:
    """Return the extremes that no trial has tried."""
    tried = {trial.user_attrs.get("arch_id") for trial in trials if trial.user_attrs.get("kind") == "extreme"}
    return tuple(arch_id for arch_id in forced_rows(table) if arch_id not in tried)


def _finalists(table: pd.DataFrame, trials: Sequence[FrozenTrial]) -> pd.DataFrame:
    """Return the candidate that has won; all of them where it is not among them."""
    best = lowest(trials)
    won = table[table["arch_id"] == best.user_attrs["arch_id"]] if best else table
    return won if len(won) else table


def _mean_epochs(trials: Sequence[FrozenTrial]) -> float | None:
    """Return after how many epochs trials have ended, early stopping included; None before the first."""
    ended = [trial.user_attrs["stopped_epoch"] for trial in trials if trial.user_attrs.get("stopped_epoch")]
    return sum(ended) / len(ended) if ended else None


def _capped(training: TrainingConfig, epochs: int) -> int:
    return min(epochs, training.max_epochs or epochs)


def _epochs_of(space: BoundSpace) -> Iterator[int]:
    """Yield what the space may ask for."""
    dimension: Any = space.training_dimensions.get("epochs")
    yield from (int(end) for end in (dimension.ends if dimension else ()))
    for group in space.linked:
        yield from (int(value) for value in group.members.get("epochs", ()))
