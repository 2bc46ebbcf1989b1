"""Models that read the calendar are trained, scored, asked and exported with the calendar of their bars."""

from collections.abc import Callable, Iterator
from typing import Any

import jaxtyping
import numpy as np
import pandas as pd
import pytest

import finscale
from finscale.models.config import MigtTvdtConfig, PatchTSTConfig
from finscale.models.head_config import QuantileHead
from finscale.models.position_config import CalendarConfig
from finscale.training.export import export_run
from finscale.training.export_config import ExportSettings
from finscale.training.heads import with_head
from finscale.training.inputs import columns_fault
from finscale.windows.origins import ORIGIN
from finscale.windows.spec import WindowSpec

SIZES = {"d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 16}
MIGT = MigtTvdtConfig(**SIZES)
CALENDAR = CalendarConfig(session_bars=2, harmonics=1)
PATCHTST = PatchTSTConfig(**SIZES, patch_length=5, stride=5, positions=CALENDAR)
QUANTILE = {"task": "quantile", "horizons": (1, 3), "allow_few_positives": False}


def spec_of(**changes: Any) -> WindowSpec:
    asked = {"task": "quantile", "horizons": (1, 5), "quantile_levels": (0.1, 0.5, 0.9), **changes}
    told = {"experiment": "tiny", "touch": "high", "horizon": 5, "context_length": 8, "data_hash": "none"}
    return WindowSpec(**told, title="No windows", features=("a", "b"), **asked)


@pytest.fixture(scope="module")
def migt_run(finish_run: Callable[..., Any], daily_bars: pd.DataFrame) -> Any:
    return finish_run(daily_bars, model=MIGT, **QUANTILE)


def test_what_was_recorded_is_said_again_bit_for_bit(migt_run: Any) -> None:
    said = finscale.predict(migt_run.folder, migt_run.bars)
    shared = [name for name in said.columns if name in migt_run.recorded and name not in ORIGIN]
    assert {"q05", "q50", "q95"} <= set(shared)
    joined = migt_run.recorded[[*ORIGIN]].merge(said, on=list(ORIGIN), how="left")
    pd.testing.assert_frame_equal(joined[shared], migt_run.recorded[shared], check_exact=True)


def test_the_model_of_a_run_knows_the_sessions_of_its_windows(migt_run: Any) -> None:
    assert migt_run.spec.model.session_bars == migt_run.data.spec.session_bars == 1


def test_a_week_later_the_answers_to_equal_bars_are_others(migt_run: Any) -> None:
    later = migt_run.bars.set_axis(migt_run.bars.index + pd.Timedelta(days=7))
    said, other = (finscale.predict(migt_run.folder, bars)["q50"] for bars in (migt_run.bars, later))
    assert len(said) == len(other)
    assert (np.abs(said - other) > 1e-6).mean() > 0.9


def test_patches_that_stand_on_the_calendar_can_be_trained(
    finish_run: Callable[..., Any], daily_bars: pd.DataFrame
) -> None:
    run = finish_run(daily_bars, model=PATCHTST)
    assert run.result.outcome == "complete"
    assert finscale.predict(run.folder, run.bars)["probability"].between(0, 1).all()


@pytest.fixture
def _shapes_unchecked() -> Iterator[None]:
    """A check of shapes would turn the batch that is traced into a constant."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("_shapes_unchecked")
@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_an_export_takes_the_calendar_beside_the_values(migt_run: Any, kind: str) -> None:
    manifest = export_run(migt_run.folder, migt_run.data, ExportSettings(export=(kind,)))
    (check,) = (export.check for export in manifest.exports)
    assert [port.name for port in check.inputs] == ["values", "calendar"]
    assert check.max_difference < 1e-4


@pytest.mark.parametrize("session_bars", [1, 78, 288])
def test_a_grid_takes_its_sessions_from_the_windows_as_it_takes_its_head(session_bars: int) -> None:
    told = with_head(MIGT, spec_of(session_bars=session_bars))
    assert told.session_bars == session_bars
    assert told.head == QuantileHead(horizons=(1, 5), levels=(0.1, 0.5, 0.9))


@pytest.mark.parametrize("model", [MIGT, PATCHTST], ids=["migt_tvdt", "patchtst"])
def test_sessions_longer_than_a_model_knows_and_sequences_without_dates_are_refused(model: Any) -> None:
    known = model.positions.session_bars
    assert columns_fault(model, spec_of(session_bars=known)) is None
    fault = columns_fault(model, spec_of(session_bars=known + 1))
    rule = f"session_bars must be at least {known + 1}, the bars of the windows' longest session"
    assert rule in str(fault)
    fault = columns_fault(model, spec_of(time_name="position"))
    assert "the windows must be of bars with dates for this model, got 'sequences'" in str(fault)
