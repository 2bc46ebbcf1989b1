"""The data card says what the bars are."""

import json
from typing import Any

import numpy as np
import pandas as pd

from finscale.core.hashing import content_hash
from finscale.features.bars import PRICES
from finscale.features.data_card import DataCard, data_card
from finscale.features.prepare import prepare_bars

ORIGIN: dict[str, Any] = {"source": "file", "symbol": "x", "adjustments": "none"}


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
    said_twice = data_card(
        sp500, source="simulated", symbol="SIMULATED garch", adjustments="none", simulated=True
    )
    assert said_twice.line().startswith("SIMULATED garch")
    assert "x" in card.line().split("; ")


def card_of(bars: pd.DataFrame, **settings: Any) -> DataCard:
    """The card as the pipeline writes it."""
    bars.attrs = {**ORIGIN, **bars.attrs}
    found = prepare_bars(bars, name="x", **settings)
    return data_card(found, **{str(key): value for key, value in found.attrs.items()})


def intraday() -> pd.DataFrame:
    opened_at = pd.DatetimeIndex(
        [
            *pd.date_range("2020-03-05 22:00", periods=288, freq="5min", tz="UTC"),
            *pd.date_range("2020-03-06 22:00", periods=24, freq="5min", tz="UTC"),
        ],
        name="opened_at",
    )
    bars = pd.DataFrame(dict.fromkeys(PRICES, 1.0), index=opened_at)
    bars.attrs = {"sessions": {"bars_per_session": 288, "opens_at": "17:00", "timezone": "America/New_York"}}
    return bars


def test_a_card_of_longer_bars_names_the_timescale(sp500: pd.DataFrame) -> None:
    card = card_of(sp500, timescale="weekly")
    assert card.timescale == "weekly"
    assert "1999-01-08 to 2018-12-28, 1043 weekly bars; " in card.line()
    assert "1 session belongs to no whole weekly bar: left out" in card.line()


def test_a_card_of_intraday_bars_says_interval_and_sessions() -> None:
    card = card_of(intraday(), timescale="intraday")
    assert (card.bar_interval_s, card.n_rows, card.n_sessions) == (300, 312, 2)
    assert (card.first_session, card.last_session) == ("2020-03-06", "2020-03-07")
    expected = "312 bars of 5 minutes in 2 sessions, at most 288 a session from 17:00 America/New_York; "
    assert expected in card.line()


def test_a_card_of_a_panel_names_its_instruments(sp500: pd.DataFrame) -> None:
    members = {f"I{k}": sp500.iloc[250 - 50 * k : 300 - 10 * k] for k in range(6)}
    panel = pd.concat(members, names=["instrument", "session"])
    card = card_of(panel)
    assert card.instruments == tuple(members)
    assert (card.first_session, card.last_session) == ("1999-01-04", str(sp500.index[299].date()))
    assert (card.n_rows, card.n_sessions) == (900, 300)
    assert "6 instruments (I0, I1, I2, I3, I4, ...), 900 daily bars; " in card.line()
    assert "3 instruments (I0, I1, I2), 270 daily bars; " in card_of(panel.loc[["I0", "I1", "I2"]]).line()


def test_the_hash_of_a_panel_knows_instruments_times_and_numbers(sp500: pd.DataFrame) -> None:
    def panel(**members: pd.DataFrame) -> pd.DataFrame:
        return pd.concat(members, names=["instrument", "session"])

    first, second = sp500.iloc[:9], sp500.iloc[9:18]
    later = first.set_axis(first.index + pd.Timedelta(days=1))
    changed = first.assign(close=first["close"] * np.where(np.arange(9) == 4, 1.0000001, 1))
    tables = [
        panel(A=first, B=second),
        panel(A=first, C=second),
        panel(B=second, A=first),
        panel(A=later, B=second),
        panel(A=changed, B=second),
        panel(A=first.drop(columns="volume"), B=second.drop(columns="volume")),
    ]
    hashes = [data_card(table, **ORIGIN).content_hash for table in tables]
    assert len(set(hashes)) == len(tables)
    assert hashes[0] == data_card(panel(A=first, B=second), **ORIGIN).content_hash


def test_warnings_stand_before_everything_but_simulated(sp500: pd.DataFrame) -> None:
    told = {**ORIGIN, "warnings": ["odd prices", "odder ones"]}
    assert (
        data_card(sp500, **told)
        .line()
        .startswith("WARNING: odd prices; WARNING: odder ones; x (source file)")
    )
    simulated = data_card(sp500, simulated=True, **told).line()
    assert simulated.startswith("SIMULATED WARNING: odd prices; ")


def test_a_card_of_a_series_counts_rows_and_calendar_days() -> None:
    times = pd.date_range("2016-07-01", periods=30, freq="h", name="session")
    table = pd.DataFrame({"oil": np.arange(30.0)}, index=times)
    table.attrs = {"kind": "series"}
    card = card_of(table)
    assert (card.kind, card.n_rows, card.n_sessions) == ("series", 30, 2)
    assert "2016-07-01 to 2016-07-02, 30 rows; " in card.line()


def test_a_card_and_what_it_is_made_of_survive_json() -> None:
    bars = intraday()
    card = card_of(bars, timescale="intraday")
    assert DataCard.model_validate(json.loads(json.dumps(card.model_dump(mode="json")))) == card
    told = prepare_bars(bars, name="x", timescale="intraday").attrs
    assert json.loads(json.dumps(told)) == told
