"""Build any model from its config; the one dictionary of families. Importing it does not import torch."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from finscale.models.config import (
    AnyConfig,
    DLinearConfig,
    MigtTvdtConfig,
    ModelConfig,
    NaiveConfig,
    PatchTSTConfig,
    TransformerConfig,
    parse_model_config,
)

if TYPE_CHECKING:
    from torch import nn

__all__ = ["BUILDERS", "ModelConfig", "build_meta_model", "build_model", "parse_model_config"]


def _patchtst(config: PatchTSTConfig, **sizes: int) -> "nn.Module":
    from finscale.models.patchtst import PatchTST

    return PatchTST(config, **sizes)


def _transformer(config: TransformerConfig, **sizes: int) -> "nn.Module":
    from finscale.models.transformer import Transformer

    return Transformer(config, **sizes)


def _migt_tvdt(config: MigtTvdtConfig, **sizes: int) -> "nn.Module":
    from finscale.models.migt_tvdt import MigtTvdt

    return MigtTvdt(config, **sizes)


def _dlinear(config: DLinearConfig, **sizes: int) -> "nn.Module":
    from finscale.models.dlinear import DLinear

    return DLinear(config, **sizes)


def _naive(config: NaiveConfig, **sizes: int) -> "nn.Module":
    from finscale.models.naive import Naive

    return Naive(config, **sizes)


BUILDERS: dict[str, Callable[..., "nn.Module"]] = {
    "patchtst": _patchtst,
    "transformer": _transformer,
    "migt_tvdt": _migt_tvdt,
    "dlinear": _dlinear,
    "naive": _naive,
}
"""By family: ``builder(config, n_features=, context_length=, n_outputs=)``, weights not yet initialised.

A decoder of symbols takes its sizes from its vocabulary and needs none of the three.
"""


def build_model(
    config: AnyConfig, *, n_features: int, context_length: int, n_outputs: int = 1, seed: int
) -> "nn.Module":
    """Return a model on the CPU with weights drawn from ``seed``; the global random state is untouched.

    Parameters
    ----------
    config : model config
        Of any family.
    n_features, context_length : int
        F and T of the windows.
    n_outputs : int
        C of a logits head (1 for a binary target, and under every other head).
    seed : int
        Equal seeds give bit-equal weights.
    """
    import torch

    from finscale.models.initialise import initialise

    with torch.random.fork_rng(devices=[]):
        model = _build(config, n_features, context_length, n_outputs)
    initialise(model, seed=seed, kind=getattr(config, "initialisation", "scaled"))
    return model


def build_meta_model(
    config: AnyConfig, *, n_features: int, context_length: int, n_outputs: int = 1
) -> "nn.Module":
    """Return the model on the meta device: every shape, no memory, no weights."""
    import torch

    with torch.device("meta"):
        return _build(config, n_features, context_length, n_outputs)


def _build(config: Any, n_features: int, context_length: int, n_outputs: int) -> "nn.Module":
    builder = BUILDERS[config.family]
    return builder(config, n_features=n_features, context_length=context_length, n_outputs=n_outputs)
