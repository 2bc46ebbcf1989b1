"""A causal decoder over symbols: every position predicts the next one.

B sequences, T positions, D d_model, C vocab_size, P = d_head / 2 rotated pairs.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor, arange, nn

from finscale.core.errors import Fault
from finscale.models.config import TransformerConfig
from finscale.models.contract import Batch, ModelOutput, State
from finscale.models.layers.block import Block, dropout_layer
from finscale.models.layers.norms import layer_norm
from finscale.models.layers.positions import rope_table

__all__ = ["Transformer", "TransformerConfig"]


class Transformer(nn.Module):
    """Embedding, ``n_layers`` causal blocks, a last norm and an untied output layer.

    Parameters
    ----------
    config : TransformerConfig
        Its ``positions`` are rotary (``rope``) or left to the causal mask alone (``none``).
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.dropout = dropout_layer(config.dropout)
        self.blocks = nn.ModuleList(_block(config) for _ in range(config.n_layers))
        self.final_norm = layer_norm(config.d_model)
        self.head = nn.Linear(config.d_model, config.vocab_size)

    def forward(self, batch: Batch, state: State | None = None) -> ModelOutput:
        """Predict the symbol that follows each position.

        Parameters
        ----------
        batch : Batch
            ``tokens`` (B, T); ``mask`` and ``positions`` where given.
        state : None
            This decoder reads a whole sequence at once and carries nothing between calls.

        Returns
        -------
        ModelOutput
            ``next_symbol`` (B, T, C); the embedding (B, D) is the last real position after the last norm.

        Raises
        ------
        Fault
            Without tokens, or when the batch carries what this model cannot use.
        """
        tokens_BT = _tokens(batch, state)
        rotary = self._rotary(batch.positions, tokens_BT.shape[1])
        x_BTD = self.dropout(self.embedding(tokens_BT))
        for block in self.blocks:
            x_BTD = block(x_BTD, causal=True, rotary=rotary, mask=batch.mask)
        x_BTD = self.final_norm(x_BTD)
        return ModelOutput({"next_symbol": self.head(x_BTD)}, embedding=_last_real(x_BTD, batch.mask))

    def _rotary(
        self, positions: Int[Tensor, " T"] | None, n_tokens: int
    ) -> tuple[Float[Tensor, "T P"], Float[Tensor, "T P"]] | None:
        if self.config.positions == "none":
            return None
        n_positions = n_tokens if positions is None else int(positions.max()) + 1
        d_head, like = self.config.d_model // self.config.n_heads, self.embedding.weight
        cos, sin = (table.to(like) for table in rope_table(d_head, n_positions, base=self.config.rope_base))
        return (cos, sin) if positions is None else (cos[positions], sin[positions])


def _block(config: TransformerConfig) -> Block:
    shape = (config.d_model, config.n_heads, config.d_ff)
    return Block(*shape, dropout=config.dropout, conv_taps=config.conv_taps)


def _tokens(batch: Batch, state: State | None) -> Int[Tensor, "B T"]:
    """Return the symbols; refuse anything the decoder would have to ignore."""
    extra = {"values": batch.values, "calendar": batch.calendar, "state": state}
    unused = [name for name, field in extra.items() if field is not None]
    if unused:
        raise Fault("batch", "hold symbols only for transformer", unused, "leave them out")
    if batch.tokens is None:
        raise Fault("batch.tokens", "be given to transformer", None, "pass symbols (B, T)")
    return batch.tokens


def _last_real(x_BTD: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"] | None) -> Float[Tensor, "B D"]:
    if mask is None:
        return x_BTD[:, -1]
    last_B = (mask * arange(mask.shape[1], device=mask.device)).argmax(dim=1)
    return x_BTD[arange(len(x_BTD), device=mask.device), last_B]
