"""Normalisation of a token over its width."""

from torch import nn

__all__ = ["layer_norm"]


def layer_norm(d_model: int) -> nn.LayerNorm:
    """Return the norm of every model: LayerNorm with weight and bias (Ba et al. 2016)."""
    return nn.LayerNorm(d_model, eps=1e-5)
