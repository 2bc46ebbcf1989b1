"""The Optuna study of a cell: read-only, previewed in kedro viz as its optimisation history."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from finscale.datasets.atomic import PlotlyPreview, plain_figure, plotly_preview

__all__ = ["StudyDataset"]


class StudyDataset(AbstractDataset[Path, str]):
    """Loads as the study's storage URL, for `optuna.load_study` or optuna-dashboard.

    Parameters
    ----------
    filepath : str
        The SQLite file that the search writes.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> str:
        return f"sqlite:///{self._filepath}"

    def save(self, data: Path) -> None:
        """Check that the search wrote it where the catalog expects it; nothing is written here."""
        if data.resolve() != self._filepath.resolve() or not data.exists():
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
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
