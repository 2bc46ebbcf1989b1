"""A cluster of two nodes and a database, in which everything is killed once: the study ends whole."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray_driver
from optuna.trial import TrialState
from test_chaos import n_outcomes, pids, running
from toy_trials import is_alive, wait_until, worker_of

from finscale.search.study import load_study
from servers.postgres import PASSWORD, Server

N_TRIALS = 16
AWAY_S = 20


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes, simulated on this machine; the driver's is the first."""
    pytest.importorskip("ray", reason="the extra [cluster] is not installed")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    made.add_node(num_cpus=2)
    monkeypatch.setenv("RAY_ADDRESS", made.address)
    yield made
    made.shutdown()


@contextmanager
def a_driver(directory: Path, log: Path) -> Iterator[subprocess.Popen]:
    words = [sys.executable, ray_driver.__file__, str(directory), str(N_TRIALS)]
    with log.open("a") as said, subprocess.Popen(words, stderr=said) as driver:
        try:
            yield driver
        finally:
            driver.kill()
            driver.wait()


def raylet_of(node: Any) -> int:
    return node.all_processes["raylet"][0].process.pid


def attempt_on(directory: Path, node: Any) -> list[int]:
    """Numbers of trials that run on a node now."""
    found = []
    for number in running(directory):
        try:
            parents = psutil.Process(pids(directory, number)[-1]).parents()
        except psutil.NoSuchProcess:
            continue
        found += [number] * (raylet_of(node) in [parent.pid for parent in parents])
    return found


def living(directory: Path) -> list[int]:
    return [number for number in running(directory) if is_alive(pids(directory, number)[-1])]


def test_a_search_on_a_cluster_survives_the_loss_of_everything_once(
    tmp_path: Path, cluster: Any, postgres: Server
) -> None:
    directory, log = tmp_path / "study", tmp_path / "log"
    (second,) = cluster.worker_nodes

    def until(happened: Callable[[], object]) -> None:
        wait_until(lambda: bool(happened()), seconds=120)

    def said(text: str) -> bool:
        return text in log.read_text()

    with a_driver(directory, log) as driver:
        # a trial's process, as the kernel's memory killer would
        until(lambda: n_outcomes(directory) >= 1 and living(directory))
        victim = living(directory)[0]
        os.kill(pids(directory, victim)[-1], signal.SIGKILL)
        until(lambda: said(f"Trial {victim} ran out of memory"))
        # the worker that watches over one
        until(lambda: [number for number in living(directory) if number != victim])
        orphan = next(number for number in living(directory) if number != victim)
        worker_of(pids(directory, orphan)[-1]).kill()
        until(lambda: said(f"Trial {orphan} lost its worker: WorkerCrashedError"))
        # a whole node
        until(lambda: attempt_on(directory, second))
        cluster.remove_node(second)
        until(lambda: said("lost its worker: NodeDiedError") or log.read_text().count("lost its worker") > 1)
        # the database
        postgres.stop()
        time.sleep(AWAY_S)
        postgres.start()
        until(lambda: said("database is back after"))
        # the driver
        until(lambda: living(directory) and n_outcomes(directory) < N_TRIALS - 2)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    left = [trial.number for trial in load_study(directory).trials if trial.state == TrialState.RUNNING]
    assert left
    with a_driver(directory, log) as driver:
        until(lambda: driver.poll() is not None)
        assert driver.returncode == 0

    trials = load_study(directory).trials
    assert [trial.number for trial in trials] == list(range(N_TRIALS))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert {trial.user_attrs["outcome"] for trial in trials} == {"complete"}
    assert n_outcomes(directory) == N_TRIALS
    assert trials[victim].user_attrs["n_halvings"] == 1
    assert trials[orphan].user_attrs["n_losses"] >= 1
    once = Counter(len(pids(directory, number)) for number in range(N_TRIALS))[1]
    assert once >= N_TRIALS - 9
    lines = log.read_text()
    assert lines.count("database does not answer") == lines.count("database is back after") == 1
    assert all(lines.count(f"Trial {number} was left by an earlier driver") == 1 for number in left)
    assert PASSWORD not in lines
