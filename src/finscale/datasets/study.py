"""The Optuna study of a cell, previewed in kedro viz as its optimisation history, and its winner."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from finscale.core.errors import Fault
from finscale.core.files import read_json
from finscale.datasets.atomic import JSONDataset, PlotlyPreview, plain_figure, plotly_preview

__all__ = ["BestParamsDataset", "StudyDataset"]


class StudyDataset(AbstractDataset[Path, Path]):
    """Loads as the study's folder, for `finscale.search.study.load_study`; a database's address is secret.

    Parameters
    ----------
    filepath : str
        The SQLite file that the search writes; a study in a database has a pointer beside that place.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> Path:
        return self._filepath.parent

    def save(self, data: Path) -> None:
        """Check that the search keeps it where the catalog expects it; nothing is written here."""
        if data.resolve() != self._filepath.parent.resolve() or not self._exists():
            raise DatasetError(f"The search wrote its study to {data}, the catalog expects {self._filepath}")

    def preview(self) -> PlotlyPreview:
        """Return every trial's loss in order, with the best so far."""
        from finscale.reporting.search_figures import optimisation_history
        from finscale.search.study import load_study
        from finscale.search.trials import trials_table

        trials = trials_table(load_study(self._filepath.parent))
        figure = optimisation_history(trials, title=self._filepath.parent.name)
        return plotly_preview(plain_figure(figure))

    def _exists(self) -> bool:
        from finscale.search.study import has_study

        return has_study(self._filepath.parent)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


class BestParamsDataset(JSONDataset):
    """``best_params.json``; missing or cut short, it is made anew from the study beside it."""

    def load(self) -> Any:
        from finscale.search.best import rebuild_best
        from finscale.search.study import has_study

        if not self._is_whole() and has_study(self._filepath.parent):
            rebuild_best(self._filepath.parent)
        return super().load()

    def _is_whole(self) -> bool:
        try:
            return isinstance(read_json(self._filepath), dict)
        except Fault:
            return False
