"""Windows without copies: one feature matrix, its targets, and the origins of each split.

n_rows rows of features, F features, H trained horizons, K categorical or target columns. An origin is the
last row of its context.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow
from numpy.typing import NDArray

from finscale.core.config import Record
from finscale.core.errors import Fault
from finscale.core.files import read_json, replacing, write_json
from finscale.core.hashing import file_hash
from finscale.windows.spec import WindowSpec
from finscale.windows.standardize import Standardizer
from finscale.windows.tasks import parse_task

__all__ = ["MANIFEST", "SPLITS", "WindowData", "WindowSpec", "load_windows", "save_windows", "target_shape"]

SPLITS = ("train", "val_select", "val_score", "test")
_FORMAT = "finscale-windows-2"
MANIFEST = "windows.json"
"""Written last: a folder without it holds no windows."""

_ROWS, _VALUES, _MAPPED = "rows.parquet", "values.parquet", "values.npy"
_REMEDY = "delete the directory and run the dataset pipeline again"
_GIB = 2**30
_LEFT_OUT: Any = None


@dataclass(frozen=True, eq=False)
class WindowData:
    """All windows of one experiment at one horizon, in one fold.

    The arrays after ``standardizer`` may be left out for one instrument of daily bars without a gap.

    Attributes
    ----------
    values : float32 array (n_rows, F)
        Standardised features; a read-only memory map where they are larger than the RAM they may take.
    targets : float32 array (n_rows,), (n_rows, H), (n_rows, K) or (n_rows, 0)
        Binary tasks: 0 or 1; regression: a return over ``scale``; quantile: one per trained horizon;
        classes: one code per target column; forecast: none, the next rows of ``values`` are. NaN where the
        future is not known.
    dates : datetime64[ns] array (n_rows,)
        The session, or the instant at which the bar opened, in UTC.
    origins : dict of int64 array
        Rows at which a forecast is made, by split: train, val_select, val_score, test.
    sessions : datetime64[ns] array (n_rows,)
        Trading day of each row.
    slots : int32 array (n_rows,)
        Place of the bar in its session; 0 unless intraday.
    instruments : int32 array (n_rows,)
        Codes into ``spec.instruments``.
    context_starts : int64 array (n_rows,)
        First row that a context ending here may show.
    scale : float32 array (n_rows,)
        Trailing volatility of one-bar log returns, known at the row; NaN where undefined.
    categories : int32 array (n_rows, K)
        Codes of ``spec.categories``, each counted from 0.
    """

    values: NDArray[np.float32]
    targets: NDArray[np.float32]
    dates: NDArray[np.datetime64]
    origins: dict[str, NDArray[np.int64]]
    spec: WindowSpec
    standardizer: Standardizer
    sessions: NDArray[np.datetime64] = _LEFT_OUT
    slots: NDArray[np.int32] = _LEFT_OUT
    instruments: NDArray[np.int32] = _LEFT_OUT
    context_starts: NDArray[np.int64] = _LEFT_OUT
    scale: NDArray[np.float32] = _LEFT_OUT
    categories: NDArray[np.int32] = _LEFT_OUT

    def __post_init__(self) -> None:
        for name, usual in _one_daily_instrument(self.dates).items():
            if getattr(self, name) is _LEFT_OUT:
                object.__setattr__(self, name, usual)
        if self.categories is _LEFT_OUT:
            object.__setattr__(self, "categories", np.zeros((len(self.dates), 0), dtype=np.int32))
        n_rows, n_features = self.values.shape
        assert n_features == len(self.spec.features) == len(self.standardizer.mean)
        assert self.targets.shape == (n_rows, *target_shape(self.spec))
        for name in ("dates", *_one_daily_instrument(self.dates)):
            assert getattr(self, name).shape == (n_rows,), name
        assert self.categories.shape == (n_rows, len(self.spec.categories))
        assert tuple(self.origins) == SPLITS
        for rows in self.origins.values():
            self._assert_complete(rows)

    def _assert_complete(self, origins: NDArray[np.int64]) -> None:
        """Every origin has its shortest context and a known target."""
        n_bars = origins - self.context_starts[origins] + 1
        assert (n_bars >= self.spec.min_context_length).all()
        assert not np.isnan(self.targets[origins]).any()
        if parse_task(self.spec.task).kind == "forecast":
            assert (origins + self.spec.horizon < len(self.dates)).all()

    @property
    def n_features(self) -> int:
        """F."""
        return self.values.shape[1]

    @property
    def base_rate(self) -> float:
        """Share of positives among the training origins of a binary task."""
        assert parse_task(self.spec.task).kind == "binary"
        return float(self.targets_at("train").mean(dtype=np.float64))

    @property
    def class_rates(self) -> NDArray[np.float64]:
        """Share of each label among the training origins of a classes task, column by column: (sum of C,)."""
        codes = self.targets_at("train").astype(np.int64)
        columns = zip(codes.T, self.spec.n_classes, strict=True)
        return np.concatenate([np.bincount(column, minlength=n) / len(codes) for column, n in columns])

    def without_categories(self) -> "WindowData":
        """Return the same windows for a model that reads real-valued columns only; targets stay."""
        spec = self.spec.model_copy(update={"categories": ()})
        return dataclasses.replace(self, spec=spec, categories=_LEFT_OUT)

    @property
    def index(self) -> pd.Index:
        """The index of the features, instrument and time, rebuilt: (n_rows,)."""
        times = pd.DatetimeIndex(self.dates, name=self.spec.time_name)
        if self.spec.time_zone is not None:
            times = times.tz_localize("UTC").tz_convert(self.spec.time_zone)
        if self.spec.instruments == ("",):
            return times
        names = pd.Index(self.spec.instruments).take(self.instruments)
        return pd.MultiIndex.from_arrays([names, times], names=["instrument", self.spec.time_name])

    def targets_at(self, split: str) -> NDArray[np.float32]:
        """Targets (n,), (n, H), (n, K) or (n, 0) at the origins of a split."""
        return self.targets[self.origins[split]]

    def dates_at(self, split: str) -> NDArray[np.datetime64]:
        """Dates (n,) of the origins of a split."""
        return self.dates[self.origins[split]]


def target_shape(spec: WindowSpec) -> tuple[int, ...]:
    """Return the shape of the target of one row."""
    shapes = {
        "quantile": (len(spec.horizons),),
        "classes": (len(spec.n_classes),),
        "forecast": (0,),
    }
    return shapes.get(parse_task(spec.task).kind, ())


def _one_daily_instrument(dates: NDArray[np.datetime64]) -> dict[str, NDArray[Any]]:
    n_rows = len(dates)
    return {
        "sessions": dates,
        "slots": np.zeros(n_rows, dtype=np.int32),
        "instruments": np.zeros(n_rows, dtype=np.int32),
        "context_starts": np.zeros(n_rows, dtype=np.int64),
        "scale": np.full(n_rows, np.nan, dtype=np.float32),
    }


class _Manifest(Record):
    format: Literal["finscale-windows-2"]
    spec: WindowSpec
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sha256: dict[Literal["rows.parquet", "values.parquet", "values.npy"], str]


def save_windows(directory: Path, data: WindowData, *, max_ram_gb: float | None = None) -> None:
    """Write ``rows.parquet`` (one row per bar), the feature values and, last, ``windows.json``.

    Each file is replaced atomically and the JSON holds their digests, so that a directory written halfway
    is recognised by `load_windows`.

    Parameters
    ----------
    max_ram_gb : float, optional
        Values larger than this many GiB become ``values.npy``, which is read as a memory map; smaller
        ones ``values.parquet``. None: always the latter.
    """
    mapped = max_ram_gb is not None and data.values.nbytes > max_ram_gb * _GIB
    values, other = (_MAPPED, _VALUES) if mapped else (_VALUES, _MAPPED)
    digests = {_ROWS: _write(directory / _ROWS, _rows_frame(data)), values: _write(directory / values, data)}
    manifest = {
        "format": _FORMAT,
        "spec": data.spec,
        "mean": data.standardizer.mean.tolist(),
        "std": data.standardizer.std.tolist(),
        "sha256": digests,
    }
    write_json(directory / MANIFEST, _Manifest.model_validate(manifest).model_dump(mode="json"))
    (directory / other).unlink(missing_ok=True)


def load_windows(directory: Path) -> WindowData:
    """Read what `save_windows` wrote.

    Raises
    ------
    Fault
        When the directory is missing, foreign, incomplete or damaged.
    """
    found = read_json(directory / MANIFEST, remedy=_REMEDY)
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        rule = f"be a finscale window manifest ({_FORMAT})"
        raise Fault(str(directory / MANIFEST), rule, "another file, or an older one", _REMEDY)
    manifest = _Manifest.read(found, subject=str(directory / MANIFEST))
    for name, digest in manifest.sha256.items():
        _check_digest(directory / name, digest)
    values = _MAPPED if _MAPPED in manifest.sha256 else _VALUES
    rows = _read_parquet(directory / _ROWS)
    shape = (len(rows), len(manifest.spec.features))
    return WindowData(
        values=_read_values(directory / values).reshape(shape),
        spec=manifest.spec,
        standardizer=Standardizer(mean=np.array(manifest.mean), std=np.array(manifest.std)),
        **_arrays(rows),
    )


def _rows_frame(data: WindowData) -> pd.DataFrame:
    splits = np.full(len(data.dates), "", dtype=object)
    for split, rows in data.origins.items():
        splits[rows] = split
    columns = {
        "date": data.dates,
        "session": data.sessions,
        "slot": data.slots,
        "instrument": data.instruments,
        "context_start": data.context_starts,
        "scale": data.scale,
        "split": splits,
    }
    codes = {f"category_{k}": column for k, column in enumerate(data.categories.T)}
    return pd.DataFrame(columns | codes | _target_columns(data))


def _target_columns(data: WindowData) -> dict[str, NDArray[np.float32]]:
    if data.targets.ndim == 1:
        return {"target": data.targets}
    classes = parse_task(data.spec.task).kind == "classes"
    names = data.spec.target_columns if classes else data.spec.horizons
    return {f"target_{name}": column for name, column in zip(names, data.targets.T, strict=False)}


def _arrays(frame: pd.DataFrame) -> dict[str, Any]:
    """The fields of `WindowData` that `_rows_frame` wrote."""
    splits = frame["split"].to_numpy(dtype=object)
    labels = [name for name in frame.columns if name.startswith("target")]
    targets = frame[labels].to_numpy(dtype=np.float32)
    codes = [name for name in frame.columns if name.startswith("category_")]
    return {
        "dates": frame["date"].to_numpy(dtype="datetime64[ns]"),
        "sessions": frame["session"].to_numpy(dtype="datetime64[ns]"),
        "slots": frame["slot"].to_numpy(dtype=np.int32),
        "instruments": frame["instrument"].to_numpy(dtype=np.int32),
        "context_starts": frame["context_start"].to_numpy(dtype=np.int64),
        "scale": frame["scale"].to_numpy(dtype=np.float32),
        "categories": frame[codes].to_numpy(dtype=np.int32),
        "targets": targets[:, 0] if labels == ["target"] else targets,
        "origins": {split: np.flatnonzero(splits == split).astype(np.int64) for split in SPLITS},
    }


def _write(path: Path, table: pd.DataFrame | WindowData) -> str:
    """Write rows or values in the format that ``path`` says and return the digest."""
    with replacing(path) as temporary:
        if isinstance(table, pd.DataFrame):
            table.to_parquet(temporary, index=False)
        elif path.name == _VALUES:
            frame = pd.DataFrame(table.values, columns=list(table.spec.features), copy=False)
            frame.to_parquet(temporary, index=False)
        else:
            with temporary.open("wb") as file:
                np.save(file, table.values, allow_pickle=False)
        return file_hash(temporary)


def _read_values(path: Path) -> NDArray[np.float32]:
    if path.name == _MAPPED:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    return np.ascontiguousarray(_read_parquet(path).to_numpy(dtype=np.float32))


def _check_digest(path: Path, digest: str) -> None:
    try:
        found = file_hash(path)
    except FileNotFoundError:
        raise Fault(str(path), "exist", "no such file", _REMEDY) from None
    if found != digest:
        raise Fault(str(path), f"have the digest {digest[:12]} of {MANIFEST}", found[:12], _REMEDY)


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise Fault(str(path), "be readable Parquet", str(error), _REMEDY) from None
