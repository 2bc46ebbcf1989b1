"""What only a cluster shows: the loss of a worker is no fault of the trial, until it is."""

import itertools
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from ray_driver import executor_of, on_cluster
from search_toys import drive
from test_driver import attempts, outcomes
from test_executors import a_job, run
from toy_trials import is_alive, wait_until

from finscale.core.errors import Fault
from finscale.search import groups
from finscale.search.config import SearchConfig
from finscale.search.driver import SearchEvent
from finscale.search.executors import Executor
from finscale.search.retries import MAX_BATCH_HALVINGS, MAX_LOSSES

pytestmark = pytest.mark.usefixtures("ray_cluster")


def a_ray_executor(*, n_slots: int = 2, **settings: object) -> Executor:
    from finscale.runtime.ray_executor import RayExecutor

    return RayExecutor(n_slots=n_slots, on_report=lambda number, values: None, **{"n_gpus": 0, **settings})


def test_poison_ends_and_memory_that_no_node_has_is_an_oom_with_its_record(tmp_path: Path) -> None:
    events: list[SearchEvent] = []
    config = on_cluster(4, n_workers=2)
    result, study = drive(
        tmp_path,
        config=config,
        behaviours={1: "end its worker", 2: "need more memory than there is"},
        on_event=events.append,
        executor=lambda on_report: executor_of(config, on_report),
    )
    assert result.outcome == "complete"
    assert outcomes(study) == ["complete", "failed", "oom", "complete", "complete", "complete"]
    poison, greedy = study.trials[1].user_attrs, study.trials[2].user_attrs
    assert len(attempts(tmp_path, 1)) == MAX_LOSSES + 1
    assert (poison["n_losses"], poison["n_halvings"]) == (MAX_LOSSES, 0)
    assert f"went away {MAX_LOSSES + 1} times; the last one: WorkerCrashedError" in poison["reason"]
    assert [event.number for event in events if event.kind == "moved"] == [1] * MAX_LOSSES
    assert [line.split()[1] for line in attempts(tmp_path, 2)] == ["128", "64", "32", "16"]
    assert greedy["n_halvings"] == MAX_BATCH_HALVINGS
    assert "MemoryError" in greedy["reason"]


def test_a_lost_attempt_goes_on_from_its_checkpoint_with_its_batch(tmp_path: Path) -> None:
    with a_ray_executor() as executor:
        first = run(executor, a_job(tmp_path, behaviour="end its worker"))[0].outcome
        assert first.outcome == "lost"
        assert not first.is_final
        assert run(executor, a_job(tmp_path))[0].outcome.outcome == "complete"


@pytest.mark.parametrize("n_processes", [1, 2])
def test_an_attempt_that_waits_for_room_can_be_cancelled_without_having_begun(
    tmp_path: Path, n_processes: int
) -> None:
    with a_ray_executor(n_gpus=1, n_processes=n_processes) as executor:
        ended = run(executor, a_job(tmp_path), cancel=True)
    assert ended[0].outcome.outcome == "stopped"
    assert not (tmp_path / "0").exists()
    assert not rooms()


def test_an_attempt_that_begins_as_it_is_cancelled_stops_and_the_next_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_ray_executor() as executor:
        executor.submit(a_job(tmp_path, epochs=2000, seconds_per_epoch=0.01))
        wait_until((tmp_path / "0" / "epoch").exists)
        monkeypatch.setattr(executor, "_exchange", lambda: None)
        executor.cancel(0)
        monkeypatch.undo()
        wait_until(lambda: bool(ended := executor.poll(0.1)) and ended[0].outcome.outcome == "stopped")
        (tmp_path / "0" / "epoch").write_text("1999")
        again = run(executor, a_job(tmp_path, epochs=2000))
    assert again[0].outcome.outcome == "complete"


def test_an_attempt_that_loses_the_worker_of_one_process_is_lost_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "_GRACE_S", 0.3)
    long = {"epochs": 2000, "seconds_per_epoch": 0.05}
    with a_ray_executor(n_processes=2) as executor:
        first = run(executor, a_job(tmp_path, behaviour="end its worker", culprit=1, **long))[0].outcome
        assert (first.outcome, first.reason.partition(":")[0]) == ("lost", "WorkerCrashedError")
        assert not rooms()
        leader = int((tmp_path / "0" / "attempts").read_text().split()[0])
        wait_until(lambda: not is_alive(leader), seconds=10)
        (tmp_path / "0" / "epoch").write_text("1999")
        assert run(executor, a_job(tmp_path, **long))[0].outcome.outcome == "complete"
    assert not rooms()


def test_closing_gives_all_room_back_and_ends_what_runs_in_it(tmp_path: Path) -> None:
    with a_ray_executor(n_processes=2) as executor:
        # room for two
        for number in range(3):
            executor.submit(a_job(tmp_path, number=number, epochs=2000, seconds_per_epoch=0.05))
        wait_until(lambda: executor.poll(0.1) == [] and len(pids(tmp_path)) == 4)
        assert len(rooms()) == 3
    started = pids(tmp_path)
    wait_until(lambda: not any(map(is_alive, started)), seconds=10)
    assert not rooms()


def pids(folder: Path) -> list[int]:
    """Processes of all attempts that have begun; a file may still be empty."""
    begun = (path.read_text().split()[:1] for path in folder.glob("*/[ao][tn]*"))
    return [int(pid) for words in begun for pid in words]


def rooms() -> list[str]:
    """Placement groups that hold resources, or wait for some."""
    import ray

    return [room["state"] for room in ray.util.placement_group_table().values() if room["state"] != "REMOVED"]


def test_attempts_of_two_gpus_fill_a_cluster_over_its_nodes_and_never_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    words = [sys.executable, str(Path(__file__).with_name("ray_gpus.py")), str(tmp_path), "3"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.stdout.split()[-4:] == ["2", *["complete"] * 3], done.stderr
    attempts = [
        [json.loads((tmp_path / f"{number}" / f"rank_{rank}").read_text()) for rank in (0, 1)]
        for number in range(3)
    ]
    # three GPUs on one node and one on the other: of two attempts one lies on both
    for place in itertools.chain(*attempts):
        others = [other for other in itertools.chain(*attempts) if overlap(place, other)]
        devices = Counter(other["CUDA_VISIBLE_DEVICES"] for other in others)
        assert devices <= Counter({"0": 2, "1": 1, "2": 1})
        assert place["LOCAL_RANK"] == "0"
    assert any(overlap(one[0], other[0]) for one, other in itertools.combinations(attempts, 2))


def overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    return one["began_at"] < other["ended_at"] and other["began_at"] < one["ended_at"]


def test_a_cluster_without_room_for_one_attempt_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(Fault, match=r"the Ray cluster must have a node with a CPU and 1 GPUs, got .*CPU"):
        executor_of(SearchConfig(executor="ray", n_gpus=1), lambda number, values: None)
    with pytest.raises(Fault, match=r"have 9 times a node with a CPU and 0 GPUs.*smaller hpo\.n_processes"):
        executor_of(SearchConfig(executor="ray", n_processes=9), lambda number, values: None)


def test_room_is_counted_node_by_node() -> None:
    from finscale.runtime.ray_executor import places_on

    nodes = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 1.0, "GPU": 4.0}, {"memory": 1.0}]
    assert [places_on(node, n_gpus=0) for node in nodes] == [8, 1, 0]
    assert [places_on(node, n_gpus=1) for node in nodes] == [2, 1, 0]
    assert [places_on(node, n_gpus=0.5) for node in nodes] == [4, 1, 0]


def test_room_for_whole_attempts_is_counted_over_all_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    from finscale.runtime import ray_executor

    nodes = [
        {"Alive": alive, "Resources": {"CPU": cpus, "GPU": 2.0}} for cpus, alive in [(3, 1), (4, 1), (8, 0)]
    ]
    monkeypatch.setattr(ray_executor.ray, "nodes", lambda: nodes)
    counted = [ray_executor.n_places(n_gpus=0, n_processes=n) for n in (1, 2, 3, 8)]
    assert counted == [7, 3, 2, 0]
    assert ray_executor.n_places(n_gpus=1, n_processes=4) == 1


def test_what_ray_says_of_a_task_is_typed() -> None:
    from ray import exceptions

    from finscale.runtime.ray_executor import type_ray_error

    said = {
        exceptions.OutOfMemoryError("Task was killed due to the node running low on memory. More"): "oom",
        exceptions.WorkerCrashedError(): "lost",
        exceptions.NodeDiedError("Task failed because the node died. More"): "lost",
        exceptions.TaskCancelledError(): "stopped",
        exceptions.RaySystemError("broken"): "failed",
    }
    typed = {error: type_ray_error(error) for error in said}
    assert {error: outcome.outcome for error, outcome in typed.items()} == said
    assert all(outcome.reason for outcome in typed.values() if outcome.outcome != "stopped")
