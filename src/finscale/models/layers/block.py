"""One residual block, shared by encoders and decoders.

B batch, T tokens, D d_model.
"""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from finscale.models.layers.attention import Attention
from finscale.models.layers.convolution import CausalConvolution
from finscale.models.layers.feed_forward import FeedForward
from finscale.models.layers.norms import layer_norm

__all__ = ["Block", "dropout_layer"]


class Block(nn.Module):
    """Pre-norm block: ``x += attention(norm(x))``, then ``x += feed_forward(norm(x))``.

    Parameters
    ----------
    d_model, n_heads, d_ff : int
        Width, heads and feed-forward width.
    dropout : float
        On both branches before they are added; attention weights are never dropped (as published, Nie et
        al. 2023), which keeps attention fused on every device.
    conv_taps : int
        Taps of a causal convolution added to the normed input of attention; 0 leaves it out.

    Notes
    -----
    Pre-norm: Xiong et al. 2020. A short convolution before attention lets one layer compare a token with
    the one before it (Fu et al. 2023, H3).
    """

    def __init__(
        self, d_model: int, n_heads: int, d_ff: int, *, dropout: float = 0.0, conv_taps: int = 0
    ) -> None:
        super().__init__()
        self.attention_norm = layer_norm(d_model)
        self.convolution = CausalConvolution(d_model, conv_taps) if conv_taps else None
        self.attention = Attention(d_model, n_heads)
        self.feed_forward_norm = layer_norm(d_model)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.dropout = dropout_layer(dropout)

    def forward(
        self,
        x_BTD: Float[Tensor, "B T D"],
        *,
        causal: bool = False,
        rotary: tuple[Tensor, Tensor] | None = None,
        mask: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Add both branches to the tokens; the options are those of `Attention`."""
        normed_BTD = self.attention_norm(x_BTD)
        if self.convolution is not None:
            normed_BTD = normed_BTD + self.convolution(_without_padding(normed_BTD, mask))
        mixed_BTD = self.attention(normed_BTD, causal=causal, rotary=rotary, mask=mask)
        x_BTD = x_BTD + self.dropout(mixed_BTD)
        return x_BTD + self.dropout(self.feed_forward(self.feed_forward_norm(x_BTD)))


def _without_padding(x_BTD: Tensor, mask_BT: Tensor | None) -> Tensor:
    """Return zeros where there is padding, the same as before the first token."""
    return x_BTD if mask_BT is None else x_BTD.masked_fill(~mask_BT[:, :, None], 0.0)


def dropout_layer(probability: float) -> nn.Module:
    """Return a dropout, or nothing at all when its probability is zero."""
    return nn.Dropout(probability) if probability else nn.Identity()
