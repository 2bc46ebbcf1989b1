"""The model configurations joined in a tagged union, each read from plain values. No torch here."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from finscale.core.errors import Fault, suggest
from finscale.models.dlinear_config import DLinearConfig
from finscale.models.migt_tvdt_config import MigtTvdtConfig
from finscale.models.naive_config import NaiveConfig
from finscale.models.patchtst_config import PatchTSTConfig
from finscale.models.position_config import CalendarConfig
from finscale.models.transformer_config import TransformerConfig

__all__ = [
    "MODEL_CONFIGS",
    "AnyConfig",
    "DLinearConfig",
    "MigtTvdtConfig",
    "ModelConfig",
    "NaiveConfig",
    "PatchTSTConfig",
    "TransformerConfig",
    "parse_model_config",
    "reads_calendar",
]

AnyConfig = PatchTSTConfig | TransformerConfig | MigtTvdtConfig | DLinearConfig | NaiveConfig
ModelConfig = Annotated[AnyConfig, Field(discriminator="family")]

MODEL_CONFIGS: dict[str, type[AnyConfig]] = {
    "patchtst": PatchTSTConfig,
    "transformer": TransformerConfig,
    "migt_tvdt": MigtTvdtConfig,
    "dlinear": DLinearConfig,
    "naive": NaiveConfig,
}


def reads_calendar(config: Any) -> bool:
    """Whether the model of a config needs ``Batch.calendar``; it takes none otherwise."""
    return isinstance(getattr(config, "positions", None), CalendarConfig)


def parse_model_config(values: Mapping[str, Any], *, subject: str = "model") -> AnyConfig:
    """Read a model config of any family; every fault is raised at once.

    Parameters
    ----------
    values : mapping
        Plain values with their ``family``, as read from YAML, JSON or a grid row.
    subject : str
        Prefix of the field names in messages.

    Raises
    ------
    FinscaleError
        With one line per fault.

    Examples
    --------
    >>> parse_model_config(dict(family="patchtst", d_model=16, n_layers=2, n_heads=2, d_ff=32)).pooling
    'mean'
    """
    family = values.get("family")
    if family not in MODEL_CONFIGS:
        raise Fault(f"{subject}.family", "name a known model", family, suggest(str(family), MODEL_CONFIGS))
    return MODEL_CONFIGS[family].read(values, subject=subject)
