"""Normalisation of a token over its width, or of a channel over all tokens.

B batch, T tokens, D d_model.
"""

from collections.abc import Callable
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["NORMS", "BatchNorm", "Norm", "batch_norm", "build_norm", "layer_norm", "rms_norm"]

Norm = Literal["layer_norm", "rms_norm", "batch_norm"]

_EPS = 1e-5


class BatchNorm(nn.BatchNorm1d):
    """Every channel over all tokens of the batch while training, by its running moments in evaluation.

    The norm of the published PatchTST (Nie et al. 2023). It knows of no padding. While ``steady`` is set the
    running moments stay as they are: a batch that is computed twice counts once.
    """

    steady = False

    def forward(self, x_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Normalise; the running moments move while training."""
        x_ND = x_BTD.flatten(0, 1)
        if not (self.steady and self.training):
            return super().forward(x_ND).view_as(x_BTD)
        moments, affine = (self.running_mean, self.running_var), (self.weight, self.bias)
        out_ND = functional.batch_norm(x_ND, *moments, *affine, training=True, momentum=0.0, eps=self.eps)
        return out_ND.view_as(x_BTD)


def layer_norm(d_model: int) -> nn.LayerNorm:
    """Return LayerNorm with weight and bias (Ba et al. 2016)."""
    return nn.LayerNorm(d_model, eps=_EPS)


def rms_norm(d_model: int) -> nn.RMSNorm:
    """Return the norm by the root mean square, with a weight alone (Zhang and Sennrich 2019)."""
    return nn.RMSNorm(d_model, eps=_EPS)


def batch_norm(d_model: int) -> BatchNorm:
    """Return `BatchNorm` with weight and bias."""
    return BatchNorm(d_model, eps=_EPS)


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "batch_norm": batch_norm,
}


def build_norm(norm: Norm, d_model: int) -> nn.Module:
    """Return the norm of that name over ``d_model`` channels."""
    return NORMS[norm](d_model)
