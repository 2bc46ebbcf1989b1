"""Score new bars with a finished run: the preparation, the features and the weights of that run, in one call.

n origins.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.core.errors import Fault
from finscale.core.files import read_json
from finscale.features.bars import kind_of
from finscale.features.compute import compute_features
from finscale.features.prepare import prepare_bars
from finscale.models.config import reads_calendar
from finscale.training.answer_table import answer_columns
from finscale.training.calibration import CALIBRATION, Calibration, load_calibration
from finscale.training.config import ExecutionConfig
from finscale.training.result import TrainingResult
from finscale.training.run_inputs import INPUTS, RunInputs, load_inputs, usual_step_s
from finscale.training.run_spec import RunSpec, fingerprint, read_run_spec
from finscale.windows.data import WindowData
from finscale.windows.origins import rows_frame
from finscale.windows.unlabelled import unlabelled_windows

if TYPE_CHECKING:
    from finscale.training.gradients import WindowSource

__all__ = ["predict", "predict_with_dropout", "run_files"]

_RUN_FILES = ("run_spec.json", INPUTS, "result.json", "best.safetensors")

_SAME_STEP = 1.5
_TIMES = ("session", "opened_at")
_INSTRUMENT = "instrument"

Array = NDArray[np.float64]


def predict(run_dir: str | Path, bars: pd.DataFrame, *, device: str = "cpu") -> pd.DataFrame:
    """Return what a finished run says at every bar that has a whole context, the newest one included.

    On the bars that the run was trained on, its test rows come out bit for bit as they were recorded (same
    machine, same device); those of a run that reads some of its features (`WindowView`) up to rounding, where
    the others had a longer warm-up. With a shorter history, features that remember all of it (an exponential
    average) are slightly different.

    Parameters
    ----------
    run_dir : path
        Folder of one finished training (``seed_...``).
    bars : DataFrame
        As they would go into the pipeline: the times in the index, or in a column ``session`` (days) or
        ``opened_at`` (instants in UTC), of a panel beside ``instrument``; open, high, low, close, and
        ``volume`` or ``vix`` where the features read them; of a series, its own columns.
    device : str
        ``cpu``, ``cuda``, ``mps`` or ``auto``.

    Returns
    -------
    DataFrame
        One row per origin: ``date`` (trading day), ``at`` (stamp of its bar), ``instrument``, and the answer
        as in the test tables: ``probability``, ``prediction``, or ``q05`` ... at the scored horizon and
        ``q05_h6`` ... at every other that was trained, calibrated where the run is (``attrs["calibrated"]``);
        of a forecast one column per target column and step (``OT_1``), standardised as the model saw them.

    Raises
    ------
    FinscaleError
        When the folder is not that of a finished run, or the bars are not what it needs.

    Examples
    --------
    >>> import finscale
    >>> finscale.predict("nowhere", pd.DataFrame())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    finscale.core.errors.Fault: nowhere must be the folder of a finished training, got ...
    """
    from finscale.training.answers import answers

    run = _load_run(Path(run_dir), device)
    data, origins = _windows(run, bars)
    answer, calibration = _ask(run, data, origins, answers), _calibration(run)
    if calibration is not None:
        answer = calibration.apply(answer)
    table = rows_frame(data, origins).assign(**answer_columns(answer, data.spec))
    table.attrs["calibrated"] = calibration is not None
    return table


def predict_with_dropout(
    run_dir: str | Path, bars: pd.DataFrame, *, n_samples: int = 50, seed: int = 0, device: str = "cpu"
) -> pd.DataFrame:
    """Return as `predict` the mean of ``n_samples`` passes with dropout on, and beside it their spread.

    The spread is the standard deviation, in columns of the same names that end with ``_spread``: how far the
    weights are uncertain, as far as dropout tells (Gal and Ghahramani 2016). Quantiles are not calibrated: a
    calibration is of what the model says without dropout.

    Parameters
    ----------
    run_dir, bars, device
        As in `predict`.
    n_samples : int
        Passes, at least 2.
    seed : int
        Equal seeds give equal numbers on equal bars.
    """
    from finscale.training.answers import dropout_answers

    run = _load_run(Path(run_dir), device)
    data, origins = _windows(run, bars)
    mean, spread = _ask(run, data, origins, dropout_answers, n_samples=n_samples, seed=seed)
    spreads = {f"{name}_spread": column for name, column in answer_columns(spread, data.spec).items()}
    return rows_frame(data, origins).assign(**answer_columns(mean, data.spec), **spreads)


def run_files(folder: Path) -> tuple[str, ...]:
    """Return what is read of the folder of a finished run to score bars, its calibration where it has one."""
    return (*_RUN_FILES, CALIBRATION) if (folder / CALIBRATION).is_file() else _RUN_FILES


@dataclass(frozen=True)
class _Run:
    folder: Path
    spec: RunSpec
    inputs: RunInputs
    execution: ExecutionConfig


def _load_run(folder: Path, device: str) -> _Run:
    """Read the records of a run; on a device like its own it executes in the precision it was trained in."""
    from finscale.training.config import resolve_device

    missing = [name for name in _RUN_FILES if not (folder / name).is_file()]
    if missing:
        remedy = "name a seed_... folder of 06_models/training whose run is complete"
        raise Fault(str(folder), "be the folder of a finished training", f"no {', '.join(missing)}", remedy)
    result = TrainingResult.read(read_json(folder / "result.json"), subject="result.json")
    asked = ExecutionConfig.read({"device": device, "n_threads": result.executed.n_threads})
    at_home = resolve_device(asked).type == result.device.partition(":")[0]
    precision = result.executed.precision if at_home else "fp32"
    execution = ExecutionConfig.read({**asked.model_dump(), "precision": precision})
    return _Run(folder, read_run_spec(folder / "run_spec.json"), load_inputs(folder), execution)


def _calibration(run: _Run) -> Calibration | None:
    return load_calibration(run.folder, fingerprint=fingerprint(run.spec))


def _windows(run: _Run, bars: pd.DataFrame) -> tuple[WindowData, NDArray[np.int64]]:
    data, spec = run.spec.experiment.data, run.inputs.spec
    if spec.vocabularies or spec.time_name == "position":
        rule, remedy = "be of bars or of a series of numbers", "use finscale.training.evaluate.load_best"
        raise Fault(str(run.folder), rule, "a table of labels or sequences", remedy)
    prepared = prepare_bars(
        _as_loaded(bars, run.inputs), name="bars", timescale=spec.timescale, start=data.start
    )
    _refuse_other_steps(prepared, run.inputs)
    features = compute_features(prepared, spec.features, timescale=spec.timescale).frame
    return unlabelled_windows(features, prepared, spec=spec, standardizer=run.inputs.standardizer)


def _as_loaded(bars: pd.DataFrame, inputs: RunInputs) -> pd.DataFrame:
    """Return the bars with their times in the index and with what the run knows of such bars."""
    time = inputs.spec.time_name
    loaded = _by_time(bars, time) if time in bars.columns else bars.copy(deep=False)
    if loaded.index.names[-1] not in _TIMES:
        loaded.index.names = [*loaded.index.names[:-1], time]
    known = inputs.bars.model_dump(mode="json", include={"sessions", "calendar"}, exclude_none=True)
    loaded.attrs.update({name: fact for name, fact in known.items() if name not in bars.attrs})
    if inputs.bars.kind == "series":
        loaded.attrs["kind"] = "series"
    if kind_of(loaded) != inputs.bars.kind:
        rule = f"be {inputs.bars.kind} like those of the run"
        raise Fault("bars", rule, kind_of(loaded), f"give bars for timescale {inputs.spec.timescale}")
    return loaded


def _by_time(bars: pd.DataFrame, time: str) -> pd.DataFrame:
    """Move the times, and the instruments of a panel, from the columns to the index."""
    try:
        times = pd.to_datetime(bars[time], utc=time == "opened_at")
    except ValueError as error:
        raise Fault(f"bars.{time}", "hold dates", str(error), "write them like 2010-01-31") from None
    levels = [name for name in (_INSTRUMENT, time) if name in bars.columns]
    return bars.assign(**{time: times}).set_index(levels)


def _refuse_other_steps(prepared: pd.DataFrame, inputs: RunInputs) -> None:
    """Bars of another length would pass for those of the run wherever their columns do."""
    asked, found = inputs.bars.step_s, usual_step_s(prepared)
    if asked and found and not 1 / _SAME_STEP < found / asked < _SAME_STEP:
        rule = f"follow each other as those of the run do, every {pd.Timedelta(seconds=asked)}"
        remedy = f"give bars for timescale {inputs.spec.timescale}"
        raise Fault("bars", rule, f"every {pd.Timedelta(seconds=found)}", remedy)


def _ask(
    run: _Run, data: WindowData, origins: NDArray[np.int64], ask: Callable[..., Any], **options: Any
) -> Any:
    """Return the answers of the best weights at ``origins``."""
    import torch

    from finscale.training.config import resolve_device
    from finscale.training.evaluate import load_best
    from finscale.training.execution import executing
    from finscale.windows.batches import DeviceWindows

    device = resolve_device(run.execution)
    with executing(run.execution, device):
        _, model = load_best(run.folder, data, device=device)
        windows: WindowSource = DeviceWindows(
            data, device, origins=origins, calendar=reads_calendar(run.spec.model)
        )
        rows = torch.from_numpy(origins).to(device)
        return ask(model, windows, rows, spec=data.spec, execution=run.execution, **options)
