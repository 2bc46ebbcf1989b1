"""Real trainings by two processes find what one finds, whatever becomes of one of them on the way."""

import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from optuna.trial import FrozenTrial
from search_cells import search, small, write_windows
from toy_trials import wait_until

from finscale.core.errors import FinscaleError
from finscale.search.config import SearchConfig
from finscale.search.driver import SearchEvent, trial_directory
from finscale.search.executors import Executor
from finscale.search.finals import train_side_by_side
from finscale.search.processes import ProcessExecutor
from finscale.search.run import MakeExecutor, local_executor
from finscale.search.space import Dimension, SearchSpace
from finscale.search.study import load_study
from finscale.training.config import ExecutionConfig
from finscale.training.event_log import read_events
from finscale.training.loop import train
from finscale.training.result import TrainingResult
from finscale.training.run_spec import read_run_spec
from finscale.windows.data import load_windows

TOLERANCE = 1e-4
"""Relative, of losses in float32: sums are added in another order."""

CPU = {strategy: ExecutionConfig(device="cpu", strategy=strategy) for strategy in ("one", "ddp", "fsdp")}


def still(n_trials: int = 1, *, epochs: int = 2, **changes: Any) -> SearchConfig:
    """A search whose trials draw nothing at random while they train: no dropout."""
    space = SearchSpace(
        epochs=Dimension(choices=(epochs,)),
        warmup_steps=Dimension(choices=(1, 2)),
        dropout=Dimension(choices=(0.0,)),
    )
    return small(n_trials=n_trials, space=space, **changes)


def by_two(n_trials: int = 1, *, executor: str = "process", **changes: Any) -> SearchConfig:
    return still(n_trials, executor=executor, n_processes=2, n_workers=1, **changes)


def trials(directory: Path) -> list[FrozenTrial]:
    return load_study(directory).trials


def values(directory: Path) -> list[float]:
    return [trial.value for trial in trials(directory) if trial.value is not None]


def ran(directory: Path) -> set[tuple[str, int]]:
    table = pd.read_parquet(directory / "trials.parquet")
    return set(zip(table["strategy"], table["n_processes"], strict=True))


@pytest.fixture(scope="module")
def long_windows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("long_windows")
    write_windows(directory, n_train=600)
    return directory


@pytest.fixture(scope="module")
def by_one(tmp_path_factory: pytest.TempPathFactory, rows: pd.DataFrame, windows: Path) -> list[float]:
    directory = tmp_path_factory.mktemp("by_one")
    search(directory, rows, windows, still(2))
    return values(directory)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_trials_of_two_processes_find_the_losses_of_one(
    tmp_path: Path, rows: pd.DataFrame, windows: Path, by_one: list[float], strategy: str
) -> None:
    found = search(tmp_path, rows, windows, by_two(2), execution=CPU[strategy])
    assert found.counts == {"complete": 2}
    assert values(tmp_path) == pytest.approx(by_one, rel=TOLERANCE)
    assert ran(tmp_path) == {(strategy, 2)}
    left = {path.name for path in trial_directory(tmp_path, 0).iterdir()}
    assert left == {".lock", "events.jsonl", "outcome.json", "result.json", "run_spec.json"}


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_on_a_cluster_too(
    tmp_path: Path,
    rows: pd.DataFrame,
    windows: Path,
    by_one: list[float],
    strategy: str,
    request: pytest.FixtureRequest,
) -> None:
    request.getfixturevalue("ray_cluster")
    from finscale.runtime.cluster import make_executor

    config = by_two(2, executor="ray")
    search(tmp_path, rows, windows, config, execution=CPU[strategy], make_executor=make_executor)
    assert values(tmp_path) == pytest.approx(by_one, rel=TOLERANCE)
    assert ran(tmp_path) == {(strategy, 2)}


def finals(tmp_path: Path, windows: Path, executor: Executor, strategy: str) -> TrainingResult:
    """Train the winner of ``tmp_path / "study"`` once more, as a final one."""
    spec = read_run_spec(trial_directory(tmp_path / "study", 0).with_suffix(".yaml"))
    folder = tmp_path / strategy
    asked = {"windows_directories": [windows], "execution": CPU[strategy], "should_stop": lambda: False}
    with executor:
        assert train_side_by_side([spec], [folder], executor=executor, **asked)
    return TrainingResult.read(pd.read_json(folder / "result.json", typ="series").to_dict(), subject="result")


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_final_training_by_two_processes_finds_the_loss_of_one(
    tmp_path: Path, rows: pd.DataFrame, windows: Path, strategy: str
) -> None:
    search(tmp_path / "study", rows, windows, still())
    reports: list[int] = []
    hands = ProcessExecutor(n_slots=1, n_processes=2, on_report=lambda number, _: reports.append(number))
    result = finals(tmp_path, windows, hands, strategy)
    assert result.outcome == "complete"
    assert (result.executed.strategy, result.executed.n_processes) == (strategy, 2)
    assert result.best_val_loss == pytest.approx(values(tmp_path / "study")[0], rel=TOLERANCE)
    assert reports == [0, 0]
    spec = read_run_spec(tmp_path / strategy / "run_spec.json")
    one = train(spec, load_windows(windows), directory=tmp_path / "one", execution=CPU["one"])
    assert result.best_val_loss == pytest.approx(one.best_val_loss, rel=TOLERANCE)


# -- one of them is killed -----------------------------------------------------------------------------------


def keeping(made: list[Executor]) -> MakeExecutor:
    """Make local executors, and remember them."""

    def make(*args: Any, **kwargs: Any) -> Executor:
        made.append(local_executor(*args, **kwargs))
        return made[-1]

    return make


def once_in_epoch(epoch: int, act: Callable[[int], None]) -> Callable[[SearchEvent], None]:
    """Return a listener that acts once, when a trial reports that epoch."""
    acted: list[int] = []

    def listen(event: SearchEvent) -> None:
        if event.kind == "progress" and event.values["epoch"] == epoch and not acted:
            acted.append(event.number)
            act(event.number)

    return listen


@pytest.mark.parametrize("rank", [0, 1])
def test_a_trial_one_of_whose_processes_is_killed_goes_on_from_its_checkpoint(
    tmp_path: Path, rows: pd.DataFrame, long_windows: Path, rank: int
) -> None:
    made: list[Any] = []
    pids: list[int] = []

    def kill(number: int) -> None:
        pids.extend(child.process.pid for child in made[0]._attempts[number].children)
        os.kill(pids[rank], signal.SIGKILL)

    heard: list[SearchEvent] = []
    killing = once_in_epoch(3, kill)

    def listen(event: SearchEvent) -> None:
        heard.append(event)
        killing(event)

    search(
        tmp_path,
        rows,
        long_windows,
        by_two(epochs=12),
        execution=ExecutionConfig(device="cpu", strategy="ddp", checkpoint_every_s=0.0),
        on_event=listen,
        make_executor=keeping(made),
    )
    [trial] = trials(tmp_path)
    assert (trial.user_attrs["outcome"], trial.user_attrs["n_halvings"]) == ("complete", 1)
    assert [event.kind for event in heard if event.kind in ("retried", "moved")] == ["retried"]
    kinds = [event["event"] for event in read_events(trial_directory(tmp_path, 0))]
    assert kinds.count("Resumed") == 1
    epochs = [event.values["epoch"] for event in heard if event.kind == "progress"]
    assert epochs[0] == 1
    assert epochs.count(1) == 1
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), seconds=10)


# -- stopped by as many, continued by as many others ---------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "then"), [(("ddp", 2), ("one", 1)), (("one", 1), ("ddp", 2)), (("fsdp", 2), ("ddp", 2))]
)
def test_a_stopped_trial_goes_on_with_another_number_of_processes(
    tmp_path: Path,
    rows: pd.DataFrame,
    long_windows: Path,
    first: tuple[str, int],
    then: tuple[str, int],
) -> None:
    search(tmp_path / "whole", rows, long_windows, still(epochs=6))

    def part(strategy: str, n_processes: int, **changes: Any) -> str:
        config = still(epochs=6, executor="process", n_workers=1, n_processes=n_processes)
        execution = CPU[strategy]
        return search(tmp_path / "parts", rows, long_windows, config, execution=execution, **changes).outcome

    stop = tmp_path / "parts" / "STOP_NOW"
    assert part(*first, on_event=once_in_epoch(2, lambda number: stop.touch())) == "stopped"
    assert part(*then) == "complete"
    assert values(tmp_path / "parts") == pytest.approx(values(tmp_path / "whole"), rel=TOLERANCE)
    assert ran(tmp_path / "parts") == {then}
    kinds = [event["event"] for event in read_events(trial_directory(tmp_path / "parts", 0))]
    assert kinds.count("Resumed") == 1
    assert kinds.count("EpochEnd") == trials(tmp_path / "whole")[0].user_attrs["stopped_epoch"]


def test_a_search_that_cannot_be_trained_together_is_refused_before_it_leaves_a_file(
    tmp_path: Path, rows: pd.DataFrame, windows: Path
) -> None:
    refused = functools.partial(search, tmp_path / "study", rows, windows)
    with pytest.raises(FinscaleError, match=r"execution\.strategy must be ddp or fsdp .*n_processes is 2"):
        refused(by_two())
    with pytest.raises(FinscaleError, match=r"execution\.strategy must be one where hpo\.n_processes is 1"):
        refused(still(), execution=CPU["ddp"])
    space = SearchSpace(norm=Dimension(choices=("layer_norm", "batch_norm")))
    with pytest.raises(FinscaleError, match="the model's norm must be layer_norm or rms_norm"):
        refused(by_two().model_copy(update={"space": space}), execution=CPU["ddp"])
    assert not (tmp_path / "study").exists()
