"""The window data of one experiment at one horizon, as a catalog dataset."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from finscale.datasets.atomic import TablePreview
from finscale.windows.data import WindowData, load_windows, save_windows

__all__ = ["WindowsDataset"]


class WindowsDataset(AbstractDataset[WindowData, WindowData]):
    """Feature matrix, targets and split origins: ``rows.parquet`` and ``windows.json`` in a folder."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(filepath)
        self.metadata = metadata

    def load(self) -> WindowData:
        return load_windows(self._path)

    def save(self, data: WindowData) -> None:
        save_windows(self._path, data)

    def preview(self) -> TablePreview:
        """Return one row per split: windows, first and last origin, share of positives."""
        windows = self.load()
        rows = [
            [split, len(rows), str(windows.dates_at(split)[0])[:10], str(windows.dates_at(split)[-1])[:10],
             round(float(windows.targets_at(split).mean()), 4)]
            for split, rows in windows.origins.items()
        ]  # fmt: skip
        columns = ["split", "windows", "first origin", "last origin", "share of positives"]
        return TablePreview({"index": list(range(len(rows))), "columns": columns, "data": rows})

    def _exists(self) -> bool:
        return (self._path / "windows.json").exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}
