"""Commands on a cluster with a database and a store: nothing that they leave or print holds a secret."""

from pathlib import Path
from typing import Any

import pytest

from finscale.search.database import VARIABLE
from servers.object_store import SECRET, ObjectStore
from servers.postgres import PASSWORD, Server

CELL = "budget=5K,horizon=1"
IN_VARIABLES = {"MLFLOW_TRACKING_PASSWORD": "staple-battery-horse", "HF_TOKEN": "horse-staple-correct"}
SECRETS = (PASSWORD, SECRET, *IN_VARIABLES.values())


def holding(folder: Path, secret: str) -> list[str]:
    """Files that hold a secret, those of databases and trackers included."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [str(path.relative_to(folder)) for path in files if secret.encode() in path.read_bytes()]


def test_a_search_on_a_cluster_with_a_database_and_a_store_leaves_and_prints_no_secret(
    project: Any, postgres: Server, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="the extra [cluster] is not installed")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name, secret in IN_VARIABLES.items():
        monkeypatch.setenv(name, secret)
    shared = object_store.new_address()
    with (project.folder / "conf/test/globals.yml").open("a") as conf:
        conf.write(f"  shared: {shared}\n")
    asked = f"{CELL},hpo.executor=ray,hpo.n_workers=2"
    done = project.kedro("run", "--env", "test", "--pipelines", "hpo", "--params", asked)
    assert done.code == 0, done.out
    assert "RAY_ADDRESS is not set: starting a local Ray cluster" in done.out
    (folder,) = (project.folder / "data").rglob("06_models/hpo/*/5K_h1")
    assert {"study.json", "best_params.json", "trials.parquet"} <= {path.name for path in folder.iterdir()}
    assert not (folder / "study.db").exists()
    assert postgres.execute("SELECT state, count(*) FROM trials GROUP BY 1", "studies") == [("COMPLETE", 3)]
    again = project.kedro(
        "run", "--env", "test", "--pipelines", "hpo", "--params", f"{CELL},hpo.dry_run=true"
    )
    assert again.code == 0, again.out
    catalog = project.kedro("catalog", "describe-datasets", "--env", "test")
    assert "study" in catalog.out
    assert (project.folder / "mlflow.db").exists()
    stored = object_store.contents(shared)
    assert stored
    for secret in SECRETS:
        assert secret not in done.out + again.out + catalog.out
        assert holding(project.folder, secret) == []
        assert not [name for name, content in stored.items() if secret.encode() in content]


def test_a_wrong_password_ends_the_command_before_anything_is_written(
    project: Any, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, postgres.url(password=f"{PASSWORD}-not"))
    done = project.kedro("run", "--env", "test", "--pipelines", "hpo", "--params", CELL)
    assert done.code == 1
    assert "password authentication failed" in " ".join(done.out.split())
    assert PASSWORD not in done.out
    assert "Traceback" not in done.out
    assert list((project.folder / "data").rglob("*.parquet")) == []


def test_an_absent_cluster_ends_the_command_before_anything_is_written(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="the extra [cluster] is not installed")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    done = project.kedro("run", "--env", "cluster", "--pipelines", "hpo", "--params", CELL)
    assert done.code == 1
    assert "RAY_ADDRESS must be host:port of a running Ray cluster" in " ".join(done.out.split())
    assert "Traceback" not in done.out
    assert list((project.folder / "data").rglob("*.parquet")) == []
