"""Train one small decoder per mode and seed on the synthetic mixes.

Every mode starts from the same weights and sees the same batches: only what the mode says differs.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from finscale.core.errors import Fault
from finscale.core.seeding import derive, generator
from finscale.longcontext.config import LongContextConfig
from finscale.longcontext.decoder_config import DecoderTraining
from finscale.longcontext.tasks import Samples, dense_samples, training_samples
from finscale.models.contract import Batch
from finscale.models.registry import build_model
from finscale.training.optimizers import build_optimizer, set_learning_rate
from finscale.training.schedules import learning_rate_at

__all__ = [
    "Step",
    "TrainedDecoder",
    "build_decoder",
    "curves_table",
    "sequence_loss",
    "train_decoder",
    "training_batches",
]


@dataclass(frozen=True)
class Step:
    """One optimizer step of one decoder: loss in nats and accuracy over the scored symbols of its batch."""

    mode: str
    seed: int
    step: int
    n_steps: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class TrainedDecoder:
    """A decoder as its last step left it.

    Parameters
    ----------
    mode, seed
        What it is, and its seed.
    model : nn.Module
        In evaluation mode.
    steps : tuple of Step
        All of them.
    runtime_s : float
        Wall time of the training.
    """

    mode: str
    seed: int
    model: nn.Module
    steps: tuple[Step, ...]
    runtime_s: float

    @property
    def n_params(self) -> int:
        """``numel`` of the built model."""
        return sum(weights.numel() for weights in self.model.parameters())


def ignore(step: Step) -> None:
    """Listen to nothing."""


def build_decoder(config: LongContextConfig, *, mode: str, seed: int) -> nn.Module:
    """Return an untrained decoder; equal seeds give equal weights in every mode."""
    longest = max(config.decoder_training.lengths)
    seed = derive(seed, "decoder")
    return build_model(config.transformer(mode), n_features=0, context_length=longest, seed=seed)


def train_decoder(
    config: LongContextConfig, *, mode: str, seed: int, on_event: Callable[[Step], None] = ignore
) -> TrainedDecoder:
    """Train for exactly ``training.n_steps`` steps on the CPU.

    Parameters
    ----------
    config : LongContextConfig
        Shape, recipe and symbols.
    mode : str
        A trained mode of the block.
    seed : int
        Of weights and batches; the same call gives the same weights, bit for bit.
    on_event : callable
        Told about every step.

    Raises
    ------
    Fault
        When the loss is no longer finite.
    """
    started_s = time.perf_counter()
    model = build_decoder(config, mode=mode, seed=seed).train()
    training = config.decoder_training
    optimizer = build_optimizer(model, training.optimizer, total_steps=training.n_steps)
    steps: list[Step] = []
    for index, samples in enumerate(training_batches(config, seed=seed)):
        loss, accuracy = _step(model, optimizer, samples, index, training)
        _require_finite(loss, index, training.learning_rate)
        steps.append(Step(mode, seed, index + 1, training.n_steps, loss, accuracy))
        on_event(steps[-1])
    return TrainedDecoder(mode, seed, model.eval(), tuple(steps), time.perf_counter() - started_s)


def curves_table(decoders: Iterable[TrainedDecoder]) -> pd.DataFrame:
    """Return one row per training step of every decoder: mode, seed, step, loss, accuracy."""
    columns = ["mode", "seed", "step", "loss", "accuracy"]
    return pd.DataFrame([step for decoder in decoders for step in decoder.steps])[columns]


def training_batches(config: LongContextConfig, *, seed: int) -> Iterator[Samples]:
    """Yield the samples of every step; no mode enters.

    Each batch holds as many sequences of one drawn length as ``tokens_per_step`` allows.
    """
    training, symbols = config.decoder_training, config.decoder_symbols
    rng = generator(seed, "long_context", "training")
    for index in range(training.n_steps):
        length = int(rng.choice(training.lengths))
        n = training.tokens_per_step // length
        if index < training.mix.dense_only * training.n_steps:
            yield dense_samples(rng, n, length, symbols=symbols)
        else:
            yield training_samples(rng, n, length, symbols=symbols, mix=training.mix)


def _step(
    model: nn.Module, optimizer: Optimizer, samples: Samples, index: int, training: DecoderTraining
) -> tuple[float, float]:
    """Make one step on the loss of a batch; return it with the accuracy over its scored symbols."""
    tokens, scored_nL = torch.from_numpy(samples.tokens), torch.from_numpy(samples.scored)
    answers = torch.from_numpy(samples.answers)
    logits = model(Batch(tokens=tokens)).prediction["next_symbol"][scored_nL]
    loss = sequence_loss(logits, answers, scored_nL)
    rate = learning_rate_at(index, training=training.optimizer, total_steps=training.n_steps)
    set_learning_rate(optimizer, rate)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
    optimizer.step()
    return loss.item(), (logits.argmax(dim=-1) == answers).float().mean().item()


def _require_finite(loss: float, index: int, learning_rate: float) -> None:
    if not math.isfinite(loss):
        got = f"loss={loss} at step {index + 1} with learning_rate={learning_rate}"
        raise Fault("training.learning_rate", "keep the loss finite", got, "lower it")


def sequence_loss(
    logits_SC: Float[Tensor, "S C"], answers_S: Int[Tensor, " S"], scored_nL: Bool[Tensor, "n L"]
) -> Float[Tensor, ""]:
    """Return the cross-entropy in nats, averaged within each sequence and then over sequences.

    So a dense sequence, which scores up to a hundred symbols, counts no more than one with eight queries.
    """
    share_nL = 1 / scored_nL.sum(dim=1, keepdim=True) / len(scored_nL)
    share_S = share_nL.expand_as(scored_nL)[scored_nL]
    return (functional.cross_entropy(logits_SC, answers_S, reduction="none") * share_S).sum()
