"""A node is skipped exactly while the content of what it reads is the same."""

import fcntl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node

from finscale.core.errors import Interrupted
from finscale.datasets.atomic import JSONDataset
from finscale.runtime import runner as runner_module
from finscale.runtime.runner import CACHED, ContentRunner
from finscale.runtime.stopping import STOP


class Counted(JSONDataset):
    """A JSON file whose content is its fingerprint."""

    def fingerprint(self) -> str:
        return self._filepath.read_text()


@pytest.fixture
def calls() -> list[str]:
    return []


@pytest.fixture
def run(tmp_path: Path, calls: list[str]):
    source = tmp_path / "source.json"
    source.write_text("1")

    def double(value, factor):
        calls.append("double")
        return value * factor

    def add(value):
        calls.append("add")
        return value + 1

    def show(value):
        calls.append("show")
        return value

    pipeline = Pipeline(
        [
            node(double, ["source", "params:factor"], "doubled", name="double", tags=CACHED),
            node(add, "doubled", "added", name="add", tags=CACHED),
            node(show, "added", "shown", name="show"),
        ]
    )

    def run(factor=2):
        catalog = DataCatalog(
            {
                "source": Counted(filepath=str(source)),
                "doubled": JSONDataset(filepath=str(tmp_path / "doubled.json")),
                "added": JSONDataset(filepath=str(tmp_path / "added.json")),
                "shown": JSONDataset(filepath=str(tmp_path / "shown.json")),
            }
        )
        catalog["params:factor"] = factor
        catalog["params:paths.data"] = str(tmp_path)
        calls.clear()
        ContentRunner().run(pipeline, catalog)
        return catalog.load("shown")

    run.source = source
    run.folder = tmp_path
    return run


def test_nothing_cached_runs_twice_and_the_rest_always_runs(run, calls):
    assert run() == 3
    assert calls == ["double", "add", "show"]
    assert run() == 3
    assert calls == ["show"]


def test_a_changed_parameter_or_source_runs_everything_below_it(run, calls):
    run()
    assert run(factor=3) == 4
    assert calls == ["double", "add", "show"]
    run.source.write_text("5")
    assert run(factor=3) == 16
    assert calls == ["double", "add", "show"]


def test_a_missing_output_is_made_again_and_only_that(run, calls):
    run()
    (run.folder / "added.json").unlink()
    assert run() == 3
    assert calls == ["add", "show"]


def test_changed_code_runs_everything_again(run, calls, monkeypatch):
    run()
    monkeypatch.setattr(runner_module, "code_hash", lambda: "other")
    run()
    assert calls == ["double", "add", "show"]


def test_a_broken_manifest_is_no_reason_to_skip(run, calls):
    run()
    for manifest in (run.folder / ".cache").iterdir():
        manifest.write_text("{")
    run()
    assert calls == ["double", "add", "show"]


def test_a_requested_stop_ends_the_run_between_nodes(run, calls, monkeypatch):
    monkeypatch.setattr(STOP, "requested", lambda: len(calls) == 1)
    with pytest.raises(Interrupted, match="before add"):
        run()
    assert calls == ["double"]


def test_what_two_processes_share_is_made_once_and_the_other_waits_for_it(tmp_path):
    made = []

    def slowly():
        made.append(time.monotonic())
        time.sleep(0.5)
        return 1

    def run():
        catalog = DataCatalog({"shared": JSONDataset(filepath=str(tmp_path / "shared.json"))})
        catalog["params:paths.data"] = str(tmp_path)
        shared = node(slowly, None, "shared", name="slowly", tags=CACHED)
        ContentRunner().run(Pipeline([shared]), catalog)
        assert catalog.load("shared") == 1

    # a lock is held by an open file: two threads exclude each other as two processes do
    with ThreadPoolExecutor(2) as beside:
        list(beside.map(lambda _: run(), range(2)))
    assert len(made) == 1


def test_whoever_waits_for_another_process_can_be_stopped(run, tmp_path, monkeypatch):
    lock = tmp_path / ".cache" / "double.lock"
    lock.parent.mkdir()
    asked = iter([False, True])
    monkeypatch.setattr(STOP, "requested", lambda: next(asked))
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Interrupted, match="Stopped before double"):
            run()
