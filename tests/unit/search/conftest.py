import os
import sys
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
