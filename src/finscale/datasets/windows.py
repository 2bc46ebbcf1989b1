"""The window data of one experiment at one horizon, as catalog datasets."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from finscale.core.files import read_json
from finscale.datasets.atomic import TablePreview
from finscale.windows.data import MANIFEST, WindowData, load_windows, save_windows
from finscale.windows.folds import fold_folder, load_later_folds, save_later_folds
from finscale.windows.tasks import parse_task

__all__ = ["LaterFoldsDataset", "WindowsDataset"]


class _WindowsFolder(AbstractDataset[Any, Any]):
    """A folder of windows, and the memory that their values may take."""

    def __init__(
        self, *, filepath: str, max_ram_gb: float | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        self._path = Path(filepath)
        self._max_ram_gb = max_ram_gb
        self.metadata = metadata

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path), "max_ram_gb": self._max_ram_gb}


class WindowsDataset(_WindowsFolder):
    """Feature matrix, targets and split origins, in a folder (see `finscale.windows.data.save_windows`).

    Parameters
    ----------
    max_ram_gb : float, optional
        Feature values larger than this many GiB are read as a memory map.
    """

    def load(self) -> WindowData:
        return load_windows(self._path)

    def save(self, data: WindowData) -> None:
        save_windows(self._path, data, max_ram_gb=self._max_ram_gb)

    def preview(self) -> TablePreview:
        """Return one row per split: windows, first and last origin and, of a binary task, the positives."""
        windows = self.load()
        rows = [_told(windows, split) for split, origins in windows.origins.items() if len(origins)]
        columns = ["split", "windows", "first origin", "last origin", "share of positives"]
        return TablePreview({"index": list(range(len(rows))), "columns": columns, "data": rows})

    def _exists(self) -> bool:
        return (self._path / MANIFEST).exists()


class LaterFoldsDataset(_WindowsFolder):
    """Folds 1, 2, ... of a walk-forward below the folder of the first; an empty list without one.

    Parameters
    ----------
    max_ram_gb : float, optional
        As in `WindowsDataset`, for each fold.
    """

    def load(self) -> list[WindowData]:
        return load_later_folds(self._path)

    def save(self, data: list[WindowData]) -> None:
        save_later_folds(self._path, data, max_ram_gb=self._max_ram_gb)

    def _exists(self) -> bool:
        """Whether every fold that the first one speaks of is there."""
        first = self._path / MANIFEST
        if not first.exists():
            return False
        n_folds = read_json(first).get("spec", {}).get("n_folds", 1)
        return all((fold_folder(self._path, fold) / MANIFEST).exists() for fold in range(1, n_folds))


def _told(windows: WindowData, split: str) -> list[str | int | float]:
    binary = parse_task(windows.spec.task).kind == "binary"
    share = round(float(windows.targets_at(split).mean()), 4) if binary else "-"
    return [split, len(windows.origins[split]), *_first_and_last(windows, split), share]


def _first_and_last(windows: WindowData, split: str) -> tuple[str, str]:
    """Days of the first and last origin or, of sequences, which have none, their names."""
    if windows.spec.time_name == "position":
        codes = windows.instruments[windows.origins[split]]
        return windows.spec.instruments[codes[0]], windows.spec.instruments[codes[-1]]
    days = windows.dates_at(split).astype("datetime64[D]")
    return str(days.min()), str(days.max())
