"""A driver around toy trials; as a script, a driver to be killed."""

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import optuna
import pandas as pd

from finscale.archgrid.batching import split_batch
from finscale.archgrid.enumerate import enumerate_grid
from finscale.search.config import SearchConfig
from finscale.search.driver import Driver, DriverResult, SearchEvent, TrialPlan, ignore
from finscale.search.executors import Executor, InlineExecutor
from finscale.search.processes import ProcessExecutor
from finscale.search.proposals import Proposal, Proposer
from finscale.search.study import StudyIdentity, lease, open_study

FUNCTION = "toy_trials:toy_trial"
PARTS = {
    "experiment": "e",
    "cell": "20K_h1",
    "space": "s",
    "split": "p",
    "grid": "g",
    "training": "t",
    "data": "d",
}
IDENTITY = StudyIdentity(**PARTS)


def never() -> bool:
    return False


def toy_grid(budget: int = 20_000) -> pd.DataFrame:
    return enumerate_grid(budget, n_features=25, context_length=60)


def value_of(proposal: Proposal) -> float:
    training = proposal.training
    shape = (proposal.point[0] - 0.5) ** 2
    return 0.5 + shape + abs(training["learning_rate"] - 3e-4) * 100 + abs(training["dropout"] - 0.2)


def drive(
    directory: Path,
    *,
    config: SearchConfig | None = None,
    behaviours: Mapping[int, Any] | None = None,
    epochs: int = 1,
    seconds_per_epoch: float = 0.0,
    on_event: Callable[[SearchEvent], None] = ignore,
    should_stop: Callable[[], bool] = never,
    executor: Callable[..., Executor] | None = None,
) -> tuple[DriverResult, optuna.Study]:
    """Drive a toy study; ``behaviours`` maps trial numbers to how they misbehave (or to a value)."""
    config = config or SearchConfig(n_trials=6, n_random=2, executor="inline")

    def plan(number: int, proposal: Proposal) -> TrialPlan:
        behaviour = (behaviours or {}).get(number, "")
        payload = {
            "batch": split_batch(128, effective_batch_size=128).model_dump(),
            "epochs": epochs,
            "seconds_per_epoch": seconds_per_epoch,
            "value": value_of(proposal) if isinstance(behaviour, str) else behaviour,
            "behaviour": behaviour if isinstance(behaviour, str) else "",
        }
        return TrialPlan(payload, {"seed": number, "config_hash": IDENTITY.config_hash, "data_hash": "d"})

    with ExitStack() as stack:
        stack.enter_context(lease(directory))
        study = open_study(
            directory, name="toy", identity=IDENTITY, attributes={"baselines": {"base_rate": 0.7}}
        )
        hands = stack.enter_context(executor() if executor else build_executor(config, should_stop))
        driver = Driver(
            study,
            Proposer(toy_grid(), config, seed=7),
            hands,
            function=FUNCTION,
            plan=plan,
            directory=directory,
            n_trials=config.n_trials,
            max_failures=config.max_failures,
            after_tell=lambda number: None,
            on_event=on_event,
            should_stop=should_stop,
        )
        return driver.run(), study


def build_executor(config: SearchConfig, should_stop: Callable[[], bool]) -> Executor:
    if config.executor == "inline":
        return InlineExecutor(on_report=lambda number, values: None, should_stop=should_stop)
    return ProcessExecutor(n_slots=config.n_slots, on_report=lambda number, values: None)


if __name__ == "__main__":
    # DIRECTORY N_TRIALS
    drive(
        Path(sys.argv[1]),
        config=SearchConfig(n_trials=int(sys.argv[2]), n_random=2, sampler="random", n_workers=2),
        epochs=10,
        seconds_per_epoch=0.03,
    )
