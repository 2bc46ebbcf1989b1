"""Every kind of market data, timescale, task and split goes from conf to windows and baselines."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from finscale.core.errors import FinscaleError
from finscale.datasets.bars import BarsDataset
from finscale.models.config import parse_model_config
from finscale.pipelines.dataset import nodes as dataset
from finscale.pipelines.feature_engineering import nodes as feature_engineering
from finscale.runtime.config_loader import FinscaleConfigLoader
from finscale.runtime.definition import group
from finscale.runtime.preflight import require_trainable
from finscale.settings import CONFIG_LOADER_ARGS
from finscale.windows.data import WindowData

CONF = Path(__file__).resolve().parents[2] / "conf"
TIMESCALES = ["daily", "2d", "3d", "5d", "weekly", "2wk", "monthly"]


class Built:
    """What the first two pipelines make of one definition, node by node."""

    def __init__(self, source: dict[str, Any] | None = None, **params: Any) -> None:
        loader = FinscaleConfigLoader(str(CONF), env="base", runtime_params=params, **CONFIG_LOADER_ARGS)
        parameters, entry = loader["parameters"], dict(loader["catalog"]["bars"])
        entry.pop("type")
        self.definition, sets = group(parameters, "definition"), parameters["feature_sets"]
        self.model = parse_model_config(parameters["model"])
        bars = BarsDataset(**(entry if source is None else {"source": source})).load()
        self.bars = feature_engineering.check_bars(bars, sets, self.definition)
        self.card = feature_engineering.describe_bars(self.bars)
        self.features = feature_engineering.compute_feature_set(self.bars, sets, self.definition)
        self.windows, self.later, self.warnings = dataset.make_windows(
            self.features, self.bars, self.definition, parameters["cell"]["horizon"]
        )
        self.losses = dataset.score_baseline_losses(self.windows, self.later, self.bars)
        self.scores = dataset.summarise_baselines(self.losses)

    @property
    def figures(self) -> tuple[Any, Any]:
        drift = dataset.measure_drift(self.features, self.windows)
        page = dataset.draw_features(self.features, self.bars, self.windows, self.definition)
        return dataset.draw_drift(drift), page


def assert_purged(windows: WindowData) -> None:
    """No label of a split ends on or after the first session of the next one."""
    reach = max(windows.spec.horizons)
    names = [name for name, rows in windows.origins.items() if len(rows)]
    for name, later in pairwise(names):
        ends = windows.sessions[windows.origins[name] + reach].max()
        assert ends < windows.sessions[windows.origins[later]].min()


@pytest.mark.parametrize("timescale", TIMESCALES)
def test_every_timescale_reaches_its_windows_and_baselines(timescale: str) -> None:
    context = 12 if timescale == "monthly" else 26
    data = {"timescale": timescale, "feature_set": "stationary25", "context_length": context}
    built = Built(data={**data, "allow_few_positives": True})
    assert_purged(built.windows)
    steps = np.diff(built.windows.dates).astype("timedelta64[D]").astype(int)
    longest = {"daily": 10, "2d": 11, "3d": 12, "5d": 14, "weekly": 12, "2wk": 19, "monthly": 36}[timescale]
    shortest = {"daily": 1, "2d": 2, "3d": 3, "5d": 6, "weekly": 3, "2wk": 10, "monthly": 26}[timescale]
    assert shortest <= steps.min() <= steps.max() <= longest
    assert set(built.scores["split"]) == {"val_select", "val_score", "test"}
    assert built.card["timescale"] == timescale


def test_a_panel_keeps_its_instruments_apart_and_its_dates_together() -> None:
    built = Built(experiment="us_indices_threshold_1pct")
    windows = built.windows
    assert windows.spec.instruments == ("sp500", "nasdaq")
    for rows in windows.origins.values():
        first = rows - windows.spec.context_length + 1
        assert (windows.instruments[first] == windows.instruments[rows]).all()
        assert (windows.instruments[rows + 1] == windows.instruments[rows]).all()
    assert_purged(windows)
    test = built.losses.query("split == 'test' and baseline == 'base_rate'")
    assert test.groupby("date").size().unique().tolist() == [2]
    assert test["instrument"].unique().tolist() == ["sp500", "nasdaq"]


def test_features_of_the_vix_begin_with_it() -> None:
    built = Built(experiment="sp500_vix_threshold_1pct")
    assert built.features.shape[1] == 33
    assert built.features.index[0] >= pd.Timestamp("2014-01-02") + pd.offsets.BDay(59)
    assert built.features.index[-1] == pd.Timestamp("2018-12-31")
    assert any("few positives" in warning for warning in built.warnings)


def test_each_fold_of_a_walk_forward_tests_on_later_sessions_than_the_one_before() -> None:
    built = Built(experiment="sp500_walk_forward_threshold_1pct")
    folds = [built.windows, *built.later]
    assert [data.spec.fold for data in folds] == [0, 1, 2, 3]
    for data, following in pairwise(folds):
        assert_purged(data)
        assert data.dates_at("test").max() < following.dates_at("test").min()
        assert len(data.origins["train"]) < len(following.origins["train"])
        assert not np.allclose(data.standardizer.mean, following.standardizer.mean)
    test = built.losses.query("split == 'test' and baseline == 'garch'")
    assert not test.duplicated("at").any()
    assert len(test) == sum(len(data.origins["test"]) for data in folds)


@pytest.mark.parametrize(
    ("task", "names", "loss"),
    [
        ("regression", ["climatology", "last_value", "linear", "hist_gradient_boosting"], "squared_error"),
        ("quantile", ["climatology", "scaled_climatology", "garch"], "pinball_loss"),
    ],
)
def test_returns_have_their_own_windows_and_baselines(task: str, names: list[str], loss: str) -> None:
    built = Built(data={"task": task, "feature_set": "stationary25"}, horizon=3)
    assert built.losses["baseline"].unique().tolist() == names
    test = built.losses.query("split == 'test'").groupby("baseline")[loss].mean()
    assert (test > 0).all()
    close = np.log(built.bars["close"])
    t = int(built.windows.origins["test"][100])
    rise = close.diff(3).shift(-3).loc[built.features.index].iloc[t]
    target = built.windows.targets.reshape(len(built.features), -1)[t, 0]
    assert target * built.windows.scale[t] == pytest.approx(rise, rel=1e-5)
    assert require_trainable(built.definition, built.model) == built.definition.data.task


def test_scaling_the_quantiles_by_volatility_helps() -> None:
    built = Built(data={"task": "quantile", "feature_set": "stationary25"}, horizon=1)
    test = built.losses.query("split == 'test'").groupby("baseline")["pinball_loss"].mean()
    assert test["scaled_climatology"] < test["climatology"]


def test_simulated_sessions_say_so_wherever_they_are_shown() -> None:
    built = Built(experiment="simulated_intraday_direction")
    assert built.card["simulated"]
    assert built.card["line"].startswith("SIMULATED")
    _, page = built.figures
    assert "SIMULATED" in page.layout.title.text
    windows = built.windows
    sessions = windows.sessions[windows.origins["train"]]
    assert (sessions == windows.sessions[windows.origins["train"] - windows.spec.context_length + 1]).all()


def eurusd(folder: Path, name: str) -> dict[str, Any]:
    intraday = {
        "eurusd_5min_mid_2014_05.csv": ("UTC", 288, "21:00"),
        "eurusd_1h_mid_2007_2018.csv.gz": ("UTC", 24, "21:00"),
    }
    timezone, n_bars, opens_at = intraday[name]
    sessions = {"bars_per_session": n_bars, "opens_at": opens_at, "timezone": timezone}
    return {"kind": "file", "path": str(folder / name), "timezone": timezone, "sessions": sessions}


@pytest.mark.parametrize("name", ["eurusd_5min_mid_2014_05.csv", "eurusd_1h_mid_2007_2018.csv.gz"])
def test_foreign_exchange_without_volume_needs_only_conf(test_data: Path, name: str) -> None:
    data = {"task": "direction", "timescale": "intraday", "context_length": 24}
    built = Built(eurusd(test_data, name), data={**data, "feature_set": "intraday_price17"})
    assert built.features.shape[1] == 17
    assert_purged(built.windows)
    with pytest.raises(FinscaleError, match=r"volume .*intraday_price17"):
        Built(eurusd(test_data, name), data={**data, "feature_set": "intraday24"})


def test_minutes_of_an_index_count_as_bars_without_volume(test_data: Path) -> None:
    sessions = {"bars_per_session": 391, "opens_at": "09:30", "timezone": "America/New_York"}
    path = str(test_data / "sp500_1min_nov2019.csv")
    source = {"kind": "file", "path": path, "timezone": "America/New_York", "sessions": sessions}
    built = Built(
        source,
        data={
            "task": "direction",
            "timescale": "intraday",
            "context_length": 30,
            "feature_set": "intraday_price17",
            "split": {"fractions": [0.5, 0.25, 0.25], "val_select_fraction": 1.0},
        },
    )
    assert "volume" not in built.bars
    assert any("volume" in note for note in built.card["notes"])


def test_the_published_forecasting_benchmark_has_its_published_windows(test_data: Path) -> None:
    channels = ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
    source = {"kind": "file", "path": str(test_data / "ETTh1.csv"), "channels": channels}
    data = {"task": "forecast", "feature_set": "channels", "context_length": 336, "timescale": "intraday"}
    dates = ["2017-06-26", "2017-10-24", "2018-02-21"]
    split = {"dates": dates, "val_select_fraction": 1.0}
    built = Built(source, data={**data, "split": split}, horizon=96)
    counts = {name: len(rows) for name, rows in built.windows.origins.items()}
    assert counts == {"train": 8209, "val_select": 2785, "val_score": 0, "test": 2785}
    assert built.windows.spec.target_columns == tuple(channels)


BUILDS: dict[str, Callable[[], Built]] = {
    "panel": lambda: Built(experiment="us_indices_threshold_1pct"),
    "weekly": lambda: Built(experiment="sp500_weekly_threshold_1pct"),
}


@pytest.mark.parametrize("name", BUILDS)
def test_features_and_their_drift_can_be_looked_at(name: str) -> None:
    built = BUILDS[name]()
    drift, page = built.figures
    assert len(drift.data) > 0
    assert built.definition.title in page.layout.title.text.replace("<br>", " ")


def test_the_next_command_asks_the_same_question(project: Any) -> None:
    typed = "data.timescale=weekly,data.feature_set=stationary25"
    done = project.kedro("run", "--pipelines", "feature_engineering", "--params", typed)
    assert done.code == 0, done.out
    assert (
        f"--pipelines dataset --params experiment=spy_daily_threshold_1pct,budget=20K,horizon=1,{typed}"
        in done.out
    )
