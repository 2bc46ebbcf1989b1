"""Ask a trained decoder for what it read.

The samples depend on seed, task, length and depth alone, so that every mode answers the same questions.
n samples, L symbols, Q answers, C symbols of the alphabet.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from finscale.core.seeding import generator
from finscale.longcontext.config import LongContextConfig
from finscale.longcontext.rows import RetrievalRow, accuracy, ignore
from finscale.longcontext.task_names import Task
from finscale.longcontext.tasks import Samples, place_samples
from finscale.models.contract import Batch

__all__ = ["answer_logits", "evaluate_decoder", "evaluation_samples", "predict", "sequence_scores"]


def evaluate_decoder(
    model: nn.Module,
    config: LongContextConfig,
    *,
    mode: str,
    seed: int,
    on_event: Callable[[RetrievalRow], None] = ignore,
) -> list[RetrievalRow]:
    """Return one row per task, length and depth.

    Parameters
    ----------
    model : nn.Module
        A decoder in evaluation mode.
    config : LongContextConfig
        Of the block it was trained for.
    mode, seed
        Of the decoder; the seed also names the samples.
    on_event : callable
        Told about every row.
    """
    rows = []
    for task, length, depth in config.evaluation.places():
        samples = evaluation_samples(config, task=task, length=length, depth=depth, seed=seed)
        started_s = time.perf_counter()
        guesses = predict(model, samples, tokens_per_batch=config.evaluation.tokens_per_batch)
        runtime_s = time.perf_counter() - started_s
        where = {"task": task, "length": length, "depth": depth, "mode": mode, "seed": seed}
        scored = accuracy(sequence_scores(samples, guesses))
        rows.append(RetrievalRow(**where, **scored, runtime_s=runtime_s))
        on_event(rows[-1])
    return rows


def evaluation_samples(
    config: LongContextConfig, *, task: Task, length: int, depth: float | None, seed: int
) -> Samples:
    """Return the samples of one row; no mode enters."""
    place = repr(None if depth is None else float(depth))
    rng = generator(seed, "long_context", "evaluation", task, length, place)
    n, symbols = config.evaluation.n_sequences(task), config.decoder_symbols
    return place_samples(rng, n, length, task=task, depth=depth, symbols=symbols)


def predict(model: nn.Module, samples: Samples, *, tokens_per_batch: int) -> NDArray[np.int64]:
    """Return the symbol that follows every scored one."""
    return answer_logits(model, samples, tokens_per_batch=tokens_per_batch).argmax(-1).numpy()


def answer_logits(model: nn.Module, samples: Samples, *, tokens_per_batch: int) -> Float[Tensor, "Q C"]:
    """Return what is said after every scored symbol; the last answer is never shown to the model."""
    shown, scored = torch.from_numpy(samples.tokens[:, :-1]), torch.from_numpy(samples.scored[:, :-1])
    n = max(1, tokens_per_batch // shown.shape[1])
    said = []
    with torch.inference_mode():
        for part, asked in zip(shown.split(n), scored.split(n), strict=True):
            said.append(model(Batch(tokens=part)).prediction["next_symbol"][asked])
    return torch.cat(said)


def sequence_scores(samples: Samples, guesses: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share of right answers of every sequence."""
    right, n = guesses == samples.answers, samples.scored.sum(axis=1)
    first = np.concatenate([[0], np.cumsum(n)[:-1]])
    scores: NDArray[np.float64] = np.add.reduceat(right.astype(float), first) / n
    return scores
