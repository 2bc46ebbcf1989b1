"""What forecasts of each kind are judged by: the loss, its name and unit, and what stands in for no model."""

from typing import Final

from finscale.core.config import Record
from finscale.metrics.probabilistic import INTERVALS
from finscale.windows.tasks import TaskKind, parse_task

__all__ = ["MEASURES", "Measure", "measure_of"]


class Measure(Record):
    """How forecasts of one kind are judged.

    Attributes
    ----------
    column : str
        Of the loss in every table of rows, runs and baselines.
    words : str
        The same in a sentence.
    unit : str
        Of the loss.
    unit_is : str
        The unit, explained.
    reference : str
        Of the baselines, the one that knows the training targets and nothing else. Excess loss is its loss
        less the model's.
    scores : tuple of str
        Columns of further scores.
    objective : str
        What is trained, where nothing else is asked for.
    is_validated : bool
        Whether trials and epochs are chosen by the mean of ``column``; quantiles are chosen by the mean over
        every trained horizon, and compared at the scored one.
    """

    column: str
    words: str
    unit: str
    unit_is: str
    reference: str
    scores: tuple[str, ...]
    objective: str
    is_validated: bool = True

    @property
    def axis(self) -> str:
        """Title of an axis of losses."""
        return f"{self.words} ({self.unit})"

    @property
    def reference_words(self) -> str:
        """The reference in a sentence."""
        return self.reference.replace("_", " ")


MEASURES: Final[dict[TaskKind, Measure]] = {
    "binary": Measure(
        column="log_loss",
        words="log loss",
        unit="nats",
        unit_is="nats of log loss per window",
        reference="base_rate",
        scores=("auc", "brier", "ece"),
        objective="binary cross-entropy",
    ),
    "regression": Measure(
        column="squared_error",
        words="squared error",
        unit="σ²",
        unit_is="squared error of the return over the horizon, σ the trailing volatility of one bar",
        reference="climatology",
        scores=("absolute_error", "bias", "correlation"),
        objective="squared error",
    ),
    "quantile": Measure(
        column="pinball_loss",
        words="pinball loss",
        unit="σ",
        unit_is="pinball loss of the return over the scored horizon, mean over the levels, σ the trailing "
        "volatility of one bar",
        reference="scaled_climatology",
        scores=("crps", *(f"{what}_{share}" for share in INTERVALS for what in ("coverage", "width"))),
        objective="pinball loss, mean over the levels and over every trained horizon",
        is_validated=False,
    ),
    "forecast": Measure(
        column="squared_error",
        words="squared error",
        unit="σ²",
        unit_is="squared error, mean over steps and columns, σ a column's deviation in training",
        reference="climatology",
        scores=("absolute_error",),
        objective="squared error",
    ),
    "classes": Measure(
        column="log_loss",
        words="log loss",
        unit="nats",
        unit_is="nats of log loss per window, mean over the target columns",
        reference="base_rate",
        scores=("accuracy",),
        objective="cross-entropy, mean over the target columns",
    ),
}


def measure_of(task: str) -> Measure:
    """Return how forecasts of a task are judged.

    Examples
    --------
    >>> measure_of("threshold_1pct").axis, measure_of("quantile").axis
    ('log loss (nats)', 'pinball loss (σ)')
    """
    return MEASURES[parse_task(task).kind]
