"""What a cluster adds to a search: nothing while trials sleep, and little CPU of the driver.

Efficiency: trials per hour of a driver on a simulated Ray cluster with 1, 2 and 4 workers, each trial asleep
for a while, over the workers times the trials per hour that their sleep alone would allow. Capacity: asks per
second of the driver with 1,000 attempts under way, on an executor that ends them at once, with studies in
SQLite, and in PostgreSQL where OPTUNA_STORAGE_URL names a database; and its CPU per trial. Both leave out
the first trials, in which workers start and are imported into.

    python benchmarks/bench_cluster.py [--sleep 20] [--rounds 4] [--workers 1 2 4] [--trials 1500]
        [--under-way 1000] [--samplers sample tpe]
"""

import argparse
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from finscale.archgrid.batching import BatchConfig, split_batch
from finscale.archgrid.enumerate import enumerate_grid
from finscale.runtime.cluster import make_executor
from finscale.search.attempts import Job
from finscale.search.config import SearchConfig
from finscale.search.driver import Driver, SearchEvent, TrialPlan
from finscale.search.executors import Executor, Finished, OnReport
from finscale.search.outcomes import TrialOutcome
from finscale.search.proposals import Proposal, Proposer
from finscale.search.study import StudyIdentity, lease, open_study

IDENTITY = StudyIdentity(**dict.fromkeys(StudyIdentity.model_fields, "benchmark"))


def sleep(
    payload: Mapping[str, Any],
    directory: Path,
    *,
    should_stop: Callable[[], bool],
    report: Callable[[Mapping[str, Any]], None],
) -> dict[str, Any]:
    """Train nothing for a while."""
    time.sleep(payload["sleep_s"])
    return {"outcome": "complete", "value": 0.5}


class EndsAtOnce(Executor):
    """Holds attempts under way and ends the oldest, one at every poll."""

    def __init__(self, *, n_slots: int, on_report: OnReport) -> None:
        super().__init__(n_slots=n_slots, on_report=on_report)
        self._numbers: deque[int] = deque()

    def submit(self, job: Job) -> None:
        """Put the attempt in line."""
        self._numbers.append(job.number)

    def poll(self, timeout_s: float) -> list[Finished]:
        """End the oldest."""
        return [Finished(self._numbers.popleft(), TrialOutcome(outcome="complete", value=0.5), 1.0)]

    def cancel(self, number: int) -> None:
        """Take the attempt out of line."""
        self._numbers.remove(number)

    def close(self) -> None:
        """Forget all."""
        self._numbers.clear()


def search(config: SearchConfig, directory: Path, executor: Executor, *, sleep_s: float) -> list[tuple]:
    """Run a search; return the instant and the driver's CPU seconds at the end of every trial."""
    ended: list[tuple[float, float]] = []

    def plan(number: int, proposal: Proposal, batch: BatchConfig | None) -> TrialPlan:
        whole = split_batch(128, effective_batch_size=128)
        return TrialPlan({"batch": whole.model_dump(), "sleep_s": sleep_s}, {"seed": number, "epochs": 1})

    def listen(event: SearchEvent) -> None:
        if event.kind == "finished":
            ended.append((time.monotonic(), time.process_time()))

    grid = enumerate_grid(20_000_000, n_features=25, context_length=60)
    with lease(directory), executor:
        study = open_study(directory, name=f"bench {time.time()}", identity=IDENTITY, attributes={})
        Driver(
            study,
            Proposer(grid, config, config.space.bind("patchtst"), seed=0),
            executor,
            config=config,
            function=f"{Path(__file__).stem}:sleep",
            plan=plan,
            directory=directory,
            after_tell=lambda trials, number: None,
            on_event=listen,
            should_stop=lambda: False,
        ).run()
    return ended


def print_efficiency(n_workers: int, *, rounds: int, sleep_s: float) -> None:
    import ray

    config = SearchConfig(
        n_trials=n_workers * (rounds + 1), sampler="sample", executor="ray", n_workers=n_workers
    )
    executor = make_executor(
        config,
        on_report=lambda number, values: None,
        should_stop=lambda: False,
        should_pause=lambda: False,
    )
    with tempfile.TemporaryDirectory() as folder:
        ended = search(config, Path(folder), executor, sleep_s=sleep_s)
    ray.shutdown()
    # from the end of the first round to the end of the last
    seconds, n_trials = ended[-1][0] - ended[n_workers - 1][0], n_workers * rounds
    cpu = (ended[-1][1] - ended[n_workers - 1][1]) / n_trials
    ideal = n_workers * 3600 / sleep_s
    rate = n_trials * 3600 / seconds
    print(
        f"{n_workers} workers: {rate:6.0f} trials an hour, efficiency {rate / ideal:.3f}, "
        f"driver {1000 * cpu:.0f} ms CPU a trial",
        flush=True,
    )


def print_capacity(n_trials: int, *, under_way: int, sampler: str) -> None:
    config = SearchConfig(n_trials=n_trials, sampler=sampler, n_workers=under_way, clip=True)
    with tempfile.TemporaryDirectory() as folder:
        ended = search(
            config,
            Path(folder),
            EndsAtOnce(n_slots=under_way, on_report=lambda number, values: None),
            sleep_s=0,
        )
    last = n_trials - under_way
    # while an ended attempt is followed by another one
    (first_at, first_cpu), (last_at, last_cpu) = ended[0], ended[last - 1]
    asks = (last - 1) / (last_at - first_at)
    cpu = (last_cpu - first_cpu) / (last - 1)
    where = "PostgreSQL" if os.environ.get("OPTUNA_STORAGE_URL") else "SQLite"
    told = f"{asks:.1f} asks a second, driver {1000 * cpu:.0f} ms CPU a trial"
    print(f"{under_way} under way, {sampler}, {where}: {told}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sleep", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--trials", type=int, default=1500)
    parser.add_argument("--under-way", type=int, default=1000)
    parser.add_argument("--samplers", nargs="*", default=["sample", "tpe"])
    asked = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    )
    for n_workers in asked.workers:
        print_efficiency(n_workers, rounds=asked.rounds, sleep_s=asked.sleep)
    for sampler in asked.samplers:
        print_capacity(asked.trials, under_way=asked.under_way, sampler=sampler)


if __name__ == "__main__":
    main()
