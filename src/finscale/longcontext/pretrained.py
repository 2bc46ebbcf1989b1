"""A pretrained language model that answers as our own decoders do, changed as asked.

B sequences, T tokens of a call, n new or scored ones, C size of the vocabulary.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from finscale.core.errors import Fault, raise_faults
from finscale.longcontext.pretrained_attractor import (
    build_cache,
    cache_bytes,
    inject,
    read_attractors,
    write_attractors,
)
from finscale.longcontext.pretrained_config import PretrainedConfig, PretrainedModelConfig, SystemConfig
from finscale.longcontext.pretrained_decoding import Decoding, generation_config
from finscale.longcontext.pretrained_loading import load_network, load_tokenizer
from finscale.longcontext.pretrained_positions import attends_ourselves, home, put_attention, put_positions
from finscale.models.contract import Batch, ModelOutput, State, evaluating

__all__ = ["PretrainedDecoder", "load_pretrained"]

_CHUNK = 512


@dataclass(frozen=True)
class _CacheState:
    """The cache of transformers, which grows in place, and how many tokens it had read."""

    cache: Any
    n_seen: int = 0

    @property
    def n_bytes(self) -> int:
        return cache_bytes(self.cache)


class PretrainedDecoder(nn.Module):
    """A causal language model of transformers under the contract of `finscale.models.transformer`.

    Parameters
    ----------
    pretrained, model, system
        As in `load_pretrained`, which makes it.
    seed : int
        Of what an attractor starts from.

    Attributes
    ----------
    network : transformers.PreTrainedModel
        The model itself; its ``save_pretrained`` writes weights that any other program can read.
    attractors : nn.ModuleDict
        By index of their layer; empty where there are none.
    """

    def __init__(
        self, pretrained: PretrainedConfig, model: PretrainedModelConfig, system: SystemConfig, *, seed: int
    ) -> None:
        super().__init__()
        self.pretrained, self.changes, self.window_size = pretrained, model, system.window_size
        own = attends_ourselves(model, window_size=system.window_size)
        self.network: Any = load_network(pretrained, system, own_attention=own)
        positions = put_positions(self.network, model)
        if own:
            put_attention(self.network, positions, window_size=system.window_size)
        self.attractors = inject(self.network, model.attractor, positions, seed=seed)
        if system.gradient_checkpointing:
            _checkpoint_activations(self.network)
        if system.compile:
            self.network.model.compile()

    @property
    def config(self) -> Any:
        """The checkpoint's own config; ``vocab_size`` is among its fields."""
        return self.network.config

    @cached_property
    def tokenizer(self) -> Any:
        """The checkpoint's tokenizer, read when first asked for."""
        return load_tokenizer(self.pretrained)

    def new_cache(self) -> Any:
        """Return an empty cache for calls of `network`: it evicts, and has room for attractors."""
        injected = tuple(int(index) for index in self.attractors)
        return build_cache(self.config, injected=injected, window_size=self.window_size)

    def start(self) -> State:
        """Return the state before the first token of a sequence."""
        return State(layers=(_CacheState(self.new_cache()),))

    def forward(self, batch: Batch, state: State | None = None) -> ModelOutput:
        """Return ``next_symbol`` (B, T, C) for tokens, given what came before them.

        Parameters
        ----------
        batch : Batch
            ``tokens``; ``mask`` and ``positions`` where given, the mask for whole sequences only.
        state : State or None
            Of `start` or of the last call, once only: the cache behind it grows in place.

        Raises
        ------
        FinscaleError
            When the batch holds what is not read, or the state has been gone on with already.
        """
        raise_faults(_batch_faults(batch, state))
        tokens = batch.tokens.to(home(self.network.model.embed_tokens))  # type: ignore[union-attr]
        held = None if state is None else state.layers[0]
        hidden_BTD = self.network.model(
            input_ids=tokens,
            # without a cache and a mask, positions that do not start at 0 would be read as several texts
            attention_mask=None if held else _mask(tokens, batch.mask).long(),
            position_ids=_steps(tokens, batch, 0 if held is None else held.n_seen),
            past_key_values=None if held is None else held.cache,
            use_cache=held is not None,
        ).last_hidden_state
        last_B = _mask(tokens, batch.mask).cumsum(dim=1).argmax(dim=1)
        embedding_BD = hidden_BTD[torch.arange(len(tokens), device=hidden_BTD.device), last_B]
        after = None if held is None else State((_CacheState(held.cache, held.n_seen + tokens.shape[1]),))
        return ModelOutput({"next_symbol": self.network.lm_head(hidden_BTD)}, embedding_BD, after)

    def logits(
        self, tokens: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T C"]:
        """Return what is said after every token, without gradients."""
        with evaluating(self):
            return self(Batch(tokens=tokens, mask=mask)).prediction["next_symbol"]

    def stream(self, chunks: Iterable[Int[Tensor, "B n"]]) -> Iterator[ModelOutput]:
        """Yield what is said after every chunk of sequences of any length; each output carries the state.

        With a window memory does not grow with what has been read.
        """
        state: State | None = self.start()
        for tokens in chunks:
            with evaluating(self):
                output = self(Batch(tokens=tokens), state)
            state = output.state
            yield output

    def score(self, tokens: Int[Tensor, "B T"], n_scored: int) -> Float[Tensor, "B n"]:
        """Return the log-probability, in nats, of each of the last ``n_scored`` tokens given those before.

        Raises
        ------
        Fault
            When there is not one token before them.
        """
        if not 1 <= n_scored < tokens.shape[1]:
            rule = f"be from 1 to {tokens.shape[1] - 1}, one less than the tokens"
            raise Fault("n_scored", rule, n_scored)
        shown, asked = tokens[:, :-1].split(_CHUNK, dim=1), tokens[:, 1:].split(_CHUNK, dim=1)
        said = [
            _chosen(output.prediction["next_symbol"], answers)
            for output, answers in zip(self.stream(shown), asked, strict=True)
        ]
        return torch.cat(said, dim=1)[:, -n_scored:]

    def generate(
        self,
        tokens: Int[Tensor, "B T"],
        n_new: int,
        *,
        mask: Bool[Tensor, "B T"] | None = None,
        n_beams: int = 1,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
    ) -> Int[Tensor, "B n"]:
        """Return at most ``n_new`` next tokens of each sequence; one that ends early is padded.

        Parameters
        ----------
        tokens : Tensor
            Prompts; shorter ones padded at their beginning.
        n_new : int
            Tokens to add.
        mask : Tensor or None
            False where a prompt is padding.
        n_beams : int
            Beams of a beam search; 1 is none.
        temperature : float
            0 takes the likeliest token, or the likeliest beam; above 0 tokens are drawn.
        top_k, top_p : int, float or None
            Draw among the k likeliest tokens, or the likeliest that together have probability p.
        seed : int
            Of the draws.

        Raises
        ------
        FinscaleError
            When an option is out of its range or would have no effect.
        """
        tokens = tokens.to(home(self.network.model.embed_tokens))
        asked = Decoding(n_new=n_new, n_beams=n_beams, temperature=temperature, top_k=top_k, top_p=top_p)
        decoding = generation_config(asked, self.network.generation_config, chunk_length=_CHUNK)
        devices = [tokens.device] if tokens.device.type == "cuda" else []
        with evaluating(self), torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            whole: Tensor = self.network.generate(
                tokens,
                attention_mask=_mask(tokens, mask).long(),
                past_key_values=self.new_cache(),
                generation_config=decoding,
            )
        return whole[:, tokens.shape[1] :]

    def encode(self, text: str) -> Int[Tensor, "1 T"]:
        """Return the tokens of a text."""
        codes: Tensor = self.tokenizer(text, return_tensors="pt")["input_ids"]
        return codes

    def decode(self, tokens: Int[Tensor, "B n"]) -> list[str]:
        """Return the text of each sequence, special tokens left out."""
        return list(self.tokenizer.batch_decode(tokens, skip_special_tokens=True))

    def answer(self, prompt: str, n_new: int, **decoding: Any) -> str:
        """Return the text that follows a prompt; the options are those of `generate`."""
        return self.decode(self.generate(self.encode(prompt), n_new, **decoding))[0]

    def save_attractors(self, path: Path) -> None:
        """Write the attractors' weights to a safetensors file of their own."""
        write_attractors(path, self.attractors, self.changes.attractor)

    def load_attractors(self, path: Path) -> None:
        """Read the weights that `save_attractors` wrote under the same config."""
        read_attractors(path, self.attractors, self.changes.attractor)


def load_pretrained(
    pretrained: PretrainedConfig,
    *,
    model: PretrainedModelConfig | None = None,
    system: SystemConfig | None = None,
    seed: int = 0,
) -> PretrainedDecoder:
    """Return a checkpoint, changed as asked, in evaluation mode.

    Parameters
    ----------
    pretrained : PretrainedConfig
        Which one, and how its weights are read.
    model : PretrainedModelConfig or None
        Positions and attractor; None leaves the checkpoint as it is.
    system : SystemConfig or None
        Device, window and savings of memory; None is any device and full attention.
    seed : int
        Of what an attractor starts from.

    Raises
    ------
    FinscaleError
        When a package is missing, options clash, or the checkpoint cannot be found, read or changed so.
    """
    changes, place = model or PretrainedModelConfig(), system or SystemConfig()
    return PretrainedDecoder(pretrained, changes, place, seed=seed).eval()


def _checkpoint_activations(network: Any) -> None:
    # transformers renamed it on the way to version 6
    renamed = getattr(network, "activation_checkpointing_enable", None)
    (renamed or network.gradient_checkpointing_enable)()


def _batch_faults(batch: Batch, state: State | None) -> Iterator[Fault]:
    given = {"values", "calendar", "categories"} & {name for name, x in vars(batch).items() if x is not None}
    if given or batch.tokens is None:
        got = sorted(given) or "nothing"
        yield Fault("batch", "hold tokens alone for a language model", got, "pass tokens (B, T)")
    if state is None:
        return
    if batch.mask is not None:
        yield Fault("batch.mask", "be left out beside a state", "a mask", "pass whole sequences")
    held = state.layers[0]
    if held.cache.get_seq_length() != held.n_seen:
        rule, got = "be that of the last call", f"one of {held.n_seen} tokens"
        yield Fault("state", rule, got, "begin with start()")


def _steps(tokens: Tensor, batch: Batch, n_seen: int) -> Int[Tensor, "b T"]:
    """Return where tokens stand; those of a padded sequence are counted from its first real one."""
    if batch.positions is not None:
        return batch.positions[None].to(tokens.device)
    if batch.mask is not None:
        return (batch.mask.to(tokens.device).long().cumsum(dim=1) - 1).clamp(min=0)
    return torch.arange(n_seen, n_seen + tokens.shape[1], device=tokens.device)[None]


def _mask(tokens: Tensor, mask: Tensor | None) -> Bool[Tensor, "B T"]:
    return torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask.to(tokens.device)


def _chosen(logits: Float[Tensor, "B n C"], tokens: Int[Tensor, "B n"]) -> Float[Tensor, "B n"]:
    there = tokens.to(logits.device)[:, :, None]
    return logits.float().log_softmax(dim=2).gather(2, there)[:, :, 0]
