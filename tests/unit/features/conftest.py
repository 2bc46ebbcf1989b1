"""Real bars, validated once."""

import arch.data.sp500
import pandas as pd
import pytest

from finscale.features.bars import validate_bars


@pytest.fixture(scope="session")
def sp500() -> pd.DataFrame:
    return validate_bars(arch.data.sp500.load().rename(columns=str.lower), name="sp500")
