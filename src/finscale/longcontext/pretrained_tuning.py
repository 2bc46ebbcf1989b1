"""Tune a pretrained model for a few steps, on a text of the user's or on synthetic samples.

B sequences, L tokens.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from finscale.core.errors import Fault
from finscale.core.seeding import generator
from finscale.longcontext.pretrained import PretrainedDecoder
from finscale.longcontext.pretrained_config import TuningConfig
from finscale.longcontext.tasks import Samples
from finscale.longcontext.train import sequence_loss
from finscale.models.contract import Batch
from finscale.training.optimizers import build_optimizer, set_learning_rate
from finscale.training.schedules import learning_rate_at

__all__ = ["TuningStep", "fine_tune", "text_samples"]


class TuningStep(NamedTuple):
    """One optimizer step, its number counted from 1; loss in nats per scored token of its batch."""

    step: int
    n_steps: int
    loss: float


def ignore(step: TuningStep) -> None:
    """Listen to nothing."""


def fine_tune(
    model: PretrainedDecoder,
    samples: Iterable[Samples],
    tuning: TuningConfig,
    *,
    on_event: Callable[[TuningStep], None] = ignore,
) -> tuple[TuningStep, ...]:
    """Train for ``tuning.n_steps`` steps, one batch of samples each; return all steps.

    Every weight is trained; of a quantized model the attractors alone, which are not quantized.

    Parameters
    ----------
    model : PretrainedDecoder
        Changed in place, and in evaluation mode afterwards.
    samples : iterable of Samples
        `text_samples`, or the mixes of `finscale.longcontext.tasks`.
    tuning : TuningConfig
        Recipe.
    on_event : callable
        Told about every step.

    Raises
    ------
    Fault
        When nothing can be trained, samples run out, or the loss is no longer finite.
    """
    trained = _trained(model)
    optimizer = build_optimizer(trained, tuning.optimizer, total_steps=tuning.n_steps)
    steps: list[TuningStep] = []
    model.train()
    for index, batch in enumerate(itertools.islice(samples, tuning.n_steps)):
        rate = learning_rate_at(index, training=tuning.optimizer, total_steps=tuning.n_steps)
        set_learning_rate(optimizer, rate)
        optimizer.zero_grad(set_to_none=True)
        loss = _loss(model, batch)
        _require_finite(loss, index, tuning)
        loss.backward()
        nn.utils.clip_grad_norm_(trained.parameters(), tuning.clip_norm)
        optimizer.step()
        steps.append(TuningStep(index + 1, tuning.n_steps, loss.item()))
        on_event(steps[-1])
    model.eval()
    if len(steps) < tuning.n_steps:
        raise Fault("samples", f"last for n_steps={tuning.n_steps}", len(steps), "hand over more")
    return tuple(steps)


def text_samples(model: PretrainedDecoder, tuning: TuningConfig, *, seed: int) -> Iterator[Samples]:
    """Yield batches of stretches of the user's text, drawn at random; every next token is scored.

    Raises
    ------
    Fault
        When no text is named, it cannot be read, or is shorter than one sequence.
    """
    codes = _codes(model, tuning)
    rng = generator(seed, "long_context", "tuning")
    scored = np.ones((tuning.batch_size, tuning.length), dtype=bool)
    scored[:, -1] = False
    while True:
        first = rng.integers(len(codes) - tuning.length + 1, size=(tuning.batch_size, 1))
        yield Samples(codes[first + np.arange(tuning.length)], scored)


def _codes(model: PretrainedDecoder, tuning: TuningConfig) -> np.ndarray:
    if tuning.text_file is None:
        raise Fault("tuning.text_file", "be given", "nothing", "name a text file, or hand over samples")
    try:
        text = Path(tuning.text_file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Fault("tuning.text_file", "be a readable UTF-8 text", tuning.text_file, str(error)) from error
    codes = model.encode(text)[0].numpy()
    if len(codes) < tuning.length:
        rule, remedy = f"have at least length={tuning.length} tokens", "lower tuning.length"
        raise Fault("tuning.text_file", rule, len(codes), remedy)
    return codes


def _trained(model: PretrainedDecoder) -> nn.Module:
    if not model.pretrained.quantized:
        return model
    if not len(model.attractors):
        rule = "have something to train that is not quantized"
        raise Fault(
            "model", rule, "no attractor", "set model.attractor, or load it without load_in_4bit/8bit"
        )
    if any(_is_packed(weights) for weights in model.network.parameters()):
        rule, remedy = "be tuned before it is asked anything", "load it again, and tune it first"
        raise Fault("model", rule, "4-bit weights that were packed for inference on the CPU", remedy)
    model.network.requires_grad_(False)
    return model.attractors


def _is_packed(weights: torch.Tensor) -> bool:
    """Whether bitsandbytes has put weights into a layout that gradients do not pass, without a word."""
    return bool(getattr(getattr(weights, "quant_state", None), "packing_format_for_cpu", False))


def _loss(model: PretrainedDecoder, samples: Samples) -> torch.Tensor:
    tokens, scored = torch.from_numpy(samples.tokens), torch.from_numpy(samples.scored)
    logits = model(Batch(tokens=tokens)).prediction["next_symbol"]
    scored, answers = scored.to(logits.device), torch.from_numpy(samples.answers).to(logits.device)
    return sequence_loss(logits[scored].float(), answers, scored)


def _require_finite(loss: torch.Tensor, index: int, tuning: TuningConfig) -> None:
    if not math.isfinite(loss.item()):
        got = f"loss={loss.item()} at step {index + 1} with learning_rate={tuning.learning_rate}"
        raise Fault("tuning.learning_rate", "keep the loss finite", got, "lower it")
