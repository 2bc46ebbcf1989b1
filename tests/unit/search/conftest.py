import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

HERE = str(Path(__file__).parent)
# children import the toy trials by name
sys.path.insert(0, HERE)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH", "")]))


@pytest.fixture(scope="session")
def grid() -> pd.DataFrame:
    from search_toys import toy_grid

    return toy_grid()


@pytest.fixture(scope="session")
def rows() -> pd.DataFrame:
    from search_cells import few_rows

    return few_rows()


@pytest.fixture(scope="session")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from search_cells import write_windows

    directory = tmp_path_factory.mktemp("windows")
    write_windows(directory)
    return directory


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local cluster with room for two attempts of two processes, to which the tests' is connected."""
    ray = pytest.importorskip("ray", reason="the extra [cluster] is not installed")
    from finscale.runtime.cluster import connect
    from finscale.search.config import SearchConfig

    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("RAY_ADDRESS", raising=False)
        connect(SearchConfig(executor="ray", n_workers=2, n_processes=2))
    yield
    ray.shutdown()
