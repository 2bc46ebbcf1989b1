"""Two workers of one search against two processes that know nothing of each other.

A search of real trials on small random windows runs with two workers; then two plain processes train the
same trials, each taking the next one from a list, with no study, no driver and no records. Both are timed
from their first trial to their last (imports are over), they take turns, and the ratio is of trials per hour
within a turn. Trials here last seconds, so that asking, starting a process and recording weigh more.

    python benchmarks/bench_workers.py [--trials 16] [--turns 3] [--epochs 6]
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from finscale.archgrid.enumerate import enumerate_grid
from finscale.core.budgets import Cell
from finscale.search.config import SearchConfig
from finscale.search.driver import SearchEvent
from finscale.search.run import run_search
from finscale.search.space import SearchSpace
from finscale.training.config import ExecutionConfig
from finscale.training.loop import train
from finscale.training.run_spec import Provenance, read_run_spec
from finscale.windows.data import WindowData, WindowSpec, load_windows, save_windows
from finscale.windows.experiment import DataConfig, ExperimentConfig
from finscale.windows.standardize import Standardizer

F, T, N_TRAIN, N_OTHER = 25, 60, 2560, 512
TOLERANCE = 0.25
EXPERIMENT = ExperimentConfig(
    name="workers", title="Two workers", data=DataConfig(task="direction", context_length=T)
)
CELL, EXECUTION = Cell.parse("100K", 1), ExecutionConfig(device="cpu")


def write_windows(directory: Path) -> None:
    n_rows, random = T - 1 + N_TRAIN + 3 * N_OTHER, np.random.default_rng(0)
    rows = np.split(np.arange(T - 1, n_rows), N_TRAIN + N_OTHER * np.arange(3))
    data = WindowData(
        values=random.standard_normal((n_rows, F)).astype(np.float32),
        targets=random.integers(0, 2, n_rows).astype(np.float32),
        dates=np.datetime64("2001-01-01", "ns") + np.arange(n_rows) * np.timedelta64(1, "D"),
        origins=dict(zip(("train", "val_select", "val_score", "test"), rows, strict=True)),
        spec=WindowSpec(
            experiment=EXPERIMENT.name,
            task="direction",
            touch="high",
            horizon=1,
            context_length=T,
            features=tuple(f"x{number}" for number in range(F)),
            data_hash="random",
            title="Random windows",
        ),
        standardizer=Standardizer(mean=np.zeros(F), std=np.ones(F)),
    )
    save_windows(directory, data)


def searched(windows: Path, directory: Path, *, n_trials: int, n_epochs: int) -> float:
    """Search with two workers; seconds from the first question to the last answer."""
    times: list[float] = []

    def listen(event: SearchEvent) -> None:
        if event.kind in ("asked", "finished"):
            times.append(time.perf_counter())

    space = {"epochs": {"choices": [n_epochs]}, "warmup_steps": {"choices": [20, 40]}}
    run_search(
        SearchConfig(n_trials=n_trials, n_workers=2, space=SearchSpace.read(space, subject="hpo.space")),
        experiment=EXPERIMENT,
        cell=CELL,
        grid=enumerate_grid(CELL.n_budget, n_features=F, context_length=T, tolerance=TOLERANCE),
        tolerance=TOLERANCE,
        windows_directory=windows,
        study_directory=directory,
        execution=EXECUTION,
        training_defaults={"patience": 100},
        provenance=Provenance(data_hash="random"),
        baselines={},
        seed=42,
        on_event=listen,
    )
    return times[-1] - times[0]


def independent(windows: Path, files: Sequence[Path], directory: Path) -> float:
    """Train the same trials in two processes; seconds from the first start to the last end."""
    context = multiprocessing.get_context("spawn")
    ready, taken, ended = context.Barrier(3), context.Value("i", 0), context.Queue()
    arguments = (ready, taken, ended, windows, files, directory)
    processes = [context.Process(target=_train_on, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    ready.wait()
    began = time.perf_counter()
    for _ in processes:
        ended.get()
    seconds = time.perf_counter() - began
    for process in processes:
        process.join()
    return seconds


def _train_on(
    ready: Any, taken: Any, ended: Any, windows: Path, files: Sequence[Path], directory: Path
) -> None:
    """Train trial after trial from the list; a function of its own process."""
    import torch

    torch.set_num_threads(1)
    data = load_windows(windows)
    ready.wait()
    while (number := _next(taken)) < len(files):
        train(read_run_spec(files[number]), data, directory=directory / str(number), execution=EXECUTION)
    ended.put(True)


def _next(taken: Any) -> int:
    with taken.get_lock():
        taken.value += 1
        return int(taken.value) - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    asked = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_windows(root / "windows")
        # the fork server imports torch once, and keeps it
        searched(root / "windows", root / "warm", n_trials=1, n_epochs=1)
        for turn in range(asked.turns):
            study = root / f"study_{turn}"
            together = searched(root / "windows", study, n_trials=asked.trials, n_epochs=asked.epochs)
            files = sorted((study / "trials").glob("trial_*.yaml"))
            apart = independent(root / "windows", files, root / f"apart_{turn}")
            ratios.append(apart / together)
            rates = [3600 * len(files) / seconds for seconds in (together, apart)]
            print(
                f"search {rates[0]:.0f}, independent {rates[1]:.0f} trials/hour, ratio {ratios[-1]:.3f}",
                flush=True,
            )
    print(f"median ratio {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
