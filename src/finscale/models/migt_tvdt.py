"""Read every variable along time, then the variables beside each other (MIGT-TVDT), for distributions.

B batch, T context_length, V variables (the F features of a window), D d_model, K = B T bars; N = V B
sequences over time, variable after variable.
"""

import dataclasses

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import gelu

from finscale.models.contract import Batch, ModelOutput, State, only_values, without_padding
from finscale.models.layers.block import Block, BlockStack
from finscale.models.layers.dropout import dropout_layer
from finscale.models.layers.heads import ChannelLinear, as_prediction, head_map
from finscale.models.layers.instance_norm import InstanceNorm, Moments
from finscale.models.layers.norms import layer_norm
from finscale.models.layers.positions.calendar import CalendarPositions, Time2VecPositions
from finscale.models.layers.time_pool import TimePool
from finscale.models.migt_tvdt_config import MigtTvdtConfig
from finscale.models.position_config import Time2VecConfig

__all__ = ["MigtTvdt", "MigtTvdtConfig"]


class MigtTvdt(nn.Module):
    """Two stages of attention: over T within each variable, pooled by a query, then over the V variables.

    Parameters
    ----------
    config : MigtTvdtConfig
        Shape and options.
    n_features, context_length : int
        V and T of the windows it reads; no weight depends on T.
    n_outputs : int
        C, logits per window (1 for a binary target); left at 1 for another head.
    """

    def __init__(
        self, config: MigtTvdtConfig, *, n_features: int, context_length: int, n_outputs: int = 1
    ) -> None:
        super().__init__()
        self.config, self.window_shape = config, (context_length, n_features)
        self.columns, d_model = config.columns(n_features), config.d_model
        self.instance_norm = InstanceNorm(n_features, affine=False)
        self.embedding = ChannelLinear(n_features, 1, d_model)
        self.positions = _positions(config)
        self.dropout = dropout_layer(config.dropout)
        self.blocks = BlockStack(_block(config) for _ in range(config.n_layers))
        self.final_norm = layer_norm(d_model)
        self.time_pool = TimePool(d_model)
        self.variable_blocks = BlockStack(_block(config) for _ in range(config.n_variable_layers))
        self.variable_norm = layer_norm(d_model)
        self.output_pool = nn.Linear(n_features * d_model, d_model)
        self.hidden = nn.Linear(d_model, d_model // 2)
        self.head = head_map(config.head, d_read=d_model // 2, n_outputs=n_outputs)

    def forward(self, batch: Batch, state: State | None = None) -> ModelOutput:
        """Return the prediction of the head; the embedding (B, D) is what its hidden layer reads.

        While training, bars that are padding in every window of the batch are left out, and where no padding
        remains attention is handed no mask: windows of like length are best put into one batch.

        Raises
        ------
        Fault
            When the windows have another shape, lack their calendar, or carry what this model cannot use.
        """
        only_values(
            batch, state, window_shape=self.window_shape, family="migt_tvdt", calendar=True, mask=True
        )
        batch = self._bucketed(batch)
        values_BTV, moments = self.instance_norm(batch.values, batch.mask)
        read_BD = self.encode(dataclasses.replace(batch, values=values_BTV))
        numbers_BY = self.head(gelu(self.hidden(read_BD)))
        return ModelOutput(self._predict(numbers_BY, moments), embedding=read_BD)

    def encode(self, batch: Batch) -> Float[Tensor, "B D"]:
        """Return one vector for each window of standardised bars, over any number of them."""
        n_variables, mask_BT = self.window_shape[1], batch.mask
        real_NT = None if mask_BT is None else mask_BT.repeat(n_variables, 1)
        x_NTD = self.blocks(self.dropout(self._tokens(batch)), mask=real_NT)
        pooled_ND = self.time_pool(self.final_norm(x_NTD), real_NT)
        pooled_BVD = pooled_ND.unflatten(0, (n_variables, -1)).transpose(0, 1)
        x_BVD = self.variable_norm(self.variable_blocks(pooled_BVD))
        return gelu(self.output_pool(x_BVD.flatten(1)))

    def _tokens(self, batch: Batch) -> Float[Tensor, "N T D"]:
        """Embed every variable by a map of its own, all at once, and add the place of its bar."""
        assert batch.values is not None
        assert batch.calendar is not None
        x_KVD = self.embedding(batch.values.flatten(0, 1)[:, :, None]).to(batch.values.dtype)
        calendar_BTf = without_padding(batch.calendar, batch.mask)
        place_BTD = self.positions.mapped(calendar_BTf, like=x_KVD)
        x_VBTD = x_KVD.transpose(0, 1).unflatten(1, place_BTD.shape[:2]) + place_BTD
        return x_VBTD.flatten(0, 1)

    def _bucketed(self, batch: Batch) -> Batch:
        """Leave out the bars that no window has; evaluation keeps them, so that neighbours change no bit."""
        if batch.mask is None or not self.training or _is_recorded(batch.mask):
            return batch
        some_T = batch.mask.any(dim=0)
        if not some_T.any():
            return batch
        fields = {name: getattr(batch, name)[:, some_T] for name in ("values", "calendar", "mask")}
        whole = bool(fields["mask"].all())
        return Batch(**{**fields, "mask": None} if whole else fields)

    def _predict(self, numbers_BY: Float[Tensor, "B Y"], moments: Moments) -> dict[str, Tensor]:
        prediction = as_prediction(self.config.head, numbers_BY)
        if self.columns is None:
            return prediction
        return {"forecast": self.instance_norm.inverse(prediction["forecast"], moments, self.columns)}


def _is_recorded(mask_BT: Bool[Tensor, "B T"]) -> bool:
    """Whether this pass is compiled, exported or recorded: then no shape may depend on what a mask holds."""
    return torch.compiler.is_compiling() or (mask_BT.is_cuda and torch.cuda.is_current_stream_capturing())


def _positions(config: MigtTvdtConfig) -> CalendarPositions:
    positions = config.positions
    if isinstance(positions, Time2VecConfig):
        return Time2VecPositions(positions, config.d_model)
    return CalendarPositions(positions, config.d_model)


def _block(config: MigtTvdtConfig) -> Block:
    return Block(config.d_model, config.n_heads, config.d_ff, dropout=config.dropout, gated=True)
