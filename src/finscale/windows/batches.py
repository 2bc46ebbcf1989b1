"""Windows gathered on the device: B windows of T rows by one indexing operation.

B batch, T context, F features, K categorical columns, H trained horizons, h horizon, C target columns.
Memory-mapped values stay on the host and only the gathered windows travel.
"""

import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int, Shaped
from numpy.typing import NDArray
from torch import Tensor

from finscale.models.contract import Batch
from finscale.windows.calendar import calendar_fields
from finscale.windows.data import WindowData
from finscale.windows.tasks import parse_task

__all__ = ["DeviceWindows"]


class _Contexts:
    """Columns (n_rows, K) of which contexts of T rows are cut."""

    def __init__(self, columns: Tensor, length: int, *, whole: bool) -> None:
        self._columns, self._n_columns, self._length = columns, columns.shape[1], length
        self._whole = _every_context(columns, length) if whole else None
        self._offsets = torch.arange(1 - length, 1, device=columns.device)

    def cut(self, rows: Int[Tensor, " B"], mask: Bool[Tensor, "B T"] | None) -> Shaped[Tensor, "B T K"]:
        """Return the contexts that end at ``rows``; zero where the mask is False."""
        if self._whole is not None:
            flat = self._whole.index_select(0, rows - (self._length - 1))
            return flat.view(-1, self._length, self._n_columns)
        assert mask is not None
        steps = (rows[:, None] + self._offsets).clamp(min=0)
        return self._columns[steps].masked_fill(~mask[:, :, None], 0)


class DeviceWindows:
    """The feature matrix and targets of a `WindowData` on a device.

    Parameters
    ----------
    data : WindowData
    device : torch.device or str
    origins : int64 array (n,), optional
        Rows that will be asked for, where they are not those of the splits.
    calendar : bool
        Whether windows come with their calendar (`finscale.models.config.reads_calendar`).
    """

    def __init__(
        self,
        data: WindowData,
        device: torch.device | str,
        *,
        origins: NDArray[np.int64] | None = None,
        calendar: bool = False,
    ) -> None:
        self._device = torch.device(device)
        self._home = torch.device("cpu") if isinstance(data.values, np.memmap) else self._device
        length, whole = data.spec.context_length, not _masked(data, origins)
        self._values, codes = (_shared(part).to(self._home) for part in (data.values, data.categories))
        self._bars = _Contexts(self._values, length, whole=whole) if data.spec.features else None
        self._codes = _Contexts(codes, length, whole=whole) if data.spec.categories else None
        fields = _shared(calendar_fields(data)).to(self._home) if calendar else None
        self._calendar = None if fields is None else _Contexts(fields, length, whole=whole)
        self._symbols = data.spec.shows_symbols
        self._starts = None if whole else torch.tensor(data.context_starts, device=self._home)
        self._offsets = torch.arange(1 - length, 1, device=self._home)
        self._targets = torch.tensor(_targets(data), device=self._device)
        self._ahead = torch.arange(1, data.spec.horizon + 1, device=self._home)
        columns = _forecast_columns(data)
        self._columns = torch.tensor(columns, dtype=torch.int64, device=self._home) if columns else None

    def gather(self, origins: Int[Tensor, " B"]) -> Batch:
        """Return the contexts that end at ``origins``: rows of `WindowData.origins`, on the device.

        ``values`` (B, T, F) and ``categories`` (B, T, K) where there are such columns; ``tokens`` (B, T)
        where a row is a symbol; ``calendar`` (B, T, 4) where it was asked for. Steps that a context may not
        show are zero and False in ``mask`` (B, T); there is no mask where every origin of the data has a
        whole context.
        """
        rows = origins.to(self._home)
        shown = None if self._starts is None else rows[:, None] + self._offsets >= self._starts[rows][:, None]
        values = self._bars.cut(rows, shown).to(self._device) if self._bars else None
        codes = self._codes.cut(rows, shown).to(self._device).long() if self._codes else None
        fields = self._calendar.cut(rows, shown).to(self._device).long() if self._calendar else None
        mask = None if shown is None else shown.to(self._device)
        if self._symbols and codes is not None:
            return Batch(tokens=codes[:, :, 0], mask=mask, calendar=fields)
        return Batch(values=values, categories=codes, mask=mask, calendar=fields)

    def targets(self, origins: Int[Tensor, " B"]) -> Shaped[Tensor, " B *shape"]:
        """Return the targets at ``origins``: (B,), (B, H), of a forecast (B, h, C) standardised.

        Of classes the codes (B, C), int64.
        """
        if self._columns is None:
            return self._targets.index_select(0, origins)
        steps = origins.to(self._home)[:, None] + self._ahead
        return self._values[steps[:, :, None], self._columns].to(self._device)


def _targets(data: WindowData) -> NDArray[Any]:
    """Codes of classes as whole numbers; no origin asks for those that are not known."""
    classes = parse_task(data.spec.task).kind == "classes"
    return np.nan_to_num(data.targets).astype(np.int64) if classes else data.targets


def _forecast_columns(data: WindowData) -> list[int]:
    """Places of the columns of a forecast; none for other tasks."""
    names = data.spec.target_columns if parse_task(data.spec.task).kind == "forecast" else ()
    return [data.spec.features.index(name) for name in names]


def _masked(data: WindowData, origins: NDArray[np.int64] | None) -> bool:
    """Whether some origin has less than a whole context."""
    first = 1 - data.spec.context_length
    asked = data.origins.values() if origins is None else (origins,)
    return any((rows + first < data.context_starts[rows]).any() for rows in asked)


def _shared(values: NDArray[Any]) -> Tensor:
    """A tensor, row by row, over the same memory where that is how it lies.

    A map is read-only, of which torch warns: nothing here writes.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(values))


def _every_context(values: Shaped[Tensor, "n_rows F"], length: int) -> Shaped[Tensor, "n_windows TF"]:
    """All whole contexts as rows of one overlapping view: a window's T F numbers lie side by side."""
    n_rows, n_features = values.shape
    return values.as_strided((n_rows - length + 1, length * n_features), (n_features, 1))
