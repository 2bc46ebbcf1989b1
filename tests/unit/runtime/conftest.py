import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
# children import the toy trials of searches by name
PLACES = [str(HERE), str(HERE.parent / "search")]
sys.path[:0] = PLACES
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*PLACES, os.environ.get("PYTHONPATH", "")]))


HEAD = {"num_cpus": 0, "include_dashboard": False}


@pytest.fixture(params=["memory", "file", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place in a store of each kind."""
    if request.param == "s3":
        return request.getfixturevalue("object_store").new_address()
    if request.param == "memory":
        return f"memory://{tmp_path.as_posix().strip('/')}"
    (tmp_path / "store").mkdir()
    return f"file://{tmp_path}/store"


@pytest.fixture
def cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A simulated cluster, Ray set up as asked, on whose first node, the driver's, nothing is trained."""
    pytest.importorskip("ray", reason="the extra [cluster] is not installed")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.delenv("OPTUNA_STORAGE_URL", raising=False)
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={**HEAD, **getattr(request, "param", {})})
    monkeypatch.setenv("RAY_ADDRESS", made.address)
    yield made
    made.shutdown()
