"""Multi-head attention, in one place for every model.

B batch, T tokens, D d_model, H heads, h d_head.
"""

from jaxtyping import Bool, Float
from torch import Tensor, nn, ones
from torch import bool as boolean
from torch.nn import functional

from finscale.models.layers.positions import apply_rotary

__all__ = ["Attention"]


class Attention(nn.Module):
    """Scaled dot-product self-attention (Vaswani et al. 2017).

    Parameters
    ----------
    d_model, n_heads : int
        Width and number of heads, a divisor of the width.
    dropout : float
        Dropout of the attention weights while training.
    bias : bool
        Whether the four projections carry biases.
    """

    def __init__(self, d_model: int, n_heads: int, *, dropout: float = 0.0, bias: bool = True) -> None:
        super().__init__()
        self.n_heads, self.dropout = n_heads, dropout
        self.query_key_value = nn.Linear(d_model, 3 * d_model, bias=bias)
        self.output = nn.Linear(d_model, d_model, bias=bias)

    def forward(
        self,
        x_BTD: Float[Tensor, "B T D"],
        *,
        causal: bool = False,
        rotary: tuple[Tensor, Tensor] | None = None,
        mask: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Mix the tokens.

        Parameters
        ----------
        x_BTD : Tensor
            Tokens.
        causal : bool
            Whether a token sees only itself and what came before it.
        rotary : (cos, sin) or None
            Rotary tables (T, d_head // 2), applied to queries and keys.
        mask : Tensor or None
            True where a token may be attended to, False where it is padding.
        """
        queries, keys, values = self._split(self.query_key_value(x_BTD))
        if rotary is not None:
            queries, keys = apply_rotary(queries, *rotary), apply_rotary(keys, *rotary)
        mixed_BHTh = functional.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=None if mask is None else _allowed(mask, causal=causal),
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal and mask is None,
        )
        return self.output(mixed_BHTh.transpose(1, 2).flatten(2))

    def _split(self, mixed_BTX: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        heads = mixed_BTX.unflatten(2, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        queries, keys, values = heads.unbind(0)
        return queries, keys, values


def _allowed(mask_BT: Tensor, *, causal: bool) -> Tensor:
    """Return (B, 1, T, T), True where a query may look at a key; padding looks at itself, lest it be NaN."""
    n_tokens = mask_BT.shape[1]
    every_TT = ones(n_tokens, n_tokens, dtype=boolean, device=mask_BT.device)
    before_TT = every_TT.tril() if causal else every_TT
    return mask_BT[:, None, None, :] & before_TT | every_TT.tril().triu()
