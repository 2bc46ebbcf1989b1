"""The table of timescales and the word for one agree."""

from typing import get_args

import pytest

from finscale.features.timescales import TIMESCALES, Timescale


def test_every_timescale_has_one_row() -> None:
    assert tuple(TIMESCALES) == get_args(Timescale)


@pytest.mark.parametrize("timescale", TIMESCALES)
def test_a_bar_is_counted_or_a_period_or_intraday(timescale: Timescale) -> None:
    row = TIMESCALES[timescale]
    ways = [row.n_sessions is not None, row.period is not None, timescale == "intraday"]
    assert sum(ways) == 1
