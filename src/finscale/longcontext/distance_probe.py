"""What an answer costs at which distance from its write: the loss against how far back one has to look.

n samples, L symbols, Q scored symbols.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import nn
from torch.nn import functional

from finscale.core.config import Record
from finscale.core.seeding import generator
from finscale.longcontext.attention_probe import probed_lengths
from finscale.longcontext.config import LongContextConfig
from finscale.longcontext.evaluate import answer_logits
from finscale.longcontext.task_names import Task
from finscale.longcontext.tasks import Samples, place_samples

__all__ = ["DistanceRow", "distance_rows", "distance_table", "distances", "pooled_losses"]

_N_SEQUENCES = 32
_RECALLED: tuple[Task, ...] = ("far", "overwrite")
_KEYS = ["task", "length", "mode", "distance"]


class DistanceRow(Record):
    """Loss of the right answers that lie one octave of distances back.

    Parameters
    ----------
    task, length, mode, seed
        ``far`` or ``overwrite`` in so many symbols, and the decoder.
    distance : int
        Least symbols from the queried key back to its last write; those of the row are below its double.
    loss, stderr : float
        Mean cross-entropy in nats, and its standard error, by sequences: the answers of one are not
        independent.
    n : int
        Answers.
    """

    task: Task
    length: int
    mode: str
    seed: int
    distance: int
    loss: float
    stderr: float
    n: int


def distance_table(rows: list[DistanceRow]) -> pd.DataFrame:
    """Return the rows as a tidy table."""
    return pd.DataFrame([row.model_dump() for row in rows], columns=list(DistanceRow.model_fields))


def distance_rows(
    model: nn.Module, config: LongContextConfig, *, mode: str, seed: int
) -> Iterator[DistanceRow]:
    """Yield one row per task, length and octave; nothing where the block asks neither of the two tasks.

    Parameters
    ----------
    model : nn.Module
        A decoder in evaluation mode.
    config : LongContextConfig
        Of its block.
    mode, seed
        Of the decoder; the seed names the sequences, which are the same in every mode.
    """
    for task in (task for task in config.evaluation.tasks if task in _RECALLED):
        for length in probed_lengths(config, task):
            rng, symbols = generator(seed, "long_context", "distance", task, length), config.decoder_symbols
            samples = place_samples(rng, _N_SEQUENCES, length, task=task, depth=None, symbols=symbols)
            logits = answer_logits(model, samples, tokens_per_batch=config.evaluation.tokens_per_batch)
            answers = torch.from_numpy(samples.answers)
            loss_Q = functional.cross_entropy(logits, answers, reduction="none").double().numpy()
            for distance, measured in _octaves(loss_Q, samples):
                yield DistanceRow(
                    task=task, length=length, mode=mode, seed=seed, distance=distance, **measured
                )


def distances(samples: Samples) -> Int[np.ndarray, " Q"]:
    """Return the symbols from every queried key back to its last write.

    Examples
    --------
    >>> tokens = np.array([[0, 5, 9, 9, 0, 6, 9, 9, 0, 6]])
    >>> distances(Samples(tokens, np.arange(10)[None] == 8)).tolist()
    [4]
    """
    rows_Q, columns_Q = np.nonzero(samples.scored)
    places_L = np.arange(samples.tokens.shape[1])
    same_QL = samples.tokens[rows_Q] == samples.tokens[rows_Q, columns_Q][:, None]
    before_QL = same_QL & (places_L < columns_Q[:, None])
    back_Q: np.ndarray = columns_Q - np.where(before_QL, places_L, -1).max(axis=1)
    return back_Q


def pooled_losses(table: pd.DataFrame) -> pd.DataFrame:
    """Put the seeds together: mean over all answers, its standard error, and 95 % bounds ``low, high``."""
    sums = table.assign(total=table["loss"] * table["n"], spread=(table["stderr"] * table["n"]) ** 2)
    pooled = sums.groupby(_KEYS, sort=True)[["total", "spread", "n"]].agg(_sum).reset_index()
    loss, half = pooled["total"] / pooled["n"], 1.96 * np.sqrt(pooled["spread"]) / pooled["n"]
    return pooled[[*_KEYS, "n"]].assign(loss=loss, low=loss - half, high=loss + half)


def _sum(column: pd.Series) -> float:
    """Return the sum, which is not known where a part is not."""
    return float(column.sum(skipna=False))


def _octaves(loss_Q: Float[np.ndarray, " Q"], samples: Samples) -> Iterator[tuple[int, dict[str, float]]]:
    octave_Q = np.floor(np.log2(distances(samples))).astype(int)
    sequence_Q = np.nonzero(samples.scored)[0]
    for octave in np.unique(octave_Q):
        own = octave_Q == octave
        yield 2 ** int(octave), _mean(loss_Q[own], sequence_Q[own])


def _mean(loss_Q: Float[np.ndarray, " Q"], sequence_Q: Int[np.ndarray, " Q"]) -> dict[str, float]:
    """Return the mean and its standard error by sequences (Liang and Zeger 1986), of several of them."""
    n, loss = len(loss_Q), float(loss_Q.mean())
    by_sequence = np.bincount(sequence_Q, loss_Q - loss)
    several = len(np.unique(sequence_Q)) > 1
    stderr = float(np.sqrt((by_sequence**2).sum()) / n) if several else float("nan")
    return {"loss": loss, "stderr": stderr, "n": n}
