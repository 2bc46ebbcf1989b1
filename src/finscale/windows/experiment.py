"""One experiment: *what* is asked of which data. It carries no horizon; that belongs to the cell."""

import math
from typing import Literal

from pydantic import Field, field_validator, model_validator

from finscale.core.config import Record
from finscale.core.errors import Fault
from finscale.windows.tasks import parse_task

__all__ = ["DataConfig", "ExperimentConfig", "SplitConfig"]


class SplitConfig(Record):
    """How origins are divided in time.

    Attributes
    ----------
    fractions : tuple of float
        Shares of the feature rows that go to train, validation and test, in this order.
    gap : int
        Bars left out before each later split, beyond the purge of one horizon.
    val_select_fraction : float
        Share of the validation rows the search may look at; the rest is ``val_score``.
    """

    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    gap: int = Field(default=0, ge=0)
    val_select_fraction: float = Field(default=0.5, gt=0, lt=1)

    @field_validator("fractions")
    @classmethod
    def _shares_of_one(cls, fractions: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(fractions) <= 0 or not math.isclose(sum(fractions), 1.0, abs_tol=1e-6):
            rule = "be three positive shares that sum to 1"
            raise Fault("data.split.fractions", rule, fractions, "try [0.7, 0.15, 0.15]")
        return fractions


class DataConfig(Record):
    """Bars, features, target and split of an experiment.

    Attributes
    ----------
    source : str
        Name of bars in the catalog (``sp500`` and ``nasdaq`` are bundled in the package arch), or ``file``
        with ``path``.
    touch : str
        For threshold tasks: does the high of any bar, or the last close, have to reach the level?
    context_length : int
        Bars a window shows to the model, its origin included.
    feature_set : str
        Name of a list under ``feature_sets`` in conf.
    allow_few_positives : bool
        Turn the few-positives gate into a warning that stays on every result.
    """

    source: str = "sp500"
    path: str | None = None
    task: str = "threshold_1pct"
    touch: Literal["high", "close"] = "high"
    timescale: Literal["daily"] = "daily"
    context_length: int = Field(default=60, ge=1)
    feature_set: str = "a25"
    split: SplitConfig = SplitConfig()
    allow_few_positives: bool = False

    @field_validator("task")
    @classmethod
    def _known_task(cls, task: str) -> str:
        return parse_task(task).name

    @model_validator(mode="after")
    def _path_goes_with_file(self) -> "DataConfig":
        if self.source == "file" and not self.path:
            raise Fault("data.path", "be given where data.source is file", self.path, "add data.path")
        if self.source != "file" and self.path is not None:
            remedy = "set data.source to file, or remove data.path"
            raise Fault("data.path", f"be absent where data.source is {self.source}", self.path, remedy)
        return self

    @model_validator(mode="after")
    def _touch_goes_with_threshold(self) -> "DataConfig":
        if self.touch != "high" and parse_task(self.task).rise is None:
            remedy = "remove it, or choose a threshold task"
            raise Fault("data.touch", f"be left out where data.task is {self.task}", self.touch, remedy)
        return self


class ExperimentConfig(Record):
    """The part of a run that no environment may change."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    title: str
    seed: int = 42
    data: DataConfig = DataConfig()
    model_family: Literal["patchtst"] = "patchtst"
    mlflow_experiment: str = "finscale"
