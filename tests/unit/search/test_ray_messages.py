"""What passes between a driver and its attempts on a cluster concerns the attempt it was meant for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from test_executors import a_job, run

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_what_a_lost_attempt_still_says_is_not_heard_as_its_successor_s(tmp_path: Path) -> None:
    import ray

    from finscale.runtime.ray_executor import RayExecutor

    heard: list[Mapping[str, Any]] = []
    lost = a_job(tmp_path, behaviour="end its worker")
    with RayExecutor(n_slots=1, n_gpus=0, on_report=lambda number, values: heard.append(values)) as executor:
        assert run(executor, lost)[0].outcome.outcome == "lost"
        heard.clear()
        executor.submit(a_job(tmp_path, epochs=3, seconds_per_epoch=0.1))
        # the first attempt of an executor has the key 0, as this trial has the number 0
        ray.get(executor._mailbox.report.remote(0, {"epoch": 99}))
        while not (ended := executor.poll(0.1)):
            pass
    assert ended[0].outcome.outcome == "complete"
    assert [values["epoch"] for values in heard] == [1, 2, 3]


def test_an_attempt_that_has_ended_can_still_be_told_to_stop(tmp_path: Path) -> None:
    from finscale.runtime.ray_executor import RayExecutor

    with RayExecutor(n_slots=1, n_gpus=0, on_report=lambda number, values: None) as executor:
        run(executor, a_job(tmp_path))
        executor.cancel(0)
        again = run(executor, a_job(tmp_path, number=1))
    assert again[1].outcome.outcome == "complete"
