"""Named tensors in one safetensors file: loading it never runs code."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from finscale.core.errors import Fault
from finscale.core.files import replacing

__all__ = ["WeightsDataset"]


class WeightsDataset(AbstractDataset[dict[str, Any], dict[str, Any]]):
    """``{name: tensor}``, replaced atomically."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> dict[str, Any]:
        """Return the tensors."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        remedy = "run the pipeline that writes it"
        try:
            return load_file(self._filepath)
        except (OSError, SafetensorError) as error:
            raise Fault(str(self._filepath), "be a readable safetensors file", str(error), remedy) from None

    def save(self, data: dict[str, Any]) -> None:
        """Replace the file."""
        from safetensors.torch import save_file

        with replacing(self._filepath) as temporary:
            save_file(data, temporary)

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
