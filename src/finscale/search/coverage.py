"""Which depths, widths and heads of a grid a search has tried."""

from collections.abc import Sequence

import pandas as pd
from optuna.trial import FrozenTrial

from finscale.core.config import Record
from finscale.search.proposals import has_result

__all__ = ["Coverage", "coverage"]

_COVERED = ("n_layers", "d_model", "n_heads")


class Coverage(Record):
    """One dimension of a grid.

    Parameters
    ----------
    dimension : str
        Its name.
    in_grid : tuple of int
        Every value that the grid has.
    tried : tuple of int
        Values of trials with a result; supplemental ones may lie outside of the grid.
    """

    dimension: str
    in_grid: tuple[int, ...]
    tried: tuple[int, ...]

    @property
    def missing(self) -> tuple[int, ...]:
        """Values of the grid that no trial had."""
        return tuple(value for value in self.in_grid if value not in self.tried)


def coverage(table: pd.DataFrame, trials: Sequence[FrozenTrial]) -> tuple[Coverage, ...]:
    """Compare the trials that came to a result with the table that they were drawn from."""
    shapes = [trial.user_attrs for trial in trials if has_result(trial)]
    return tuple(
        Coverage(
            dimension=name,
            in_grid=tuple(sorted(int(value) for value in table[name].unique())),
            tried=tuple(sorted({shape[name] for shape in shapes})),
        )
        for name in _COVERED
    )
