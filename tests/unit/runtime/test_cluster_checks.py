"""A node that cannot run our attempts is named before the first of them, with all others and the remedy."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import on_cluster
import psutil
import pytest

import finscale
from finscale.core.errors import Fault
from finscale.runtime import cluster_checks
from finscale.runtime.cluster_checks import Token, faults_of_node, look_around
from finscale.runtime.definition import Paths
from finscale.runtime.preflight import require_workers
from finscale.search.config import SearchConfig
from servers.object_store import SECRET, ObjectStore

RAY = SearchConfig(executor="ray")
# a node that does not answer is not yet a dead one, however slow this machine is
PATIENT = {"_system_config": {"health_check_failure_threshold": 100}}
FOLDER = Token("token", "/data", None)
STORE = Token("token", "/data", "s3://bucket/prefix")
SEEN = {
    "python": "3.11",
    "torch": "2.13.0",
    "finscale": "abc",
    "data": "",
    "free_disk_gib": 50.0,
    "free_memory_gib": 8.0,
}


@pytest.mark.parametrize(
    ("differs", "told"),
    [
        ({"python": "3.12"}, r"run Python 3\.11 as this machine does, got Python 3\.12; install the same"),
        ({"torch": "2.9.0"}, r"run PyTorch 2\.13\.0 .*got PyTorch 2\.9\.0"),
        ({"finscale": "abd"}, r"run the code of finscale abc .*got the code of finscale abd"),
        ({"data": "another folder"}, r"find what .*paths\.data=/data, got another folder; mount one folder"),
        ({"free_disk_gib": 0.5}, r"have 1 GiB of free disk, got 0\.50 GiB; make room in /data"),
        ({"free_memory_gib": 0.25}, r"have 1 GiB of free memory, got 0\.25 GiB; end other programs"),
    ],
)
def test_what_differs_on_a_node_is_told_with_its_remedy(differs: dict[str, Any], told: str) -> None:
    assert faults_of_node("node n", SEEN, SEEN, FOLDER) == []
    (fault,) = faults_of_node("node n", {**SEEN, **differs}, SEEN, FOLDER)
    with pytest.raises(Fault, match=rf"^node n must {told}"):
        raise fault


def test_all_that_differs_on_a_node_is_told() -> None:
    found = {**SEEN, "python": "3.12", "data": "another store", "free_disk_gib": None}
    faults = faults_of_node("node n", found, SEEN, STORE)
    assert len(faults) == 2
    assert "paths.shared=s3://bucket/prefix" in str(faults[1])


def test_a_token_is_found_where_it_was_written_and_nowhere_else(address: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for shared, elsewhere in ((None, None), (address, f"{address}/other")):
        token = Token("token", str(tmp_path), shared)
        assert token.read() != ""
        token.write()
        assert token.read() == ""
        assert Token("token", str(tmp_path / "other"), elsewhere).read() != ""
        token.delete()
        assert token.read() != ""


def test_this_machine_agrees_with_itself(tmp_path: Path) -> None:
    token = Token("token", str(tmp_path), None)
    token.write()
    found = look_around(token)
    assert found.keys() == SEEN.keys()
    assert faults_of_node("node n", found, found, token) == []


def with_changed_code(folder: Path) -> dict[str, str]:
    """What a node must have in its environment to import a finscale of its own."""
    copy = folder / "src" / "finscale"
    shutil.copytree(Path(finscale.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "__init__.py").open("a") as file:
        file.write("\n# another version\n")
    return {"PYTHONPATH": str(copy.parent)}


def answers_of(data: Path, shared: str = "", *, answer_s: float = 30.0) -> list[str]:
    """What a driver in a process of its own is told of the cluster."""
    words = [sys.executable, on_cluster.__file__, "ask", str(data), shared, str(answer_s)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("cluster", [PATIENT], indirect=True, ids=["patient"])
def test_every_node_is_asked_and_the_ones_that_differ_or_are_silent_are_named(
    object_store: ObjectStore, cluster: Any, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    (found,) = answers_of(data, object_store.new_address())
    assert "can be written and read; 2 nodes that answer and agree; studies in files" in found
    changed = cluster.add_node(num_cpus=1, env_vars=with_changed_code(tmp_path))
    silent = cluster.add_node(num_cpus=1)
    raylet = psutil.Process(silent.all_processes["raylet"][0].process.pid)
    raylet.send_signal(signal.SIGSTOP)
    try:
        lines = answers_of(data, answer_s=20.0)
    finally:
        raylet.send_signal(signal.SIGCONT)
    assert len(lines) == 2
    assert any(changed.node_id[:8] in line and "must run the code of finscale" in line for line in lines)
    assert any(silent.node_id[:8] in line and "must answer within 20 s" in line for line in lines)
    assert list(data.iterdir()) == []


def test_a_cluster_that_would_only_be_started_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("OPTUNA_STORAGE_URL", raising=False)
    monkeypatch.setattr(cluster_checks, "require_nodes", None)
    (tmp_path / "store").mkdir()
    found = require_workers(RAY, Paths(data=str(tmp_path), shared=f"file://{tmp_path}/store"))
    assert "which will be started" in found
    assert "can be written and read" in found


def test_a_store_that_is_not_there_stops_a_search_before_it_begins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(Fault, match=r"paths\.shared must answer, got file:///absent"):
        require_workers(RAY, Paths(data=str(tmp_path), shared="file:///absent"))
