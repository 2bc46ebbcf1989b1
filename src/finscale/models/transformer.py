"""The general sequence model: an encoder or a causal decoder, over symbols or bars.

B sequences, T tokens, D d_model, C outputs, F real-valued columns, L n_layers.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from finscale.core.errors import Fault
from finscale.models.contract import Batch, ModelOutput, State
from finscale.models.layers.attention import Place
from finscale.models.layers.bar_embedding import BarEmbedding
from finscale.models.layers.block import Block, BlockStack, BlockState
from finscale.models.layers.counts import output_width
from finscale.models.layers.dropout import dropout_layer
from finscale.models.layers.heads import as_prediction
from finscale.models.layers.norms import build_norm
from finscale.models.layers.positions import build_positions
from finscale.models.transformer_config import TransformerConfig

__all__ = ["Transformer", "TransformerConfig"]


class Transformer(nn.Module):
    """Embedding, ``n_layers`` blocks, a last norm (pre-norm only) and an untied output layer.

    Parameters
    ----------
    config : TransformerConfig
        A decoder over symbols takes its sizes from it and needs none of the others.
    n_features, context_length : int
        F of the bars, and T, the slots of learned positions.
    n_outputs : int
        C of a logits head.
    """

    def __init__(
        self, config: TransformerConfig, *, n_features: int = 0, context_length: int = 0, n_outputs: int = 1
    ) -> None:
        super().__init__()
        self.config, d_model = config, config.d_model
        self.embedding = _embedding(config, n_features)
        widths = {"d_model": d_model, "d_head": d_model // config.n_heads, "n_heads": config.n_heads}
        self.positions = build_positions(config.positions, **widths, max_length=context_length)
        self.dropout = dropout_layer(config.dropout)
        self.blocks = BlockStack(_block(config, layer) for layer in range(config.n_layers))
        self.final_norm = build_norm(config.norm, d_model) if config.norm_first else nn.Identity()
        self.head = nn.Linear(d_model, output_width(config, n_outputs=n_outputs))

    def forward(self, batch: Batch, state: State | None = None) -> ModelOutput:
        """Predict the symbol after each of the last tokens, or what the head says of the window.

        Parameters
        ----------
        batch : Batch
            ``tokens`` (B, T), or bars as ``values`` (B, T, F) and ``categories`` (B, T, K); ``mask``,
            ``positions`` and ``calendar`` where given.
        state : State or None
            Of the tokens before these, from `start` or from the last call; a decoder then goes on with its
            sequences, and its outputs are those of one call over all of them. Where ``positions`` are not
            given they count on.

        Returns
        -------
        ModelOutput
            Over symbols ``next_symbol`` (B, T, C), at the last ``prediction_length`` tokens alone where that
            is set; else the prediction of the head. Step p of a forecast with ``prediction_length`` H is read
            at token T - H + p. The embedding (B, D) is the last real token after the last norm.

        Raises
        ------
        Fault
            When the batch lacks what this model reads or carries what it cannot use.
        """
        steps = _steps(batch, state)
        x_BTD = self.positions.add(self._embed(batch), steps, batch.calendar)
        x_BTD, after = self._pass(self.dropout(x_BTD), steps, batch.mask, state)
        x_BTD = self.final_norm(x_BTD)
        return ModelOutput(self._predict(x_BTD, batch.mask), _last(x_BTD, batch.mask, 1)[:, 0], after)

    def start(self) -> State:
        """Return the state before the first token of a sequence.

        Raises
        ------
        Fault
            When nothing can be carried: an encoder, or positions that depend on the length of the call.
        """
        if not self.config.causal:
            raise Fault("state", "be left out under causal=false", "an encoder", "hand it whole windows")
        if self.config.positions.kind == "rope_dynamic":
            raise Fault(
                "state", "be left out under positions=rope_dynamic", "a state", "use rope_ntk or yarn"
            )
        return State(layers=(BlockState(),) * self.config.n_layers)

    def _embed(self, batch: Batch) -> Float[Tensor, "B T D"]:
        symbols = self.config.vocab_size is not None
        bars = {"values": batch.values, "categories": batch.categories}
        unused = bars if symbols else {"tokens": batch.tokens}
        extra = [name for name, field in unused.items() if field is not None]
        if extra:
            kind = "symbols" if symbols else "bars"
            raise Fault("batch", f"hold {kind} only for this transformer", extra, "leave them out")
        if not symbols:
            return self.embedding(batch.values, batch.categories, batch.mask)
        if batch.tokens is None:
            raise Fault("batch.tokens", "be given to transformer", None, "pass symbols (B, T)")
        return self.embedding(batch.tokens)

    def _pass(
        self, x_BTD: Tensor, steps: Tensor | None, mask: Tensor | None, state: State | None
    ) -> tuple[Tensor, State | None]:
        place = Place.of(self.positions, steps, like=x_BTD)
        window = {"window_size": self.config.window_size, "n_sinks": self.config.n_sinks}
        options: dict[str, Any] = {**window, "place": place, "mask": mask}
        if state is None:
            return self.blocks(x_BTD, causal=self.config.causal, **options), None
        self._check(state)
        x_BTD, layers = self.blocks.resume(x_BTD, state.layers, **options)
        return x_BTD, State(layers)

    def _check(self, state: State) -> None:
        if len(state.layers) != len(self.start().layers):
            n_layers = self.config.n_layers
            raise Fault("state", f"have {n_layers} layers", len(state.layers), "begin with start()")

    def _predict(self, x_BTD: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        config, n_last = self.config, self.config.prediction_length
        if config.predicts_symbols:
            return {"next_symbol": self.head(x_BTD if n_last is None else _last(x_BTD, mask, n_last))}
        if n_last is None:
            return as_prediction(config.window_head, self.head(_last(x_BTD, mask, 1)[:, 0]))
        return {"forecast": self.head(_last(x_BTD, mask, n_last))}


def _embedding(config: TransformerConfig, n_features: int) -> nn.Module:
    if config.vocab_size is not None:
        return nn.Embedding(config.vocab_size, config.d_model)
    return BarEmbedding(
        n_features=n_features,
        d_real=config.real_embedding_dim,
        categories=config.categories,
        d_categories=config.feature_embedding_dims,
        d_joint=config.joint_embedding_dim,
    )


def _block(config: TransformerConfig, layer: int) -> Block:
    return Block(
        config.d_model,
        config.n_heads,
        config.d_ff,
        dropout=config.dropout,
        conv_taps=config.conv_taps,
        n_kv_heads=config.kv_heads,
        activation=config.activation,
        norm=config.norm,
        norm_first=config.norm_first,
        bias=config.bias,
        attractor=config.attractor if layer in config.injected_layers else None,
    )


def _steps(batch: Batch, state: State | None) -> Int[Tensor, " T"] | None:
    """Return the index of every token; None where it counts from 0 and nothing is carried."""
    if batch.positions is not None or state is None:
        return batch.positions
    first = state.layers[0].n_seen if state.layers else 0
    return first + torch.arange(_length(batch), device="cpu")


def _length(batch: Batch) -> int:
    """Return T of whatever is given."""
    given = (batch.tokens, batch.values, batch.categories)
    return next((x.shape[1] for x in given if x is not None), 0)


def _last(x_BTD: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"] | None, n: int) -> Float[Tensor, "B n D"]:
    """Return the last n tokens (all of them where there are fewer), up to the last real one of each row."""
    n = min(n, x_BTD.shape[1])
    if mask is None:
        return x_BTD[:, -n:]
    last_B = (mask * torch.arange(mask.shape[1], device=mask.device)).argmax(dim=1)
    at_Bn = (last_B[:, None] + torch.arange(1 - n, 1, device=mask.device)).clamp(min=0)
    return x_BTD[torch.arange(x_BTD.shape[0], device=mask.device)[:, None], at_Bn]
