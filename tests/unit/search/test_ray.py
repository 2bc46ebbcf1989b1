"""What only a cluster shows: the loss of a worker is no fault of the trial, until it is."""

from pathlib import Path

import pytest
from ray_driver import executor_of, on_cluster
from search_toys import drive
from test_driver import attempts, outcomes
from test_executors import a_job, run

from finscale.core.errors import Fault
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


def test_an_attempt_that_waits_for_room_can_be_cancelled_without_having_begun(tmp_path: Path) -> None:
    with a_ray_executor(n_gpus=1) as executor:
        ended = run(executor, a_job(tmp_path), cancel=True)
    assert ended[0].outcome.outcome == "stopped"
    assert not (tmp_path / "0").exists()


def test_a_cluster_without_room_for_one_attempt_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(Fault, match=r"the Ray cluster must have a node with a CPU and 1 GPUs, got .*CPU"):
        executor_of(SearchConfig(executor="ray", n_gpus=1), lambda number, values: None)


def test_room_is_counted_node_by_node() -> None:
    from finscale.runtime.ray_executor import places_on

    nodes = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 1.0, "GPU": 4.0}, {"memory": 1.0}]
    assert [places_on(node, n_gpus=0) for node in nodes] == [8, 1, 0]
    assert [places_on(node, n_gpus=1) for node in nodes] == [2, 1, 0]
    assert [places_on(node, n_gpus=0.5) for node in nodes] == [4, 1, 0]


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
