"""Attention over few keys on a CPU.

B batch, T tokens (queries and keys), H heads, h d_head, N = B H.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx

from finscale.models.layers.counts import MOST_KEYS

__all__ = ["has_few_keys", "mix_few_keys"]


def has_few_keys(x: Tensor, n_tokens: int) -> bool:
    """Whether `mix_few_keys` is the faster way for these tokens."""
    return x.device.type == "cpu" and n_tokens <= MOST_KEYS and not torch.compiler.is_compiling()


def mix_few_keys(packed_BTX: Float[Tensor, "B T X"], *, n_heads: int) -> Float[Tensor, "B T D"]:
    """Return every token's mix of the values, all heads side by side; nothing is hidden from any token.

    Parameters
    ----------
    packed_BTX : Tensor
        Queries, keys and values of all heads, X = 3 D.
    n_heads : int
        H.

    Notes
    -----
    Scaled dot-product attention (Vaswani et al. 2017), with the probabilities kept for the backward pass.
    torch's kernel, made for many keys, spends most of its time on the softmax of rows as short as a dozen
    patches; here the sequences are laid innermost for it, where a vector instruction takes 16 of them.
    """
    mixed: Tensor = _FewKeys.apply(packed_BTX, n_heads)
    return mixed


class _FewKeys(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, packed_BTX: Tensor, n_heads: int) -> Tensor:
        heads_3NTh = _heads(packed_BTX, 3 * n_heads).unflatten(1, (3, n_heads)).movedim(1, 0).flatten(1, 2)
        queries, keys, values = heads_3NTh.unbind(0)
        scores_NTT = _product(queries, keys.transpose(1, 2), _scale(queries))
        probabilities_NTT = _softmax(scores_NTT)
        ctx.save_for_backward(heads_3NTh, probabilities_NTT)
        return _tokens(torch.bmm(probabilities_NTT, values), n_heads)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        heads_3NTh, probabilities_NTT = ctx.saved_tensors
        queries, keys, values = heads_3NTh.unbind(0)
        n_windows, n_heads = len(gradients[0]), len(queries) // len(gradients[0])
        mixed_NTh = _heads(gradients[0], n_heads).flatten(0, 1)
        back_3NTh, scale = torch.empty_like(heads_3NTh), _scale(queries)
        torch.bmm(probabilities_NTT.transpose(1, 2), mixed_NTh, out=back_3NTh[2])
        scores_NTT = torch.bmm(mixed_NTh, values.transpose(1, 2)).mul_(probabilities_NTT)
        scores_NTT.addcmul_(probabilities_NTT, scores_NTT.sum(dim=2, keepdim=True), value=-1)
        _product(scores_NTT, keys, scale, out=back_3NTh[0])
        _product(scores_NTT.transpose(1, 2), queries, scale, out=back_3NTh[1])
        by_window = back_3NTh.unflatten(1, (n_windows, n_heads))
        return by_window.permute(1, 3, 0, 2, 4).flatten(2), None


def _heads(tokens_BTX: Tensor, n_heads: int) -> Tensor:
    """Cut the last dimension into heads: (B, H, T, h)."""
    return tokens_BTX.unflatten(2, (n_heads, -1)).transpose(1, 2)


def _tokens(mixed_NTh: Tensor, n_heads: int) -> Tensor:
    """Put the heads of a token side by side again: (B, T, D)."""
    return mixed_NTh.unflatten(0, (-1, n_heads)).transpose(1, 2).flatten(2)


def _scale(queries: Tensor) -> float:
    return 1 / math.sqrt(queries.shape[-1])


def _product(a: Tensor, b: Tensor, scale: float, out: Tensor | None = None) -> Tensor:
    """Return ``scale * a @ b`` in one call, which reads nothing of the first argument."""
    return torch.baddbmm(a.new_empty(1, 1, 1), a, b, beta=0, alpha=scale, out=out)


def _softmax(scores_NTT: Tensor) -> Tensor:
    """Return the softmax over keys, computed in float32 at least."""
    n_sequences, n_tokens = scores_NTT.shape[:2]
    innermost_TTN = scores_NTT.flatten(1).t().contiguous().view(n_tokens, n_tokens, n_sequences)
    precise = torch.promote_types(scores_NTT.dtype, torch.float32)
    probabilities_TTN = innermost_TTN.softmax(dim=1, dtype=precise).to(scores_NTT.dtype)
    return probabilities_TTN.flatten(0, 1).t().contiguous().view_as(scores_NTT)
