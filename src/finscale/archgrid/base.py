"""What the architectures of a grid share, and the four dimensions in which they differ. No torch."""

import itertools
from collections.abc import Mapping
from typing import Any

from finscale.core.errors import Fault, FinscaleError
from finscale.models.config import MigtTvdtConfig, PatchTSTConfig, TransformerConfig, parse_model_config

__all__ = [
    "BASE",
    "DIMENSIONS",
    "D_FF_RATIOS",
    "FAMILIES",
    "N_HEADS",
    "N_LAYERS",
    "SMALL_BUDGET",
    "SMALL_WIDTHS",
]
__all__ += ["WIDTHS", "GridConfig", "grid_base", "parse_grid_base"]

WIDTHS = (64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
SMALL_WIDTHS = (8, 16, 24, 32, 48)
SMALL_BUDGET = 1_000_000
N_LAYERS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 160, 180, 192, 256)
N_HEADS = (2, 4, 8, 16, 32)
D_FF_RATIOS = (2, 4)

GridConfig = PatchTSTConfig | TransformerConfig | MigtTvdtConfig
"""A config with the four dimensions of a grid."""

FAMILIES: dict[str, type[GridConfig]] = {
    "patchtst": PatchTSTConfig,
    "transformer": TransformerConfig,
    "migt_tvdt": MigtTvdtConfig,
}
"""The families that have a grid."""

BASE = PatchTSTConfig(d_model=64, n_layers=2, n_heads=2, d_ff=128)
"""What a grid keeps fixed (patches, pooling, dropout); its four dimensions are replaced row by row."""

DIMENSIONS = ("d_model", "n_layers", "n_heads", "d_ff")


def grid_base(family: str, settings: Mapping[str, Any]) -> GridConfig:
    """Return what a grid of ``family`` keeps fixed, at the first width and heads that accept ``settings``.

    Parameters
    ----------
    family : str
        One of `FAMILIES`.
    settings : mapping
        Plain values of its config, without the four dimensions.

    Raises
    ------
    FinscaleError
        Where no width and heads of the search space do: every fault at the first of them, at once.

    Examples
    --------
    >>> grid_base("transformer", {"attention": "gqa", "n_kv_heads": 4}).n_heads
    4
    """
    faults = []
    for d_model, n_heads in itertools.product(WIDTHS, N_HEADS):
        dimensions = {"d_model": d_model, "n_layers": N_LAYERS[0], "n_heads": n_heads, "d_ff": 2 * d_model}
        try:
            return FAMILIES[family].read({**settings, **dimensions}, subject=f"model.{family}")
        except FinscaleError as fault:
            faults.append(fault)
    raise faults[0]


def parse_grid_base(values: Mapping[str, Any]) -> GridConfig:
    """Read a whole model config and return it as what a grid of its family keeps fixed.

    Raises
    ------
    FinscaleError
        When it is faulty, or of a family without a grid.
    """
    base = parse_model_config(values)
    if not isinstance(base, GridConfig):
        rule, remedy = "have a grid of architectures", "train it alone, with --pipelines training"
        raise Fault("model.family", rule, base.family, remedy)
    return base
