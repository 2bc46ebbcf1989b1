"""What a set of windows was built from, as it stands beside them on disk."""

from typing import Any

from pydantic import model_validator

from finscale.core.config import Record

__all__ = ["WindowSpec"]


class WindowSpec(Record):
    """What a set of windows was built from.

    Attributes
    ----------
    horizon : int
        Bars from the origin to the end of the label that is scored.
    horizons : tuple of int
        Every trained horizon; only the quantile task has several.
    quantile_levels, target_columns : tuple
        Of the quantile and of the forecast task; empty for every other.
    min_context_length : int
        Bars that every origin has; fewer than ``context_length`` where contexts may be masked.
    instruments : tuple of str
        Names by code; one empty name where the table is no panel.
    time_name, time_zone : str
        Of the index that the features had.
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
    context_reach: str = "series"
    min_context_length: int
    time_name: str = "session"
    time_zone: str | None = None
    fold: int = 0
    n_folds: int = 1

    @model_validator(mode="before")
    @classmethod
    def _one_horizon_and_whole_contexts(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not {"horizon", "context_length"} <= set(values):
            return values
        usual = {"horizons": (values["horizon"],), "min_context_length": values["context_length"]}
        return {**usual, **values}
