"""Drivers on the cluster at RAY_ADDRESS, each in a process of its own: it knows one cluster in its life."""

import json
import sys
from pathlib import Path
from typing import Any

from search_toys import FUNCTION

from finscale.core.errors import FinscaleError
from finscale.runtime import cluster_checks
from finscale.runtime.cluster import connect
from finscale.runtime.definition import Paths
from finscale.runtime.preflight import require_workers
from finscale.runtime.shared_store import SharedStore
from finscale.runtime.staging import StagedExecutor, staged
from finscale.search.attempts import Job
from finscale.search.config import SearchConfig
from finscale.search.executors import Executor, Finished
from finscale.search.outcomes import TrialOutcome
from finscale.search.processes import ProcessExecutor

RAY = SearchConfig(executor="ray")


def a_job(directory: Path, **payload: Any) -> Job:
    batch = {"micro_batch_size": 128, "accumulation_steps": 1, "effective_batch_size": 128}
    usual = {"batch": batch, "epochs": 3, "seconds_per_epoch": 0.0, "value": 0.5}
    return Job(0, "identity", FUNCTION, {**usual, **payload}, directory / "trial_0000")


def attend(job: Job, store: SharedStore) -> tuple[Finished, list[int]]:
    """What a task does on its node: run one attempt, and tell its epochs."""
    epochs: list[int] = []
    with staged(job, store) as (local, push):

        def on_report(_number: int, values: dict) -> None:
            epochs.append(values["epoch"])
            push()

        with ProcessExecutor(n_slots=1, on_report=on_report) as hands:
            hands.submit(local)
            while True:
                for finished in hands.poll(0.5):
                    return finished, epochs


class OneByOne(Executor):
    """Runs attempts on some node, of those that are left."""

    def __init__(self, store: SharedStore) -> None:
        import ray

        super().__init__(n_slots=1, on_report=lambda number, values: None)
        self.store, self.epochs = store, []
        self.task = ray.remote(num_cpus=1, max_retries=0)(attend)

    def submit(self, job: Job) -> None:
        self.number, self.asked = job.number, self.task.remote(job, self.store)

    def poll(self, timeout_s: float) -> list[Finished]:
        import ray

        try:
            finished, epochs = ray.get(self.asked)
        except ray.exceptions.RayError as error:
            return [Finished(self.number, TrialOutcome(outcome="lost", reason=type(error).__name__), 0.0)]
        self.epochs += epochs
        return [finished]

    def cancel(self, number: int) -> None: ...

    def close(self) -> None: ...


def ask(data: str, shared: str, answer_s: str) -> None:
    """Print what was found of the nodes, or each fault, as JSON."""
    cluster_checks._ANSWER_S = float(answer_s)
    try:
        print(json.dumps([require_workers(RAY, Paths(data=data, shared=shared or None))]))
    except FinscaleError as error:
        print(json.dumps([str(fault) for fault in error.faults or (error,)]))


def train(directory: str, address: str) -> None:
    """Run one trial, twice again when it is lost; print how its attempts ended and the epochs of the last."""
    connect(RAY)
    store = SharedStore(address)
    hands = OneByOne(store)
    executor, ends = StagedExecutor(hands, store), []
    while not ends or (ends[-1] == "lost" and len(ends) < 3):
        executor.submit(a_job(Path(directory), epochs=30, seconds_per_epoch=0.3))
        ends += [finished.outcome.outcome for finished in executor.poll(0.0)]
    print(json.dumps({"ends": ends, "epochs": hands.epochs}))


if __name__ == "__main__":
    {"ask": ask, "train": train}[sys.argv[1]](*sys.argv[2:])
