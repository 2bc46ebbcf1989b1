"""Read a window of bars patch by patch (Nie et al. 2023, "A Time Series is Worth 64 Words").

B batch, T context_length, F features, P patches, D d_model, C outputs.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from finscale.core.errors import Fault
from finscale.models.config import PatchTSTConfig
from finscale.models.contract import Batch, ModelOutput, State
from finscale.models.counting import n_patches
from finscale.models.layers.block import Block, dropout_layer
from finscale.models.layers.norms import layer_norm
from finscale.models.layers.patching import PatchEmbedding

__all__ = ["PatchTST", "PatchTSTConfig"]


class PatchTST(nn.Module):
    """Patched encoder with mixed channels: a token is one patch of all features.

    Parameters
    ----------
    config : PatchTSTConfig
        Shape and pooling.
    n_features, context_length : int
        F and T of the windows it reads.
    n_outputs : int
        C, logits per window (1 for a binary target).
    """

    def __init__(
        self, config: PatchTSTConfig, *, n_features: int, context_length: int, n_outputs: int = 1
    ) -> None:
        super().__init__()
        d_model, patch, stride = config.d_model, config.patch_length, config.stride
        n_tokens = n_patches(context_length=context_length, patch_length=patch, stride=stride)
        self.window_shape, self.pooling = (context_length, n_features), config.pooling
        self.embedding = PatchEmbedding(
            n_features=n_features, patch_length=patch, stride=stride, d_model=d_model
        )
        self.positions = nn.Parameter(torch.zeros(n_tokens, d_model))
        self.class_token = nn.Parameter(torch.zeros(d_model)) if config.pooling == "cls" else None
        self.dropout = dropout_layer(config.dropout)
        shape = (d_model, config.n_heads, config.d_ff)
        self.blocks = nn.ModuleList(Block(*shape, dropout=config.dropout) for _ in range(config.n_layers))
        self.final_norm = layer_norm(d_model)
        self.head = nn.Linear(d_model * (n_tokens if config.pooling == "flatten" else 1), n_outputs)

    def forward(self, batch: Batch, state: State | None = None) -> ModelOutput:
        """Return ``logits`` (B, C) and what the head read as the embedding.

        Raises
        ------
        Fault
            When the windows have another shape, or carry what this model cannot use.
        """
        x_BPD = self._tokens(_values(batch, state, self.window_shape))
        for block in self.blocks:
            x_BPD = block(x_BPD)
        pooled_BD = self._pool(self.final_norm(x_BPD))
        return ModelOutput(prediction={"logits": self.head(pooled_BD)}, embedding=pooled_BD)

    def _tokens(self, values_BTF: Float[Tensor, "B T F"]) -> Float[Tensor, "B P D"]:
        x_BPD = self.embedding(values_BTF) + self.positions
        if self.class_token is not None:
            first_B1D = self.class_token.to(x_BPD.dtype).expand(len(x_BPD), 1, -1)
            x_BPD = torch.cat((first_B1D, x_BPD), dim=1)
        return self.dropout(x_BPD)

    def _pool(self, x_BPD: Float[Tensor, "B P D"]) -> Float[Tensor, "B X"]:
        if self.pooling == "mean":
            return x_BPD.mean(dim=1)
        if self.pooling == "flatten":
            return x_BPD.flatten(1)
        return x_BPD[:, 0 if self.pooling == "cls" else -1]


def _values(batch: Batch, state: State | None, window_shape: tuple[int, int]) -> Tensor:
    """Return the bars; refuse anything PatchTST would have to ignore."""
    extra = {"tokens": batch.tokens, "calendar": batch.calendar, "mask": batch.mask}
    unused = [
        name
        for name, field in {**extra, "positions": batch.positions, "state": state}.items()
        if field is not None
    ]
    if unused:
        raise Fault("batch", "hold values only for patchtst", unused, "leave them out")
    if batch.values is None or tuple(batch.values.shape[1:]) != window_shape:
        got = None if batch.values is None else tuple(batch.values.shape)
        raise Fault("batch.values", f"have shape (B, {window_shape[0]}, {window_shape[1]})", got)
    return batch.values
