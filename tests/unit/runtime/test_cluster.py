"""What a cluster needs is known in seconds, and a laptop never imports it."""

import importlib.util
import signal
import subprocess
import sys
import time

import pytest

from finscale.core.errors import Fault, FinscaleError
from finscale.runtime import cluster
from finscale.runtime.cluster import require_cluster
from finscale.search.config import SearchConfig

RAY = SearchConfig(executor="ray")
LAPTOP = """
import sys
import finscale.runtime.cluster, finscale.runtime.sweep, finscale.pipeline_registry
from finscale.pipelines.hpo import create_pipeline
from finscale.search.config import SearchConfig
from finscale.search.database import require_database
finscale.runtime.cluster.require_cluster(SearchConfig())
require_database()
create_pipeline()
for executor in ("inline", "process"):
    finscale.runtime.cluster.make_executor(
        SearchConfig(executor=executor), on_report=print, should_stop=bool, should_pause=bool
    )
print([name for name in ("ray", "psycopg") if name in sys.modules])
"""


def test_a_laptop_imports_neither_ray_nor_psycopg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPTUNA_STORAGE_URL", raising=False)
    done = subprocess.run([sys.executable, "-c", LAPTOP], capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_without_the_extra_the_environment_of_clusters_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else found(name))
    with pytest.raises(Fault, match=r"hpo\.executor .* got 'ray'; .*pip install 'finscale\[cluster\]'"):
        require_cluster(RAY)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "absent.invalid:6379", "127.0.0.1", "ray://127.0.0.1:10001"]
)
def test_an_address_where_no_cluster_is_is_told_in_seconds_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", address)
    started = time.monotonic()
    with pytest.raises(Fault, match=rf"RAY_ADDRESS must be host:port .*{address}.*ray start --head.*unset"):
        require_cluster(RAY)
    assert time.monotonic() - started < 12


def test_without_an_address_a_local_cluster_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert "a local Ray cluster, which will be started" in require_cluster(RAY)


def test_gpus_are_claimed_on_a_cluster_alone() -> None:
    with pytest.raises(FinscaleError, match=r"hpo\.n_gpus must be 0 where hpo\.executor is not ray, got 1"):
        SearchConfig.read({"n_gpus": 1}, subject="hpo")
    assert SearchConfig(executor="ray", n_gpus=0.5).n_slots is None


def test_ray_leaves_the_signal_that_saves_to_us(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr("finscale.runtime.ray_executor.n_places", lambda **_: 1)
    monkeypatch.setattr(cluster, "_join", lambda _: signal.signal(signal.SIGTERM, lambda *_: None))
    before = signal.getsignal(signal.SIGTERM)

    def save(*_: object) -> None: ...

    try:
        signal.signal(signal.SIGTERM, save)
        cluster.connect(RAY)
        assert signal.getsignal(signal.SIGTERM) is save
    finally:
        signal.signal(signal.SIGTERM, before)
