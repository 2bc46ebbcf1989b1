"""Read a window of bars patch by patch (Nie et al. 2023, "A Time Series is Worth 64 Words").

B batch, T context_length, F features, K sequences per window (1 when channels are mixed), N = B K sequences,
P patches, S tokens of a sequence, D d_model, X values the head reads of one sequence.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from finscale.core.errors import Fault
from finscale.models.contract import Batch, ModelOutput, State, only_values, without_padding
from finscale.models.counting import n_patches
from finscale.models.head_config import ForecastHead, head_width
from finscale.models.layers.attention import Place
from finscale.models.layers.block import Block, BlockStack
from finscale.models.layers.class_token import ClassToken
from finscale.models.layers.dropout import dropout_layer
from finscale.models.layers.heads import as_prediction, channel_map, head_map
from finscale.models.layers.instance_norm import InstanceNorm, Moments
from finscale.models.layers.norms import build_norm
from finscale.models.layers.patching import PatchEmbedding, last_bars, last_real, split_channels
from finscale.models.layers.positions import Positions, build_positions
from finscale.models.patchtst_config import PatchTSTConfig
from finscale.models.position_config import CalendarConfig

__all__ = ["PatchTST", "PatchTSTConfig"]


class PatchTST(nn.Module):
    """Patched encoder: a token is one patch of all features, or of one of them.

    Parameters
    ----------
    config : PatchTSTConfig
        Shape and options.
    n_features, context_length : int
        F and T of the windows it reads.
    n_outputs : int
        C, logits per window (1 for a binary target); left at 1 for another head.
    """

    def __init__(
        self, config: PatchTSTConfig, *, n_features: int, context_length: int, n_outputs: int = 1
    ) -> None:
        super().__init__()
        self.config, self.window_shape = config, (context_length, n_features)
        self.columns, self.independent = config.columns(n_features), config.channels == "independent"
        self.n_sequences = config.n_channels(n_features)
        n_read = self.n_sequences if self.independent else n_features
        cut: dict[str, Any] = config.model_dump(include={"patch_length", "stride", "pad_end"})
        n_positions, d_model = n_patches(context_length=context_length, **cut), config.d_model
        self.last_bars = last_bars(n_positions, context_length=context_length, **cut)
        affine = config.instance_norm == "revin_affine"
        self.instance_norm = None if config.instance_norm == "none" else InstanceNorm(n_read, affine=affine)
        self.positions = _positions(config, n_positions)
        self.class_token = ClassToken(d_model) if config.pooling == "cls" else None
        self.embedding = PatchEmbedding(n_features=1 if self.independent else n_read, d_model=d_model, **cut)
        self.dropout = dropout_layer(config.dropout)
        self.blocks = BlockStack(_block(config) for _ in range(config.n_layers))
        self.final_norm = build_norm(config.norm, d_model) if config.norm_first else nn.Identity()
        self.head_dropout = dropout_layer(config.head_dropout)
        d_read = d_model * (n_positions if config.pooling == "flatten" else 1)
        self.head = _head(config, d_read=d_read, n_sequences=self.n_sequences, n_outputs=n_outputs)

    def forward(self, batch: Batch, state: State | None = None) -> ModelOutput:
        """Return the prediction of the head; the embedding is what the head read.

        Raises
        ------
        Fault
            When the windows have another shape, or carry what this model cannot use.
        """
        values_BTF, moments = self._read(batch, state)
        real_NS = None if batch.mask is None else self._real(batch.mask)
        x_NSD = self.encode(values_BTF, self._calendar(batch), real_NS)
        read_BKX = self._pool(self.final_norm(x_NSD), real_NS).unflatten(0, (-1, self.n_sequences))
        return ModelOutput(self._predict(read_BKX, moments), embedding=read_BKX.flatten(1))

    def encode(
        self,
        values_BTF: Float[Tensor, "B T F"],
        calendar_NPf: Int[Tensor, "N P f"] | None = None,
        real_NS: Bool[Tensor, "N S"] | None = None,
    ) -> Float[Tensor, "N S D"]:
        """Return the tokens of every sequence after the last block; none looks at one that is not real."""
        x_NSD = self._tokens(values_BTF, calendar_NPf)
        return self.blocks(x_NSD, place=Place.of(self.positions, None, like=x_NSD), mask=real_NS)

    def _read(self, batch: Batch, state: State | None) -> tuple[Float[Tensor, "B T F"], Moments | None]:
        """Return the features that are read, standardised where the model does so."""
        if batch.mask is not None and not self.config.reads_masks:
            remedy = "its moments would count padding; choose layer_norm or rms_norm"
            raise Fault("batch.mask", "be left out under norm=batch_norm", tuple(batch.mask.shape), remedy)
        reads = {"calendar": isinstance(self.config.positions, CalendarConfig), "mask": True}
        shape = self.window_shape
        values_BTF = only_values(batch, state, window_shape=shape, family="patchtst", **reads)
        if self.independent and self.columns is not None:
            values_BTF = values_BTF[:, :, list(self.columns)]
        if self.instance_norm is None:
            return without_padding(values_BTF, batch.mask), None
        return self.instance_norm(values_BTF, batch.mask)

    def _tokens(
        self, values_BTF: Float[Tensor, "B T F"], calendar_NPf: Int[Tensor, "N P f"] | None
    ) -> Float[Tensor, "N S D"]:
        x_NPD = self.embedding(split_channels(values_BTF) if self.independent else values_BTF)
        x_NPD = self.positions.add(x_NPD, calendar=calendar_NPf)
        return self.dropout(x_NPD if self.class_token is None else self.class_token(x_NPD))

    def _calendar(self, batch: Batch) -> Int[Tensor, "N P f"] | None:
        """Return the calendar of every patch, that of its last real bar."""
        if batch.calendar is None:
            return None
        calendar_BTf = batch.calendar if batch.mask is None else last_real(batch.calendar, batch.mask)
        return calendar_BTf[:, self.last_bars].repeat_interleave(self.n_sequences, dim=0)

    def _real(self, mask_BT: Bool[Tensor, "B T"]) -> Bool[Tensor, "N S"]:
        """Return which tokens are there: patches with a real bar, and the class token."""
        real_NP = self.embedding.real(mask_BT).repeat_interleave(self.n_sequences, dim=0)
        return real_NP if self.class_token is None else self.class_token.real(real_NP)

    def _pool(
        self, x_NSD: Float[Tensor, "N S D"], real_NS: Bool[Tensor, "N S"] | None
    ) -> Float[Tensor, "N X"]:
        pooling, x_NSD = self.config.pooling, without_padding(x_NSD, real_NS)
        if pooling == "cls":
            return x_NSD[:, 0]
        if pooling == "flatten":
            return x_NSD.flatten(1)
        return _mean(x_NSD, real_NS) if pooling == "mean" else _last(x_NSD, real_NS)

    def _predict(self, read_BKX: Float[Tensor, "B K X"], moments: Moments | None) -> dict[str, Tensor]:
        head, read_BKX = self.config.head, self.head_dropout(read_BKX)
        if self.independent and isinstance(head, ForecastHead):
            prediction = {"forecast": self.head(read_BKX).transpose(1, 2)}
        else:
            prediction = as_prediction(head, self.head(read_BKX.flatten(1)))
        return prediction if moments is None else self._rescaled(prediction, moments)

    def _rescaled(self, prediction: dict[str, Tensor], moments: Moments) -> dict[str, Tensor]:
        """Put a forecast back on the scale of its window; every other head stays as it is."""
        if self.instance_norm is None or self.columns is None:
            return prediction
        columns = range(self.n_sequences) if self.independent else self.columns
        return {"forecast": self.instance_norm.inverse(prediction["forecast"], moments, columns)}


def _mean(x_NSD: Tensor, real_NS: Tensor | None) -> Float[Tensor, "N D"]:
    if real_NS is None:
        return x_NSD.mean(dim=1)
    return x_NSD.sum(dim=1) / real_NS.sum(dim=1, keepdim=True).clamp(min=1)


def _last(x_NSD: Tensor, real_NS: Tensor | None) -> Float[Tensor, "N D"]:
    if real_NS is None:
        return x_NSD[:, -1]
    places_S = torch.arange(real_NS.shape[1], device=real_NS.device)
    at_N = (real_NS * places_S).argmax(dim=1)
    return x_NSD.take_along_dim(at_N[:, None, None], dim=1)[:, 0]


def _positions(config: PatchTSTConfig, n_positions: int) -> Positions:
    width, n_heads = config.d_model, config.n_heads
    sizes = {"d_model": width, "d_head": width // n_heads, "n_heads": n_heads, "max_length": n_positions}
    return build_positions(config.positions, **sizes)


def _block(config: PatchTSTConfig) -> Block:
    shape = (config.d_model, config.n_heads, config.d_ff)
    return Block(*shape, dropout=config.dropout, norm=config.norm, norm_first=config.norm_first)


def _head(config: PatchTSTConfig, *, d_read: int, n_sequences: int, n_outputs: int) -> nn.Module:
    """Return the last map: of every channel by itself (forecasts of independent channels) or of them all."""
    if config.channels == "independent" and isinstance(config.head, ForecastHead):
        head_width(config.head, n_outputs=n_outputs)
        return channel_map(config.head, d_read=d_read, individual=config.head_per_channel)
    return head_map(config.head, d_read=d_read * n_sequences, n_outputs=n_outputs)
