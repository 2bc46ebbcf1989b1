"""First weights, from a generator of their own.

Matrices start normal with variance 1 / fan_in, so that widths from 8 to 2048 start alike; what a block adds
to the residual stream starts smaller by sqrt(2 n_layers), so that depths do (Radford et al. 2019, GPT-2).
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from finscale.models.layers.block import Block
from finscale.models.layers.heads import ChannelLinear
from finscale.models.layers.instance_norm import InstanceNorm

__all__ = ["initialise"]

_FREE_STD = 0.02
_SCALES = (nn.LayerNorm, nn.RMSNorm, nn.BatchNorm1d, InstanceNorm)


def initialise(model: nn.Module, *, seed: int) -> None:
    """Set every parameter of ``model`` in place; equal seeds give equal weights on CPU.

    Linear and convolution weights are normal with variance 1 / fan_in, symbols with variance 1, free
    parameters (positions, class tokens) with standard deviation 0.02; norms start at 1, biases at 0.
    The global random state is neither read nor advanced.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                _fill(module, name, parameter, generator)
        _calm_residual_branches([module for module in model.modules() if isinstance(module, Block)])


def _fill(module: nn.Module, name: str, parameter: Tensor, generator: torch.Generator) -> None:
    if name == "bias":
        parameter.zero_()
    elif isinstance(module, _SCALES):
        parameter.fill_(1.0)
    elif isinstance(module, nn.Linear | nn.Conv1d):
        parameter.normal_(0.0, parameter[0].numel() ** -0.5, generator=generator)
    elif isinstance(module, ChannelLinear):
        parameter.normal_(0.0, parameter.shape[-1] ** -0.5, generator=generator)
    elif isinstance(module, nn.Embedding):
        parameter.normal_(0.0, 1.0, generator=generator)
    else:
        parameter.normal_(0.0, _FREE_STD, generator=generator)


def _calm_residual_branches(blocks: list[Block]) -> None:
    for block in blocks:
        for weight in _residual_outputs(block):
            weight.mul_((2 * len(blocks)) ** -0.5)


def _residual_outputs(block: Block) -> Iterator[Tensor]:
    yield block.attention.output.weight
    yield block.feed_forward.down.weight
