"""What a set of windows was built from, as it stands beside them on disk."""

from typing import Any

from pydantic import Field, model_validator

from finscale.core.config import Record
from finscale.windows.vocabulary import Vocabulary

__all__ = ["WindowSpec"]


class WindowSpec(Record):
    """What a set of windows was built from.

    Attributes
    ----------
    horizon : int
        Bars from the origin to the end of the label that is scored.
    horizons : tuple of int
        Every trained horizon; only the quantile task has several.
    features : tuple of str
        Real-valued columns that are shown.
    categories : tuple of str
        Categorical columns that are shown.
    vocabularies : dict
        Labels of each categorical column of the table, in the order of their codes.
    quantile_levels, target_columns : tuple
        Of the quantile task, and of the forecast and classes tasks; empty for every other.
    n_classes : tuple of int
        Of the classes task: how many labels each target column has.
    min_context_length : int
        Bars that every origin has; fewer than ``context_length`` where contexts may be masked.
    session_bars : int
        Bars of the longest session; 1 where bars are no part of a session.
    instruments : tuple of str
        Names by code; one empty name where the table is no panel.
    time_name, time_zone : str
        Of the index that the features had; ``position`` where instruments are sequences without a clock.
    fold, n_folds : int
        Which fold of a walk-forward this is.
    """

    experiment: str
    task: str
    touch: str
    horizon: int
    context_length: int
    features: tuple[str, ...]
    data_hash: str
    title: str
    timescale: str = "daily"
    instruments: tuple[str, ...] = ("",)
    horizons: tuple[int, ...]
    quantile_levels: tuple[float, ...] = ()
    target_columns: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    vocabularies: dict[str, Vocabulary] = Field(default_factory=dict)
    n_classes: tuple[int, ...] = ()
    context_reach: str = "series"
    min_context_length: int
    session_bars: int = 1
    time_name: str = "session"
    time_zone: str | None = None
    fold: int = 0
    n_folds: int = 1

    @property
    def n_labels(self) -> tuple[int, ...]:
        """How many labels each categorical column that is shown has."""
        return tuple(len(self.vocabularies[name]) for name in self.categories)

    @property
    def shows_symbols(self) -> bool:
        """Whether a row is one symbol: a single categorical column and nothing else."""
        return not self.features and len(self.categories) == 1

    @model_validator(mode="before")
    @classmethod
    def _one_horizon_and_whole_contexts(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not {"horizon", "context_length"} <= set(values):
            return values
        usual = {"horizons": (values["horizon"],), "min_context_length": values["context_length"]}
        return {**usual, **values}
