"""First weights, from a generator of their own.

``scaled``: matrices start normal with variance 1 / fan_in, so that widths from 8 to 2048 start alike; what a
block adds to the residual stream starts smaller by sqrt(2 n_layers), so that depths do (Radford et al. 2019,
GPT-2). ``torch``: matrices and biases start uniform within fan_in**-0.5 of zero, as torch starts a linear
map, at a third of that variance and alike at all depths; the published models of forecasting start so.
"""

import math
from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from finscale.models.dlinear import DLinear
from finscale.models.layers.attractor import Attractor
from finscale.models.layers.block import Block
from finscale.models.layers.heads import ChannelLinear, numbers_of_quantiles
from finscale.models.layers.instance_norm import InstanceNorm

__all__ = ["Initialisation", "initialise", "start_at_quantiles"]

Initialisation = Literal["scaled", "torch"]

_FREE = 0.02
_SCALES = (nn.LayerNorm, nn.RMSNorm, nn.BatchNorm1d, InstanceNorm)


def initialise(model: nn.Module, *, seed: int, kind: Initialisation = "scaled") -> None:
    """Set every parameter of ``model`` in place; equal seeds give equal weights on CPU.

    Symbols start normal with variance 1, norms at 1 with biases at 0, and free parameters (positions, class
    tokens) with standard deviation 0.02, or uniform within 0.02 of zero under ``torch``.
    Attractors come last and add nothing, so that the rest starts as it does without them. Of n gated blocks
    each lets in 1 / (n + 1) at first, so that what enters them is heard behind any depth. The global random
    state is neither read nor advanced.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        attractors = [module for module in model.modules() if isinstance(module, Attractor)]
        for module in _attractors_last(model, attractors):
            for name, parameter in module.named_parameters(recurse=False):
                _fill(module, name, parameter, kind, generator)
        for attractor in attractors:
            attractor.silence()
        if kind == "scaled":
            _calm_residual_branches([module for module in model.modules() if isinstance(module, Block)])


def start_at_quantiles(model: nn.Module, quantiles_HQ: Float[Tensor, "H Q"]) -> None:
    """Make a model with a quantile head say ``quantiles_HQ`` of every window until it is trained.

    The weights of its last map start at 0 and the bias alone speaks: whatever the input, the first steps
    begin in the units of the targets. A spread of 5 before targets of 0.002 would have to shrink first, and
    is known to shrink too far. The body learns from the second step on, once these weights are not 0.
    """
    maps = _last_maps(model)
    first = maps[0]
    with torch.no_grad():
        for last in maps:
            last.weight.zero_()
            last.bias.zero_()
        first.bias.copy_(numbers_of_quantiles(quantiles_HQ).flatten().to(first.bias.dtype))


def _last_maps(model: nn.Module) -> list[nn.Linear]:
    """Return the linear maps whose sum the head lays out."""
    found = [model.trend, model.remainder] if isinstance(model, DLinear) else [model.head]
    return [module for module in found if isinstance(module, nn.Linear)]


def _attractors_last(model: nn.Module, attractors: list[Attractor]) -> list[nn.Module]:
    theirs = [module for attractor in attractors for module in attractor.modules()]
    return [module for module in model.modules() if module not in theirs] + theirs


def _fill(
    module: nn.Module, name: str, parameter: Tensor, kind: Initialisation, generator: torch.Generator
) -> None:
    n_read = _fan_in(module)
    if n_read is not None and kind == "torch":
        parameter.uniform_(-(n_read**-0.5), n_read**-0.5, generator=generator)
    elif name == "bias":
        parameter.zero_()
    elif n_read is not None:
        parameter.normal_(0.0, n_read**-0.5, generator=generator)
    elif isinstance(module, _SCALES):
        parameter.fill_(1.0)
    elif isinstance(module, nn.Embedding):
        parameter.normal_(0.0, 1.0, generator=generator)
    elif kind == "torch":
        parameter.uniform_(-_FREE, _FREE, generator=generator)
    else:
        parameter.normal_(0.0, _FREE, generator=generator)


def _fan_in(module: nn.Module) -> int | None:
    """Return how many numbers each output of a linear map reads; None for whatever is none."""
    if isinstance(module, nn.Linear | nn.Conv1d):
        return module.weight[0].numel()
    return module.weight.shape[-1] if isinstance(module, ChannelLinear) else None


def _calm_residual_branches(blocks: list[Block]) -> None:
    for block in blocks:
        for weight in _residual_outputs(block):
            weight.mul_((2 * len(blocks)) ** -0.5)
        if block.gate is not None:
            block.gate.linear.bias.fill_(-math.log(len(blocks)))


def _residual_outputs(block: Block) -> Iterator[Tensor]:
    yield block.attention.output.weight
    yield block.feed_forward.down.weight
