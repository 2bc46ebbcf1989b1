"""One residual block, and a stack of them, shared by encoders and decoders.

B batch, T tokens, D d_model.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from finscale.models.attractor_config import AttractorConfig
from finscale.models.layers.attention import Attention, KeyValues, Place
from finscale.models.layers.attractor import Attractor
from finscale.models.layers.convolution import CausalConvolution
from finscale.models.layers.dropout import Dropout
from finscale.models.layers.feed_forward import Activation, FeedForward
from finscale.models.layers.gate import LiteGate
from finscale.models.layers.norms import BatchNorm, Norm, build_norm

__all__ = ["Block", "BlockStack", "BlockState"]


@dataclass(frozen=True)
class BlockState:
    """What a block carries from one chunk of a causal sequence to the next.

    Parameters
    ----------
    attention : KeyValues or None
        Keys and values of the past; None before the first token.
    convolution : Tensor or None
        The last tokens (B, taps - 1, D) that the convolution looks back at.
    n_seen : int
        Tokens read so far, evicted ones included: the position of the next one.
    attractor : Tensor or None
        What an attractor remembers (B, H, k, h), where the block has one.
    """

    attention: KeyValues | None = None
    convolution: Tensor | None = None
    n_seen: int = 0
    attractor: Tensor | None = None

    @property
    def n_bytes(self) -> int:
        """Bytes of memory that this state keeps alive."""
        past = self.attention
        kept = () if past is None else (past.keys, past.values, past.steps, past.real)
        held = (self.convolution, self.attractor, *kept)
        return sum(x.untyped_storage().nbytes() for x in held if x is not None)


class Block(nn.Module):
    """``x += attention(norm(x))``, then ``x += feed_forward(norm(x))``.

    Parameters
    ----------
    d_model, n_heads, d_ff : int
        Width, heads and feed-forward width.
    dropout : float
        On both branches before they are added; attention weights are never dropped (as published, Nie et
        al. 2023), which keeps attention fused on every device.
    conv_taps : int
        Taps of a causal convolution added to the input of attention; 0 leaves it out.
    n_kv_heads : int or None
        Heads of keys and values; None means ``n_heads``.
    activation : str
        Of the feed-forward.
    norm : str
        ``layer_norm``, ``rms_norm`` or ``batch_norm``.
    norm_first : bool
        Pre-norm; False norms each sum instead, ``x = norm(x + attention(x))`` (Vaswani et al. 2017).
    bias : bool
        Whether the linear maps carry biases.
    attractor : AttractorConfig or None
        Of a state that reads what attention reads and adds to what it says; for causal sequences.
    gated : bool
        Whether what attention says takes the place of the tokens by a `LiteGate` instead of adding to them.

    Notes
    -----
    Pre-norm: Xiong et al. 2020. A short convolution before attention lets one layer compare a token with
    the one before it (Fu et al. 2023, H3).
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        d_ff: int,
        *,
        dropout: float = 0.0,
        conv_taps: int = 0,
        n_kv_heads: int | None = None,
        activation: Activation = "gelu",
        norm: Norm = "layer_norm",
        norm_first: bool = True,
        bias: bool = True,
        attractor: AttractorConfig | None = None,
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.attention_norm = build_norm(norm, d_model)
        self.convolution = CausalConvolution(d_model, conv_taps) if conv_taps else None
        self.attention = Attention(d_model, n_heads, n_kv_heads=n_kv_heads, bias=bias)
        self.attractor = Attractor(d_model, n_heads, attractor, bias=bias) if attractor else None
        self.gate = LiteGate(d_model) if gated else None
        self.feed_forward_norm = build_norm(norm, d_model)
        self.feed_forward = FeedForward(d_model, d_ff, activation=activation, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x_BTD: Float[Tensor, "B T D"],
        *,
        causal: bool = False,
        window_size: int | None = None,
        n_sinks: int = 0,
        place: Place | None = None,
        mask: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Add both branches to the tokens; the options are those of `Attention`."""
        read_BTD = self._read(x_BTD, self.attention_norm)
        if self.convolution is not None:
            read_BTD = read_BTD + self.convolution(_without_padding(read_BTD, mask))
        mixed_BTD = self.attention(
            read_BTD, causal=causal, window_size=window_size, n_sinks=n_sinks, place=place, mask=mask
        )
        if self.attractor is not None:
            mixed_BTD = mixed_BTD + self.attractor(read_BTD, place=place, mask=mask)
        return self._take_in(x_BTD, mixed_BTD)

    def resume(
        self,
        x_BTD: Float[Tensor, "B T D"],
        state: BlockState,
        *,
        window_size: int | None = None,
        n_sinks: int = 0,
        place: Place | None = None,
        mask: Bool[Tensor, "B T"] | None = None,
    ) -> tuple[Float[Tensor, "B T D"], BlockState]:
        """Go on with a causal sequence; the outputs are those of `forward` over all of it."""
        read_BTD, tail = self._read(x_BTD, self.attention_norm), None
        if self.convolution is not None:
            looked_back, tail = self.convolution.resume(_without_padding(read_BTD, mask), state.convolution)
            read_BTD = read_BTD + looked_back
        mixed_BTD, past = self.attention.resume(
            read_BTD, state.attention, window_size=window_size, n_sinks=n_sinks, place=place, mask=mask
        )
        held = state.attractor
        if self.attractor is not None:
            recalled_BTD, held = self.attractor.resume(read_BTD, held, place=place, mask=mask)
            mixed_BTD = mixed_BTD + recalled_BTD
        out_BTD = self._take_in(x_BTD, mixed_BTD)
        return out_BTD, BlockState(past, tail, state.n_seen + x_BTD.shape[1], held)

    def _take_in(self, x_BTD: Tensor, mixed_BTD: Tensor) -> Tensor:
        """Add what attention says, or let the gate do it, and feed the tokens forward."""
        branch_BTD = mixed_BTD if self.gate is None else self.gate(x_BTD, mixed_BTD)
        x_BTD = self._add(x_BTD, branch_BTD, self.attention_norm)
        fed_BTD = self.feed_forward(self._read(x_BTD, self.feed_forward_norm))
        return self._add(x_BTD, fed_BTD, self.feed_forward_norm)

    def _read(self, x_BTD: Tensor, norm: nn.Module) -> Tensor:
        return norm(x_BTD) if self.norm_first else x_BTD

    def _add(self, x_BTD: Tensor, branch_BTD: Tensor, norm: nn.Module) -> Tensor:
        sum_BTD = self.dropout.added(x_BTD, branch_BTD)
        return sum_BTD if self.norm_first else norm(sum_BTD)


class BlockStack(nn.ModuleList):
    """Blocks one after the other.

    Parameters
    ----------
    blocks : iterable of Block
        In the order of computation.
    checkpoint : bool
        Whether training keeps only what enters each block and computes the rest again for the gradient: less
        memory, one more forward pass, the same numbers (Chen et al. 2016). It may be set at any time.
    """

    def __init__(self, blocks: Iterable[Block], *, checkpoint: bool = False) -> None:
        super().__init__(blocks)
        self.checkpoint = checkpoint

    def forward(
        self,
        x_BTD: Float[Tensor, "B T D"],
        *,
        causal: bool = False,
        window_size: int | None = None,
        n_sinks: int = 0,
        place: Place | None = None,
        mask: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Pass the tokens through every block; the options are those of `Attention`."""
        window = {"window_size": window_size, "n_sinks": n_sinks}
        options: dict[str, Any] = {"causal": causal, **window, "place": place, "mask": mask}
        for block in self:
            if self.checkpoint and torch.is_grad_enabled():
                x_BTD = checkpoint(
                    block, x_BTD, use_reentrant=False, context_fn=partial(_contexts, block), **options
                )
            else:
                x_BTD = block(x_BTD, **options)
        return x_BTD

    def resume(
        self,
        x_BTD: Float[Tensor, "B T D"],
        states: tuple[BlockState, ...],
        *,
        window_size: int | None = None,
        n_sinks: int = 0,
        place: Place | None = None,
        mask: Bool[Tensor, "B T"] | None = None,
    ) -> tuple[Float[Tensor, "B T D"], tuple[BlockState, ...]]:
        """Go on with a causal sequence, one state a block."""
        options: dict[str, Any] = {
            "window_size": window_size,
            "n_sinks": n_sinks,
            "place": place,
            "mask": mask,
        }
        new = []
        for block, state in zip(cast(Iterable[Block], self), states, strict=True):
            x_BTD, after = block.resume(x_BTD, state, **options)
            new.append(after)
        return x_BTD, tuple(new)


def _contexts(
    block: nn.Module,
) -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
    return contextlib.nullcontext(), _steady_moments(block)


@contextlib.contextmanager
def _steady_moments(block: nn.Module) -> Iterator[None]:
    """Let what is computed again leave the running moments of batch norms alone."""
    norms = [module for module in block.modules() if isinstance(module, BatchNorm)]
    for norm in norms:
        norm.steady = True
    try:
        yield
    finally:
        for norm in norms:
            norm.steady = False


def _without_padding(x_BTD: Tensor, mask_BT: Tensor | None) -> Tensor:
    """Return zeros where there is padding, the same as before the first token."""
    return x_BTD if mask_BT is None else x_BTD.masked_fill(~mask_BT[:, :, None], 0.0)
