"""Build any model from its config; the one dictionary of families. Importing it does not import torch."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from finscale.models.config import ModelConfig, PatchTSTConfig, TransformerConfig, parse_model_config

if TYPE_CHECKING:
    from torch import nn

__all__ = ["BUILDERS", "ModelConfig", "build_meta_model", "build_model", "parse_model_config"]

Config = PatchTSTConfig | TransformerConfig


def _patchtst(config: PatchTSTConfig, **sizes: int) -> "nn.Module":
    from finscale.models.patchtst import PatchTST

    return PatchTST(config, **sizes)


def _transformer(config: TransformerConfig, **_: int) -> "nn.Module":
    from finscale.models.transformer import Transformer

    return Transformer(config)


BUILDERS: dict[str, Callable[..., "nn.Module"]] = {"patchtst": _patchtst, "transformer": _transformer}
"""By family: ``builder(config, n_features=, context_length=, n_outputs=)``, weights not yet initialised.

A symbol decoder takes its sizes from its vocabulary and uses none of the three.
"""


def build_model(
    config: Config, *, n_features: int, context_length: int, n_outputs: int = 1, seed: int
) -> "nn.Module":
    """Return a model on the CPU with weights drawn from ``seed``; the global random state is untouched.

    Parameters
    ----------
    config : model config
        Of any family.
    n_features, context_length : int
        F and T of the windows.
    n_outputs : int
        C of the head (1 for a binary target).
    seed : int
        Equal seeds give bit-equal weights.
    """
    import torch

    from finscale.models.initialise import initialise

    with torch.random.fork_rng(devices=[]):
        model = _build(config, n_features, context_length, n_outputs)
    initialise(model, seed=seed)
    return model


def build_meta_model(
    config: Config, *, n_features: int, context_length: int, n_outputs: int = 1
) -> "nn.Module":
    """Return the model on the meta device: every shape, no memory, no weights."""
    import torch

    with torch.device("meta"):
        return _build(config, n_features, context_length, n_outputs)


def _build(config: Any, n_features: int, context_length: int, n_outputs: int) -> "nn.Module":
    builder = BUILDERS[config.family]
    return builder(config, n_features=n_features, context_length=context_length, n_outputs=n_outputs)
