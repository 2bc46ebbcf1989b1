"""A driver around toy trials; as a script, a driver to be killed."""

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import optuna
import pandas as pd

from finscale.archgrid.batching import BatchConfig, split_batch
from finscale.archgrid.enumerate import enumerate_grid
from finscale.search.config import SearchConfig
from finscale.search.driver import Driver, DriverResult, SearchEvent, TrialPlan, ignore
from finscale.search.executors import Executor, InlineExecutor, OnReport
from finscale.search.ledger import Ledger
from finscale.search.outcomes import TrialOutcome
from finscale.search.processes import ProcessExecutor
from finscale.search.proposals import Proposal, Proposer
from finscale.search.study import StudyIdentity, lease, open_study
from finscale.search.supplemental import Supplements

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
    shape = (proposal.point["shape"] - 0.5) ** 2
    return 0.5 + shape + abs(training["learning_rate"] - 3e-4) * 100 + abs(training["dropout"] - 0.2)


def drive(
    directory: Path,
    *,
    config: SearchConfig | None = None,
    behaviours: Mapping[int, Any] | None = None,
    epochs: int = 1,
    seconds_per_epoch: float = 0.0,
    jitter_s: float = 0.0,
    supplements: Supplements | None = None,
    others: Sequence[Mapping[str, Any]] = (),
    on_event: Callable[[SearchEvent], None] = ignore,
    should_stop: Callable[[], bool] = never,
    executor: Callable[[OnReport], Executor] | None = None,
) -> tuple[DriverResult, optuna.Study]:
    """Drive a toy study; ``behaviours`` maps trial numbers to how they misbehave (or to a value)."""
    config = config or SearchConfig(n_trials=6, n_random=2, executor="inline")

    def plan(number: int, proposal: Proposal, batch: BatchConfig | None) -> TrialPlan:
        behaviour = (behaviours or {}).get(number, "")
        payload = {
            "batch": (batch or split_batch(128, effective_batch_size=128)).model_dump(),
            "epochs": epochs,
            "seconds_per_epoch": seconds_per_epoch,
            "jitter_s": jitter_s,
            "value": value_of(proposal) if isinstance(behaviour, str) else behaviour,
            "behaviour": behaviour if isinstance(behaviour, str) else "",
        }
        described = {"seed": number, "epochs": epochs, "config_hash": IDENTITY.config_hash, "data_hash": "d"}
        return TrialPlan(payload, described)

    def on_report(number: int, values: Mapping[str, Any]) -> None:
        driver.on_report(number, values)

    with ExitStack() as stack:
        stack.enter_context(lease(directory))
        study = open_study(
            directory, name="toy", identity=IDENTITY, attributes={"baselines": {"base_rate": 0.7}}
        )
        hands = stack.enter_context(
            executor(on_report) if executor else build_executor(config, on_report, should_stop)
        )
        driver = Driver(
            study,
            Proposer(toy_grid(), config, config.space.bind("patchtst"), seed=7, others=others),
            hands,
            config=config,
            supplements=supplements,
            function=FUNCTION,
            plan=plan,
            directory=directory,
            after_tell=lambda trials, number: None,
            on_event=on_event,
            should_stop=should_stop,
        )
        return driver.run(), study


def build_executor(config: SearchConfig, on_report: OnReport, should_stop: Callable[[], bool]) -> Executor:
    if config.executor == "inline":
        return InlineExecutor(on_report=on_report, should_stop=should_stop)
    return ProcessExecutor(n_slots=config.n_slots, on_report=on_report)


def chaotic(n_trials: int) -> SearchConfig:
    return SearchConfig(n_trials=n_trials, sampler="sample", n_workers=2)


def die_before_telling(number: int) -> None:
    """Kill this process when it is about to tell a trial."""
    tell = Ledger.tell

    def die(ledger: Ledger, told: int, outcome: TrialOutcome) -> None:
        if told == number:
            os.kill(os.getpid(), signal.SIGKILL)
        tell(ledger, told, outcome)

    Ledger.tell = die  # type: ignore[method-assign]


if __name__ == "__main__":
    # DIRECTORY N_TRIALS DOOMED
    die_before_telling(int(sys.argv[3]))
    drive(Path(sys.argv[1]), config=chaotic(int(sys.argv[2])), epochs=10, seconds_per_epoch=0.05)
