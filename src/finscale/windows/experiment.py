"""One experiment: *what* is asked of which data. It carries no horizon; that belongs to the cell."""

import datetime
import math
from itertools import pairwise
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from finscale.core.config import Record
from finscale.core.errors import Fault
from finscale.features.timescales import Timescale
from finscale.windows.tasks import Task, parse_task

__all__ = ["QUANTILE_LEVELS", "DataConfig", "ExperimentConfig", "SplitConfig", "WalkForward"]

QUANTILE_LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
FRACTIONS = (0.7, 0.15, 0.15)
_FOLDS_WITH_EMBARGO = 4


class WalkForward(Record):
    """Train before, evaluate after, and roll on.

    The sessions behind the first training block are cut into ``n_folds + 1`` equal blocks; fold k
    (counted from 0) trains before block k, validates on block k and tests on block k + 1.

    Attributes
    ----------
    n_folds : int
        Train and evaluation pairs.
    scheme : str
        ``expanding``: a fold trains on everything before its validation; ``rolling``: on as many
        sessions as the first fold does.
    initial_train : float
        Share of the sessions that only ever train.
    embargo : int
        Bars after the test block of an earlier fold whose origins do not train.
    """

    n_folds: int = Field(ge=2)
    scheme: Literal["expanding", "rolling"] = "expanding"
    initial_train: float = Field(default=0.5, gt=0, lt=1)
    embargo: int = Field(default=0, ge=0)

    @field_validator("embargo")
    @classmethod
    def _embargo_has_an_effect(cls, embargo: int, info: ValidationInfo) -> int:
        """The first test block that any fold trains behind ends before block 2; fold 3 trains on that."""
        n_folds = info.data.get("n_folds", _FOLDS_WITH_EMBARGO)
        if embargo and n_folds < _FOLDS_WITH_EMBARGO:
            rule = f"be 0 where n_folds is {n_folds}: no fold trains on bars that follow an earlier test"
            remedy = f"remove it, or use at least {_FOLDS_WITH_EMBARGO} folds"
            raise Fault("data.split.walk_forward.embargo", rule, embargo, remedy)
        return embargo


class SplitConfig(Record):
    """How origins are divided in time: by ``fractions``, by ``dates``, or by ``walk_forward``.

    Boundaries lie between sessions: one session is never cut, and the instruments of a panel share them.

    Attributes
    ----------
    fractions : tuple of float
        Shares of the sessions that go to train, validation and test, in this order.
    dates : tuple of str
        First session of validation and of test and, optionally, the first after test; ISO dates, with a
        time (2017-06-26T12:00) where a table has no sessions.
    gap : int
        Bars left out before each later split, beyond the purge of one horizon.
    val_select_fraction : float
        Share of the validation sessions the search may look at; the rest is ``val_score``. With 1 the
        validation is not divided and ``val_score`` is empty.
    walk_forward : WalkForward
        Several folds of the same experiment.
    """

    fractions: tuple[float, float, float] = FRACTIONS
    dates: tuple[str, ...] | None = None
    gap: int = Field(default=0, ge=0)
    val_select_fraction: float = Field(default=0.5, gt=0, le=1)
    walk_forward: WalkForward | None = None

    @field_validator("fractions")
    @classmethod
    def _shares_of_one(cls, fractions: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(fractions) <= 0 or not math.isclose(sum(fractions), 1.0, abs_tol=1e-6):
            rule = "be three positive shares that sum to 1"
            raise Fault("data.split.fractions", rule, fractions, "try [0.7, 0.15, 0.15]")
        return fractions

    @field_validator("dates", mode="before")
    @classmethod
    def _iso_dates(cls, dates: Any) -> Any:
        return (
            [_iso(date, "data.split.dates") for date in dates] if isinstance(dates, list | tuple) else dates
        )

    @field_validator("dates")
    @classmethod
    def _two_or_three_in_order(cls, dates: tuple[str, ...] | None, info: ValidationInfo) -> Any:
        if dates is None:
            return None
        if len(dates) not in (2, 3) or any(a >= b for a, b in pairwise(map(_stamp, dates))):
            rule = "be the first session of validation, of test and, maybe, after test, in this order"
            raise Fault("data.split.dates", rule, dates, "give two or three increasing dates")
        _only("data.split.dates", dates, info, fractions=FRACTIONS)
        return dates

    @field_validator("walk_forward")
    @classmethod
    def _walk_forward_alone(cls, walk_forward: WalkForward | None, info: ValidationInfo) -> Any:
        if walk_forward is not None:
            _only("data.split.walk_forward", walk_forward.scheme, info, fractions=FRACTIONS, dates=None)
        return walk_forward


class DataConfig(Record):
    """Bars, features, target, windows and split of an experiment.

    Attributes
    ----------
    source : str
        Name of bars in the catalog (``sp500`` and ``nasdaq`` are bundled in the package arch), or ``file``
        with ``path``.
    start, end : str
        First and last date used, ISO (2010-01-31); null leaves the history as it is.
    task : str
        ``direction``, ``threshold_<x>pct``, ``regression`` and ``quantile`` (returns over trailing
        volatility), ``forecast`` (the next rows of the table), or ``classes`` (the labels of one later row).
    touch : str
        For threshold tasks: does the high of any bar, or the last close, have to reach the level?
    horizons : tuple of int
        For the quantile task: every horizon that is trained, in bars; the cell's horizon is the scored
        one and must be among them. Empty: the cell's alone.
    quantile_levels : tuple of float
        For the quantile task: levels at which the return is forecast.
    target_columns : tuple of str
        For the forecast task: features whose next rows are forecast; for the classes task: categorical
        columns whose labels are, ``horizon`` rows later. Empty: all.
    context_length : int
        Bars a window shows to the model, its origin included.
    context_reach : str
        ``session``: a context does not reach before its origin's session; the steps before are masked.
    min_context_length : int
        Bars that an origin must have; steps beyond them are masked. Null: the whole context.
    feature_set : str
        Name of a list under ``feature_sets`` in conf.
    leave_bounded : bool
        Do not fit the standardizer to features with bounds of their own (RSI, 0 to 100); they are shown
        from -1 to 1 instead.
    allow_few_positives : bool
        Turn the few-positives gate into a warning that stays on every result.
    """

    source: str = "sp500"
    path: str | None = Field(default=None, validate_default=True)
    start: str | None = None
    end: str | None = None
    task: str = "threshold_1pct"
    touch: Literal["high", "close"] = "high"
    horizons: tuple[int, ...] = ()
    quantile_levels: tuple[float, ...] = QUANTILE_LEVELS
    target_columns: tuple[str, ...] = ()
    timescale: Timescale = "daily"
    context_length: int = Field(default=60, ge=1)
    context_reach: Literal["series", "session"] = "series"
    min_context_length: int | None = Field(default=None, ge=1)
    feature_set: str = "a25"
    leave_bounded: bool = False
    split: SplitConfig = SplitConfig()
    allow_few_positives: bool = False

    @field_validator("path")
    @classmethod
    def _path_goes_with_file(cls, path: str | None, info: ValidationInfo) -> str | None:
        source = info.data.get("source")
        if source == "file" and not path:
            raise Fault("data.path", "be given where data.source is file", path, "add data.path")
        if source != "file" and path is not None:
            remedy = "set data.source to file, or remove data.path"
            raise Fault("data.path", f"be absent where data.source is {source}", path, remedy)
        return path

    @field_validator("start", "end", mode="before")
    @classmethod
    def _iso_date(cls, date: Any, info: ValidationInfo) -> Any:
        return None if date is None else _iso(date, f"data.{info.field_name}")

    @field_validator("end")
    @classmethod
    def _end_after_start(cls, end: str | None, info: ValidationInfo) -> str | None:
        start = info.data.get("start")
        if start is not None and end is not None and _stamp(end) < _stamp(start):
            raise Fault("data.end", f"not be before data.start ({start})", end, "swap or correct the dates")
        return end

    @field_validator("task")
    @classmethod
    def _known_task(cls, task: str) -> str:
        return parse_task(task).name

    @field_validator("touch")
    @classmethod
    def _touch_goes_with_threshold(cls, touch: str, info: ValidationInfo) -> str:
        task = _task(info)
        if touch != "high" and task is not None and task.rise is None:
            _left_out("touch", touch, task, "a threshold task")
        return touch

    @field_validator("horizons", "quantile_levels")
    @classmethod
    def _go_with_quantile(cls, value: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        task, name = _task(info), str(info.field_name)
        if task is not None and task.kind != "quantile" and value != cls.model_fields[name].default:
            _left_out(name, value, task, "quantile")
        return value

    @field_validator("horizons")
    @classmethod
    def _bars_in_order(cls, horizons: tuple[int, ...]) -> tuple[int, ...]:
        if horizons and (horizons[0] < 1 or not _increases(horizons)):
            rule = "be increasing positive numbers of bars"
            raise Fault("data.horizons", rule, horizons, "try [1, 5, 20]")
        return horizons

    @field_validator("quantile_levels")
    @classmethod
    def _levels_in_order(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if not levels or levels[0] <= 0 or levels[-1] >= 1 or not _increases(levels):
            rule = "be increasing levels between 0 and 1"
            raise Fault("data.quantile_levels", rule, levels, "try [0.05, 0.5, 0.95]")
        return levels

    @field_validator("target_columns")
    @classmethod
    def _columns_go_with_rows(cls, columns: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        task = _task(info)
        if columns and task is not None and task.kind not in ("forecast", "classes"):
            _left_out("target_columns", columns, task, "forecast or classes")
        if len(set(columns)) < len(columns):
            raise Fault("data.target_columns", "name each column once", columns, "remove the repetition")
        return columns

    @field_validator("context_reach")
    @classmethod
    def _sessions_have_bars(cls, reach: str, info: ValidationInfo) -> str:
        timescale = info.data.get("timescale", "intraday")
        if reach == "session" and timescale != "intraday":
            rule = f"be series where data.timescale is {timescale}: a session is then one bar, or less"
            raise Fault("data.context_reach", rule, reach, "remove it, or use intraday bars")
        return reach

    @field_validator("min_context_length")
    @classmethod
    def _part_of_the_context(cls, shortest: int | None, info: ValidationInfo) -> int | None:
        length = info.data.get("context_length", shortest)
        if shortest is not None and length is not None and shortest > length:
            rule = f"be at most data.context_length ({length})"
            raise Fault("data.min_context_length", rule, shortest, "lower it, or lengthen the context")
        return shortest

    @field_validator("allow_few_positives")
    @classmethod
    def _positives_go_with_classes(cls, allow: bool, info: ValidationInfo) -> bool:
        task = _task(info)
        if allow and task is not None and task.kind != "binary":
            _left_out("allow_few_positives", allow, task, "direction or a threshold task")
        return allow


class ExperimentConfig(Record):
    """The part of a run that no environment may change.

    Attributes
    ----------
    mlflow_experiment : str
        Under which name MLflow keeps the runs.
    wandb_project : str
        Under which name Weights & Biases keeps trials and trainings as well (extra ``[wandb]``); null: not.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    title: str
    seed: int = 42
    data: DataConfig = DataConfig()
    model_family: Literal["patchtst", "transformer", "migt_tvdt", "dlinear", "naive"] = "patchtst"
    mlflow_experiment: str = "finscale"
    wandb_project: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]+$", max_length=128)


def _task(info: ValidationInfo) -> Task | None:
    """The task of the record under validation, unless it was itself a fault."""
    return parse_task(info.data["task"]) if "task" in info.data else None


def _left_out(name: str, value: Any, task: Task, other: str) -> None:
    rule = f"be left out where data.task is {task.name}"
    raise Fault(f"data.{name}", rule, value, f"remove it, or choose {other}")


def _only(subject: str, value: Any, info: ValidationInfo, **unset: Any) -> None:
    """Refuse ``subject`` beside another way to divide the sessions."""
    set_too = [name for name, default in unset.items() if info.data.get(name, default) != default]
    if set_too:
        rule = f"be the only division of the sessions, without data.split.{' and '.join(set_too)}"
        raise Fault(subject, rule, value, "keep one of them")


def _increases(values: tuple[Any, ...]) -> bool:
    return all(a < b for a, b in pairwise(values))


def _stamp(date: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(date)


def _iso(value: Any, subject: str) -> str:
    """The ISO form of a date that YAML, a command line or JSON gave; without a time where it is midnight."""
    try:
        stamp = _stamp(str(value))
    except ValueError:
        stamp = None
    if stamp is None or stamp.tzinfo is not None:
        rule = "be an ISO date without a time zone"
        raise Fault(subject, rule, str(value), "write it like 2010-01-31, or 2010-01-31T15:30")
    return stamp.isoformat().removesuffix("T00:00:00")
