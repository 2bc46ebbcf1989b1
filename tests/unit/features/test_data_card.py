"""The data card says what the bars are."""

import pandas as pd

from finscale.core.hashing import content_hash
from finscale.features.data_card import data_card


def test_card_states_span_rows_and_content(sp500: pd.DataFrame) -> None:
    card = data_card(sp500, source="arch", symbol="sp500", adjustments="none", notes=["opens are stale"])
    assert (card.first_session, card.last_session, card.n_rows) == ("1999-01-04", "2018-12-31", 5031)
    assert card.content_hash == content_hash(sp500)
    line = card.line()
    for fact in (
        "sp500 (source arch)",
        "5031 sessions",
        "prices: none",
        "nothing repaired",
        "opens are stale",
    ):
        assert fact in line
    assert "SIMULATED" not in line


def test_simulated_bars_are_called_so(sp500: pd.DataFrame) -> None:
    card = data_card(
        sp500, source="simulated", symbol="garch", adjustments="none", simulated=True, repairs=["x"]
    )
    assert card.line().startswith("SIMULATED garch")
    assert "x" in card.line().split("; ")
