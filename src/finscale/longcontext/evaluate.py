"""Ask a trained decoder for what it read.

The samples depend on seed, task, length and depth alone, so that every encoding answers the same questions.
n samples, L symbols.
"""

import itertools
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from finscale.core.seeding import generator
from finscale.longcontext.config import TASKS, LongContextConfig, Positions, Task
from finscale.longcontext.rows import RetrievalRow, accuracy
from finscale.longcontext.tasks import Samples, retrieval_samples
from finscale.models.contract import Batch

__all__ = ["evaluate_decoder", "evaluation_samples", "predict"]


def ignore(row: RetrievalRow) -> None:
    """Listen to nothing."""


def evaluate_decoder(
    model: nn.Module,
    config: LongContextConfig,
    *,
    mode: Positions,
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
        Positional encoding and seed of the decoder; the seed also names the samples.
    on_event : callable
        Told about every row.
    """
    asked, rows = config.evaluation, []
    for task, length, depth in itertools.product(TASKS, asked.lengths, asked.depths):
        samples = evaluation_samples(config, task=task, length=length, depth=depth, seed=seed)
        started_s = time.perf_counter()
        right = predict(model, samples, tokens_per_batch=asked.tokens_per_batch) == samples.answers
        runtime_s = time.perf_counter() - started_s
        where = {"task": task, "length": length, "depth": depth, "mode": mode, "seed": seed}
        rows.append(RetrievalRow(**where, **accuracy(int(right.sum()), len(right)), runtime_s=runtime_s))
        on_event(rows[-1])
    return rows


def evaluation_samples(
    config: LongContextConfig, *, task: Task, length: int, depth: float, seed: int
) -> Samples:
    """Return the samples of one row; no encoding enters."""
    rng = generator(seed, "long_context", "evaluation", task, length, repr(float(depth)))
    n, symbols = config.evaluation.n_samples, config.symbols
    return retrieval_samples(rng, n, length, task=task, depth=depth, symbols=symbols)


def predict(model: nn.Module, samples: Samples, *, tokens_per_batch: int) -> NDArray[np.int64]:
    """Return the symbol (n,) that follows the query; the answer itself is not shown to the model."""
    shown = torch.from_numpy(samples.tokens[:, :-1])
    parts = shown.split(max(1, tokens_per_batch // shown.shape[1]))
    with torch.inference_mode():
        guesses = [model(Batch(tokens=part)).prediction["next_symbol"][:, -1].argmax(-1) for part in parts]
    return torch.cat(guesses).numpy()
