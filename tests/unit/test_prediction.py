"""A finished run scores bars by itself: what it recorded comes out again, and new bars are answered."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import finscale
from finscale.core.errors import FinscaleError
from finscale.models.config import TransformerConfig
from finscale.training.evaluate import EVALUATED_SPLITS
from finscale.windows.origins import ORIGIN
from finscale.windows.view import WindowView

SCRIPT = """
import sys
import pandas as pd
import finscale
assert "torch" not in sys.modules and "pandas" in sys.modules
bars, run, out = sys.argv[1:]
finscale.predict(run, pd.read_parquet(bars)).to_parquet(out)
"""
ENCODER = TransformerConfig(d_model=8, n_layers=1, n_heads=2, d_ff=16, causal=False, conv_taps=0, dropout=0.1)


def recorded_and_said(run: Any, said: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The recorded rows, and what was said at the same origins, in the columns they share."""
    shared = [name for name in said.columns if name in run.recorded and name not in ORIGIN]
    joined = run.recorded[[*ORIGIN]].merge(said, on=list(ORIGIN), how="left")
    return run.recorded[shared], joined[shared]


def more_bars(bars: pd.DataFrame, n: int) -> pd.DataFrame:
    """The bars, and n later ones."""
    times = pd.bdate_range(bars.index[-1], periods=n + 1, name=bars.index.name)[1:]
    later = bars.iloc[-n:].set_axis(times)
    return pd.concat([bars, later])


def test_a_clean_process_repeats_the_recorded_forecasts_bit_for_bit(daily_run: Any, tmp_path: Path) -> None:
    daily_run.bars.to_parquet(tmp_path / "bars.parquet")
    files = [str(tmp_path / "bars.parquet"), str(daily_run.folder), str(tmp_path / "said.parquet")]
    subprocess.run([sys.executable, "-c", SCRIPT, *files], check=True, timeout=120)
    recorded, said = recorded_and_said(daily_run, pd.read_parquet(tmp_path / "said.parquet"))
    assert list(said.columns) == ["probability"]
    pd.testing.assert_frame_equal(said, recorded, check_exact=True)


@pytest.mark.parametrize("n", [1, 7, 30])
def test_the_newest_bar_is_answered_and_no_earlier_answer_changes(daily_run: Any, n: int) -> None:
    bars = more_bars(daily_run.bars, n)
    said, before = (
        finscale.predict(daily_run.folder, bars),
        finscale.predict(daily_run.folder, daily_run.bars),
    )
    assert said["at"].iloc[-1] == bars.index[-1]
    assert len(said) == len(before) + n
    pd.testing.assert_frame_equal(said.iloc[: len(before)], before, check_exact=True)


def test_every_bar_with_a_whole_context_after_the_warm_up_is_an_origin(daily_run: Any) -> None:
    said = finscale.predict(daily_run.folder, daily_run.bars)
    n_warm_up = len(daily_run.bars) - len(daily_run.data.dates)
    assert said["at"].tolist() == daily_run.bars.index[n_warm_up + 20 - 1 :].tolist()


def test_times_in_a_column_are_as_good_as_in_the_index(daily_run: Any) -> None:
    said = finscale.predict(daily_run.folder, daily_run.bars)
    pd.testing.assert_frame_equal(finscale.predict(daily_run.folder, daily_run.bars.reset_index()), said)
    as_text = daily_run.bars.reset_index().assign(session=daily_run.bars.index.strftime("%Y-%m-%d"))
    pd.testing.assert_frame_equal(finscale.predict(str(daily_run.folder), as_text), said)
    pd.testing.assert_frame_equal(finscale.predict(daily_run.folder, daily_run.bars.rename_axis("day")), said)


@pytest.mark.parametrize(
    ("task", "columns"),
    [
        ("regression", ["prediction"]),
        ("quantile", ["q10", "q50", "q10_h1", "q50_h1"]),
        ("forecast", ["rsi_14_1", "rsi_14_2", "return_5_1", "return_5_2"]),
    ],
)
def test_a_task_is_answered_in_the_columns_of_its_test_table(
    finish_run: Callable[..., Any], daily_bars: pd.DataFrame, task: str, columns: list[str]
) -> None:
    options: dict[str, Any] = {
        "regression": {},
        "quantile": {"horizons": (1, 2), "quantile_levels": (0.1, 0.5)},
        "forecast": {"target_columns": ("rsi_14", "return_5")},
    }[task]
    run = finish_run(daily_bars, task=task, horizon=2, allow_few_positives=False, **options)
    said = finscale.predict(run.folder, daily_bars)
    assert list(said.columns) == [*ORIGIN, *columns]
    recorded, same = recorded_and_said(run, said)
    pd.testing.assert_frame_equal(same, recorded, check_exact=True)


def test_a_forecast_has_the_errors_that_were_recorded(
    finish_run: Callable[..., Any], daily_bars: pd.DataFrame
) -> None:
    run = finish_run(daily_bars, task="forecast", horizon=3, allow_few_positives=False)
    said = finscale.predict(run.folder, daily_bars).set_index("at")
    rows = run.data.origins["test"]
    shown = said.loc[run.data.dates[rows]]
    errors = [
        np.square(shown[f"{name}_{step}"].to_numpy() - run.data.values[rows + step, place])
        for place, name in enumerate(run.data.spec.features)
        for step in (1, 2, 3)
    ]
    expected = run.recorded.loc[run.recorded["split"] == "test", "squared_error"]
    np.testing.assert_allclose(np.mean(errors, axis=0), expected, rtol=1e-12)


def test_origins_with_part_of_a_context_are_answered_as_they_were_recorded(
    finish_run: Callable[..., Any], daily_bars: pd.DataFrame
) -> None:
    run = finish_run(daily_bars, model=ENCODER, min_context_length=5)
    said = finscale.predict(run.folder, daily_bars)
    assert len(said) == len(run.data.dates) - 4
    recorded, same = recorded_and_said(run, said)
    pd.testing.assert_frame_equal(same, recorded, check_exact=True)


def test_a_weekly_run_takes_daily_bars(finish_run: Callable[..., Any], daily_bars: pd.DataFrame) -> None:
    run = finish_run(daily_bars, timescale="weekly", context_length=10)
    recorded, said = recorded_and_said(run, finscale.predict(run.folder, daily_bars))
    assert len(recorded) > 10
    pd.testing.assert_frame_equal(said, recorded, check_exact=True)


def test_the_start_of_the_run_is_kept(finish_run: Callable[..., Any], daily_bars: pd.DataFrame) -> None:
    run = finish_run(daily_bars, start="2015-06-01", features=("return_5", "rsi_14"))
    said = finscale.predict(run.folder, daily_bars)
    assert said["at"].min() > pd.Timestamp("2015-06-01")
    recorded, same = recorded_and_said(run, said)
    pd.testing.assert_frame_equal(same, recorded, check_exact=True)


def test_a_panel_is_answered_instrument_by_instrument(
    finish_run: Callable[..., Any], daily_bars: pd.DataFrame
) -> None:
    panel = pd.concat({"A": daily_bars, "B": daily_bars.iloc[::-1].set_axis(daily_bars.index)})
    panel.index.names = ["instrument", "session"]
    run = finish_run(panel)
    said = finscale.predict(run.folder, panel.reset_index())
    assert said["instrument"].unique().tolist() == ["A", "B"]
    others = finscale.predict(run.folder, panel.rename(index={"A": "new"}, level="instrument"))
    assert others["instrument"].unique().tolist() == ["new", "B"]
    assert others["probability"].tolist() == said["probability"].tolist()
    recorded, same = recorded_and_said(run, said)
    pd.testing.assert_frame_equal(same, recorded, check_exact=True)


def test_an_intraday_run_knows_its_sessions(finish_run: Callable[..., Any]) -> None:
    days = pd.bdate_range("2015-01-05", periods=120).repeat(8)
    opened_at = days + pd.Timedelta("14h30min") + pd.to_timedelta(np.tile(np.arange(8), 120), unit="h")
    close = 100 * np.exp(np.random.default_rng(3).normal(0, 0.004, 960).cumsum())
    prices = {"open": close, "high": close * 1.001, "low": close * 0.999, "close": close}
    bars = pd.DataFrame(prices, index=opened_at.tz_localize("UTC").rename("opened_at"))
    bars.attrs["sessions"] = {"bars_per_session": 8, "opens_at": "14:30", "timezone": "UTC"}
    run = finish_run(bars, timescale="intraday")
    bare = bars.reset_index().assign(opened_at=opened_at)
    bare.attrs = {}
    recorded, said = recorded_and_said(run, finscale.predict(run.folder, bare))
    pd.testing.assert_frame_equal(said, recorded, check_exact=True)
    daily = bars.groupby(bars.index.tz_localize(None).normalize()).last().rename_axis("session")
    with pytest.raises(FinscaleError, match="bars must be intraday like those of the run, got 'daily'"):
        finscale.predict(run.folder, daily)
    with pytest.raises(FinscaleError, match="every 0 days 01:00:00, got every 0 days 02:00:00"):
        finscale.predict(run.folder, bare.iloc[::2])


MISTAKES: dict[str, tuple[Callable[[pd.DataFrame], Any], str]] = {
    "a missing column": (lambda bars: bars.drop(columns="high"), r"bars\.high must be a column"),
    "too few for the features": (lambda bars: bars.iloc[:10], "have more rows than the warm-up of"),
    "too few for a context": (
        lambda bars: bars.iloc[:25],
        "bars must have 20 bars in a row after the warm-up",
    ),
    "weekly bars": (lambda bars: bars.iloc[::5], "every 1 days 00:00:00, got every 7 days"),
    "times of day": (lambda bars: bars.set_axis(bars.index + pd.Timedelta("9h")), r"bars\.session must"),
    "no times": (lambda bars: bars.reset_index(drop=True), "bars.session must be dates in the index"),
    "garbled times": (lambda bars: bars.reset_index().assign(session="soon"), "bars.session must hold dates"),
    "instants": (
        lambda bars: bars.set_axis(bars.index.tz_localize("UTC").rename("opened_at")),
        "bars must be daily like those of the run, got 'intraday'",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_bars_that_the_run_cannot_read_are_refused(daily_run: Any, mistake: str) -> None:
    spoil, message = MISTAKES[mistake]
    with pytest.raises(FinscaleError, match=message):
        finscale.predict(daily_run.folder, spoil(daily_run.bars))


@pytest.mark.parametrize("name", ["best.safetensors", "inputs.json", "run_spec.json", "result.json"])
def test_a_folder_without_one_of_its_files_is_refused_by_name(
    daily_run: Any, tmp_path: Path, name: str
) -> None:
    folder = shutil.copytree(daily_run.folder, tmp_path / "run")
    (folder / name).unlink()
    with pytest.raises(
        FinscaleError, match=f"be the folder of a finished training, got no {name}|'no {name}'"
    ):
        finscale.predict(folder, daily_run.bars)


def test_inputs_of_other_windows_and_unknown_devices_are_refused(
    daily_run: Any, finish_run: Callable[..., Any], tmp_path: Path
) -> None:
    other = finish_run(daily_run.bars, horizon=2)
    folder = shutil.copytree(daily_run.folder, tmp_path / "run")
    shutil.copy(other.folder / "inputs.json", folder / "inputs.json")
    with pytest.raises(FinscaleError, match=r"run_spec\.horizon must be that of the windows"):
        finscale.predict(folder, daily_run.bars)
    with pytest.raises(FinscaleError, match="device must be"):
        finscale.predict(daily_run.folder, daily_run.bars, device="gpu")


def test_dropout_gives_a_mean_and_a_spread_that_a_seed_repeats(daily_run: Any) -> None:
    ask = {"n_samples": 30, "seed": 5}
    said = finscale.predict_with_dropout(daily_run.folder, daily_run.bars, **ask)
    assert list(said.columns) == [*ORIGIN, "probability", "probability_spread"]
    assert (said["probability_spread"] > 0).all()
    pd.testing.assert_frame_equal(
        finscale.predict_with_dropout(daily_run.folder, daily_run.bars, **ask), said, check_exact=True
    )
    other = finscale.predict_with_dropout(daily_run.folder, daily_run.bars, n_samples=30, seed=6)
    assert (other["probability"] != said["probability"]).all()
    plain = finscale.predict(daily_run.folder, daily_run.bars)["probability"]
    error = said["probability_spread"].mean() / np.sqrt(30)
    assert abs((said["probability"] - plain).mean()) < 10 * error


def test_sampling_without_dropout_or_with_one_pass_is_refused(
    daily_run: Any, finish_run: Callable[..., Any]
) -> None:
    dry = finish_run(daily_run.bars, model=ENCODER.model_copy(update={"dropout": 0.0}))
    with pytest.raises(FinscaleError, match=r"model\.dropout must be above 0"):
        finscale.predict_with_dropout(dry.folder, daily_run.bars)
    with pytest.raises(FinscaleError, match="n_samples must be at least 2"):
        finscale.predict_with_dropout(daily_run.folder, daily_run.bars, n_samples=1)


def test_the_package_offers_no_other_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'predictt'"):
        finscale.predictt  # noqa: B018


@pytest.mark.parametrize(
    "view",
    [
        WindowView(context_length=10),
        WindowView(features=("sma_12",)),
        WindowView(features=("rsi_14", "return_5"), context_length=10),
    ],
)
def test_a_run_that_reads_a_part_of_its_windows_is_scored_on_the_same_rows_and_repeats_itself(
    finish_run: Callable[..., Any], daily_bars: pd.DataFrame, view: WindowView
) -> None:
    run = finish_run(daily_bars, view=view)
    origins = np.concatenate([run.data.origins[split] for split in EVALUATED_SPLITS])
    assert (run.recorded["at"].to_numpy() == run.data.dates[origins]).all()
    recorded, said = recorded_and_said(run, finscale.predict(run.folder, daily_bars))
    pd.testing.assert_frame_equal(said, recorded, rtol=1e-6)
