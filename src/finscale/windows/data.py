"""Windows without copies: one feature matrix, one target vector, and the origins of each split.

n_rows rows of features, F features. An origin is the last row of its context.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow
from numpy.typing import NDArray

from finscale.core.config import Record
from finscale.core.errors import Fault
from finscale.core.files import read_json, replacing, write_json
from finscale.windows.standardize import Standardizer

__all__ = ["SPLITS", "WindowData", "WindowSpec", "load_windows", "save_windows"]

SPLITS = ("train", "val_select", "val_score", "test")
_ROWS, _MANIFEST = "rows.parquet", "windows.json"
_REMEDY = "delete the directory and run the dataset pipeline again"


class WindowSpec(Record):
    """What a set of windows was built from."""

    experiment: str
    task: str
    touch: str
    horizon: int
    context_length: int
    features: tuple[str, ...]
    data_hash: str
    title: str


@dataclass(frozen=True, eq=False)
class WindowData:
    """All windows of one experiment at one horizon.

    Attributes
    ----------
    values : float32 array (n_rows, F)
        Standardised features.
    targets : float32 array (n_rows,)
        0 or 1; NaN where the label is not known by the end of the data.
    dates : datetime64[ns] array (n_rows,)
    origins : dict of int64 array
        Rows at which a forecast is made, by split: train, val_select, val_score, test.
    """

    values: NDArray[np.float32]
    targets: NDArray[np.float32]
    dates: NDArray[np.datetime64]
    origins: dict[str, NDArray[np.int64]]
    spec: WindowSpec
    standardizer: Standardizer

    def __post_init__(self) -> None:
        n_rows, n_features = self.values.shape
        assert n_features == len(self.spec.features) == len(self.standardizer.mean)
        assert self.targets.shape == self.dates.shape == (n_rows,)
        assert tuple(self.origins) == SPLITS
        for rows in self.origins.values():
            assert rows.size == 0 or self.spec.context_length - 1 <= rows.min() <= rows.max() < n_rows
            assert not np.isnan(self.targets[rows]).any()

    @property
    def n_features(self) -> int:
        """F."""
        return self.values.shape[1]

    @property
    def base_rate(self) -> float:
        """Share of positives among the training origins."""
        return float(self.targets_at("train").mean(dtype=np.float64))

    def targets_at(self, split: str) -> NDArray[np.float32]:
        """Targets (n,) at the origins of a split."""
        return self.targets[self.origins[split]]

    def dates_at(self, split: str) -> NDArray[np.datetime64]:
        """Dates (n,) of the origins of a split."""
        return self.dates[self.origins[split]]


class _Manifest(Record):
    format: Literal["finscale-windows-1"]
    spec: WindowSpec
    mean: tuple[float, ...]
    std: tuple[float, ...]
    rows_sha256: str


def save_windows(directory: Path, data: WindowData) -> None:
    """Write ``rows.parquet`` (date, features, target, split) and, last, ``windows.json``.

    Each file is replaced atomically and the JSON holds the digest of the rows, so that a directory
    written halfway is recognised by `load_windows`.
    """
    with replacing(directory / _ROWS) as temporary:
        _frame(data).to_parquet(temporary, index=False)
        digest = _sha256(temporary)
    manifest = _Manifest(
        format="finscale-windows-1",
        spec=data.spec,
        mean=tuple(data.standardizer.mean.tolist()),
        std=tuple(data.standardizer.std.tolist()),
        rows_sha256=digest,
    )
    write_json(directory / _MANIFEST, manifest.model_dump(mode="json"))


def load_windows(directory: Path) -> WindowData:
    """Read what `save_windows` wrote.

    Raises
    ------
    Fault
        When the directory is missing, foreign, incomplete or damaged.
    """
    values = read_json(directory / _MANIFEST, remedy=_REMEDY)
    if not isinstance(values, dict) or values.get("format") != "finscale-windows-1":
        raise Fault(str(directory / _MANIFEST), "be a finscale window manifest", "another file", _REMEDY)
    manifest = _Manifest.read(values, subject=str(directory / _MANIFEST))
    frame = _read_rows(directory / _ROWS, manifest.rows_sha256)
    splits = frame["split"].to_numpy(dtype=object)
    return WindowData(
        values=frame[list(manifest.spec.features)].to_numpy(dtype=np.float32),
        targets=frame["target"].to_numpy(dtype=np.float32),
        dates=frame["date"].to_numpy(dtype="datetime64[ns]"),
        origins={split: np.flatnonzero(splits == split).astype(np.int64) for split in SPLITS},
        spec=manifest.spec,
        standardizer=Standardizer(mean=np.array(manifest.mean), std=np.array(manifest.std)),
    )


def _frame(data: WindowData) -> pd.DataFrame:
    splits = np.full(len(data.dates), "", dtype=object)
    for split, rows in data.origins.items():
        splits[rows] = split
    frame = pd.DataFrame(data.values, columns=list(data.spec.features))
    frame.insert(0, "date", data.dates)
    return frame.assign(target=data.targets, split=splits)


def _read_rows(path: Path, digest: str) -> pd.DataFrame:
    try:
        found = _sha256(path)
        if found != digest:
            raise Fault(str(path), f"have the digest {digest[:12]} of {_MANIFEST}", found[:12], _REMEDY)
        return pd.read_parquet(path)
    except FileNotFoundError:
        raise Fault(str(path), "exist", "no such file", _REMEDY) from None
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise Fault(str(path), "be readable Parquet", str(error), _REMEDY) from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
