"""Content hashes: identity is what a thing holds, never where it stands in a list."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel

__all__ = ["content_hash", "file_hash"]


def content_hash(*parts: Any, length: int = 12) -> str:
    """Return the hex SHA-256 of the canonical form of ``parts``, cut to ``length`` digits.

    Mappings are ordered by key; records, arrays and data frames hash by their content.
    """
    digest = hashlib.sha256()
    for part in parts:
        _feed(digest, part)
    return digest.hexdigest()[:length]


def file_hash(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _feed(digest: Any, part: Any) -> None:
    if isinstance(part, pd.DataFrame | pd.Series):
        _feed_frame(digest, part)
    elif isinstance(part, np.ndarray):
        digest.update(f"array{part.dtype.str}{part.shape}".encode())
        digest.update(np.ascontiguousarray(part).tobytes())
    else:
        canonical = json.dumps(_plain(part), sort_keys=True, separators=(",", ":"))
        digest.update(f"json{len(canonical)}:{canonical}".encode())


def _feed_frame(digest: Any, frame: pd.DataFrame | pd.Series) -> None:
    columns = frame.columns if isinstance(frame, pd.DataFrame) else [frame.name]
    digest.update(f"frame{frame.shape}{[str(column) for column in columns]}".encode())
    if isinstance(frame.index, pd.MultiIndex):
        # pandas hashes a MultiIndex tuple by tuple, a hundred times slower than its levels as columns
        frame = frame.reset_index()
    digest.update(pd.util.hash_pandas_object(frame, index=True).to_numpy().tobytes())


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="json"))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, PurePath | pd.Timestamp):
        return str(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"content_hash cannot read a {type(value).__name__}")
