"""Catalog datasets whose files are replaced whole: a reader never meets half a table."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NewType

import pandas as pd
from kedro.io import AbstractDataset, DatasetError

from finscale.core.errors import Fault
from finscale.core.files import read_json, replacing, write_json, write_text

__all__ = [
    "DocumentsDataset",
    "FiguresDataset",
    "FolderDataset",
    "JSONDataset",
    "KeyedParquetDataset",
    "ParquetDataset",
    "PlotlyDataset",
    "TablesDataset",
    "TablesOnDemandDataset",
    "TextDataset",
    "plain_figure",
    "plotly_preview",
]

# kedro-viz recognises a preview by the *name* of its annotation
TablePreview = NewType("TablePreview", dict)
JSONPreview = NewType("JSONPreview", str)
PlotlyPreview = NewType("PlotlyPreview", dict)

_PREVIEW_ROWS = 20
_ON_ANY_GROUND = "#8d97a5"


class _FileDataset(AbstractDataset[Any, Any]):
    """One file, replaced atomically.

    Parameters
    ----------
    filepath : str
        Where it lies.
    optional : bool
        A missing file loads as None, and the node that reads it decides.
    """

    def __init__(
        self, *, filepath: str, optional: bool = False, metadata: dict[str, Any] | None = None
    ) -> None:
        self._filepath = Path(filepath)
        self._optional = optional
        self.metadata = metadata

    @property
    def _absent(self) -> bool:
        return self._optional and not self._filepath.exists()

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


class JSONDataset(_FileDataset):
    """A JSON document; NaN is refused, because no other reader would take it."""

    def load(self) -> Any:
        return None if self._absent else read_json(self._filepath)

    def save(self, data: Any) -> None:
        write_json(self._filepath, data)

    def preview(self) -> JSONPreview:
        """Return the document as text."""
        return JSONPreview(json.dumps(self.load()))


class TextDataset(_FileDataset):
    """A text file (HTML, Markdown, JSON lines)."""

    def load(self) -> str:
        return self._filepath.read_text(encoding="utf-8")

    def save(self, data: str) -> None:
        write_text(self._filepath, data)


class PlotlyDataset(_FileDataset):
    """A Plotly figure as JSON."""

    def load(self) -> Any:
        import plotly.io

        return plotly.io.from_json(self._filepath.read_text(encoding="utf-8"))

    def save(self, data: Any) -> None:
        _write_figure(self._filepath, data)

    def preview(self) -> PlotlyPreview:
        """Return the figure as Plotly JSON."""
        return plotly_preview(read_json(self._filepath))


class ParquetDataset(_FileDataset):
    """A data frame; its ``attrs`` travel with it."""

    def load(self) -> pd.DataFrame | None:
        return None if self._absent else _read_parquet(self._filepath)

    def save(self, data: pd.DataFrame) -> None:
        _write_parquet(self._filepath, data)

    def preview(self, nrows: int = _PREVIEW_ROWS) -> TablePreview:
        """Return the first rows."""
        return _table(_read_parquet(self._filepath).head(nrows))


class KeyedParquetDataset(AbstractDataset[pd.DataFrame, pd.DataFrame]):
    """A data frame filed under its own content: ``{name}`` in the path is filled from ``frame.attrs``.

    A small pointer file says which one is current, so that the same folder serves many contents.

    Parameters
    ----------
    filepath : str
        Path with ``{...}`` fields, e.g. ``04_feature/{data_hash}/{feature_set}.parquet``.
    pointer : str
        JSON file that holds the path saved last.
    """

    def __init__(self, *, filepath: str, pointer: str, metadata: dict[str, Any] | None = None) -> None:
        self._template = filepath
        self._pointer = Path(pointer)
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        return _read_parquet(self._current())

    def save(self, data: pd.DataFrame) -> None:
        path = Path(self._template.format_map(data.attrs))
        _write_parquet(path, data)
        write_json(self._pointer, {"path": path.relative_to(self._folder).as_posix()})

    def preview(self, nrows: int = _PREVIEW_ROWS) -> TablePreview:
        """Return the first rows."""
        return _table(self.load().head(nrows))

    @property
    def _folder(self) -> Path:
        return Path(self._template[: self._template.index("{")].rpartition("/")[0])

    def _current(self) -> Path:
        found = self._folder / read_json(self._pointer)["path"]
        if not found.resolve().is_relative_to(self._folder.resolve()):
            raise Fault(
                str(self._pointer), "point into its own folder", str(found), "delete it and run again"
            )
        return found

    def _exists(self) -> bool:
        return self._pointer.exists() and self._current().exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._template, "pointer": str(self._pointer)}


class FolderDataset(AbstractDataset[Path, Path]):
    """A folder handed to domain code that reads and writes inside it. Read-only as a dataset."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(filepath)
        self.metadata = metadata

    def load(self) -> Path:
        return self._path

    def save(self, data: Path) -> None:
        raise DatasetError("A folder is written by the code that it is handed to, not saved as a whole")

    def _exists(self) -> bool:
        return self._path.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}


class _FoldersDataset(AbstractDataset[None, dict[str, Any]]):
    """The same file from many places, e.g. from every finished cell. Read-only.

    Parameters
    ----------
    path : str
        Folder to look in.
    pattern : str
        Glob of the files. One is known by the part of its path that the pattern's first component matched:
        the cell's folder in ``*_h*/runs.parquet``, the file's stem in ``grid_*.parquet``.
    """

    def __init__(self, *, path: str, pattern: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(path)
        self._pattern = pattern
        self.metadata = metadata

    def load(self) -> dict[str, Any]:
        return {self._name(found): self._read(found) for found in self._files()}

    def save(self, data: None) -> None:
        raise DatasetError("These files are written one by one by the runs that own them")

    def _read(self, path: Path) -> Any:
        raise NotImplementedError

    def _name(self, found: Path) -> str:
        first, *rest = found.relative_to(self._path).parts
        return first if rest else found.stem

    def _files(self) -> list[Path]:
        return sorted(self._path.glob(self._pattern))

    def _exists(self) -> bool:
        return bool(self._files())

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path), "pattern": self._pattern}


class TablesDataset(_FoldersDataset):
    """The same Parquet table from many places."""

    def _read(self, path: Path) -> pd.DataFrame:
        return _read_parquet(path)


class TablesOnDemandDataset(_FoldersDataset):
    """The same, where all at once would fill the memory: each is a function that reads it."""

    def _read(self, path: Path) -> Callable[[], pd.DataFrame]:
        return partial(_read_parquet, path)


class DocumentsDataset(_FoldersDataset):
    """The same JSON document from many places."""

    def _read(self, path: Path) -> Any:
        return read_json(path)


class FiguresDataset(AbstractDataset[dict[str, Any], dict[str, Any]]):
    """Plotly figures by name, one self-contained JSON file each."""

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(path)
        self.metadata = metadata

    def load(self) -> dict[str, Any]:
        import plotly.io

        return {
            file.stem: plotly.io.from_json(file.read_text("utf-8"))
            for file in sorted(self._path.glob("*.json"))
        }

    def save(self, data: dict[str, Any]) -> None:
        for name, figure in data.items():
            _write_figure(self._path / f"{name}.json", figure)

    def _exists(self) -> bool:
        return self._path.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path)}


def plain_figure(figure: Any) -> dict[str, Any]:
    """Return a Plotly figure as plain JSON values: lists, not the packed arrays that older readers miss."""
    from plotly.utils import PlotlyJSONEncoder

    parts = {
        "data": [trace.to_plotly_json() for trace in figure.data],
        "layout": figure.layout.to_plotly_json(),
    }
    plain: dict[str, Any] = json.loads(json.dumps(parts, cls=PlotlyJSONEncoder))
    return plain


def plotly_preview(figure: dict[str, Any]) -> PlotlyPreview:
    """Return a plain figure in ink that can be read on kedro viz's dark and light pages alike."""
    from finscale.reporting.template import INK

    return PlotlyPreview(json.loads(json.dumps(figure).replace(INK, _ON_ANY_GROUND)))


def _write_figure(path: Path, figure: Any) -> None:
    """Without indentation, which would double a page of curves."""
    write_text(path, json.dumps(plain_figure(figure), allow_nan=False))


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        raise Fault(str(path), "exist", "no such file", "run the pipeline that writes it") from None
    except (OSError, ValueError) as error:
        raise Fault(str(path), "be readable Parquet", str(error), "delete it and run again") from None


def _write_parquet(path: Path, frame: pd.DataFrame) -> None:
    with replacing(path) as temporary:
        frame.to_parquet(temporary)


def _table(frame: pd.DataFrame) -> TablePreview:
    shown = frame.reset_index() if frame.index.name else frame
    return TablePreview(json.loads(shown.to_json(orient="split", date_format="iso", index=False)))
