"""Windows gathered on the device: B windows of T rows by one indexing operation.

B batch, T context, F features, H trained horizons, h horizon, C target columns. Memory-mapped values stay
on the host and only the gathered windows travel.
"""

import warnings

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from finscale.models.contract import Batch
from finscale.windows.data import WindowData

__all__ = ["DeviceWindows"]


class DeviceWindows:
    """The feature matrix and targets of a `WindowData` on a device.

    Parameters
    ----------
    data : WindowData
    device : torch.device or str
    """

    def __init__(self, data: WindowData, device: torch.device | str) -> None:
        self._device = torch.device(device)
        home = torch.device("cpu") if isinstance(data.values, np.memmap) else self._device
        self._length, self._n_features = data.spec.context_length, data.n_features
        self._values = _shared(data.values).to(home)
        self._targets = torch.tensor(data.targets, device=self._device)
        self._starts = torch.tensor(data.context_starts, device=home)
        self._whole = None if _masked(data) else _every_context(self._values, self._length)
        self._offsets = torch.arange(1 - self._length, 1, device=home)
        self._ahead = torch.arange(1, data.spec.horizon + 1, device=home)
        columns = [data.spec.features.index(name) for name in data.spec.target_columns]
        self._columns = torch.tensor(columns, dtype=torch.int64, device=home) if columns else None

    def gather(self, origins: Int[Tensor, " B"]) -> Batch:
        """Return the contexts (B, T, F) that end at ``origins``: rows of `WindowData.origins`, on the device.

        Steps that a context may not show are zero and False in ``mask`` (B, T); there is no mask where
        every origin of the data has a whole context.
        """
        rows = origins.to(self._values.device)
        if self._whole is not None:
            values = self._whole.index_select(0, rows - (self._length - 1))
            return Batch(values=values.view(-1, self._length, self._n_features).to(self._device))
        steps = rows[:, None] + self._offsets
        mask = steps >= self._starts[rows][:, None]
        values = self._values[steps.clamp(min=0)].masked_fill(~mask[:, :, None], 0)
        return Batch(values=values.to(self._device), mask=mask.to(self._device))

    def targets(self, origins: Int[Tensor, " B"]) -> Float[Tensor, " B *shape"]:
        """Return the targets at ``origins``: (B,), (B, H) or, of a forecast, (B, h, C) standardised."""
        if self._columns is None:
            return self._targets.index_select(0, origins)
        steps = origins.to(self._values.device)[:, None] + self._ahead
        return self._values[steps[:, :, None], self._columns].to(self._device)


def _masked(data: WindowData) -> bool:
    """Whether some origin has less than a whole context."""
    first = 1 - data.spec.context_length
    return any((rows + first < data.context_starts[rows]).any() for rows in data.origins.values())


def _shared(values: NDArray[np.float32]) -> Tensor:
    """A tensor over the same memory; a map is read-only, of which torch warns: nothing here writes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(values)


def _every_context(values: Float[Tensor, "n_rows F"], length: int) -> Float[Tensor, "n_windows TF"]:
    """All whole contexts as rows of one overlapping view: a window's T F numbers lie side by side."""
    n_rows, n_features = values.shape
    return values.as_strided((n_rows - length + 1, length * n_features), (n_features, 1))
