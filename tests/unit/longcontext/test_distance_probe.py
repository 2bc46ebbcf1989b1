"""The loss is filed under the distance between a query and the last write of its key."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from finscale.longcontext.config import LongContextConfig
from finscale.longcontext.distance_probe import (
    _mean,
    distance_rows,
    distance_table,
    distances,
    pooled_losses,
)
from finscale.longcontext.tasks import place_samples
from finscale.models.contract import Batch, ModelOutput

REACH = 16


class Reader(nn.Module):
    """Knows what was written up to ``REACH`` symbols before, and nothing of what lies further back."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size

    def forward(self, batch: Batch) -> ModelOutput:
        logits = torch.zeros(*batch.tokens.shape, self.vocab_size)
        for row, tokens in enumerate(batch.tokens.tolist()):
            for i in range(0, len(tokens), 2):
                written = [
                    j for j in range(max(0, i - REACH + 1), i, 1) if j % 2 == 0 and tokens[j] == tokens[i]
                ]
                if written:
                    logits[row, i, tokens[written[-1] + 1]] = 50
        return ModelOutput({"next_symbol": logits}, logits[:, -1])


@pytest.mark.parametrize("task", ["far", "overwrite", "dense", "needle", "latest"])
def test_distances_are_those_of_a_reader_who_walks_back(smoke: LongContextConfig, task: str) -> None:
    depth = 0.5 if task in ("needle", "latest") else None
    rng, symbols = np.random.default_rng(1), smoke.decoder_symbols
    samples = place_samples(rng, 6, 32, task=task, depth=depth, symbols=symbols)
    expected = []
    for tokens, scored in zip(samples.tokens, samples.scored, strict=True):
        for i in np.flatnonzero(scored):
            back = 2
            while tokens[i - back] != tokens[i]:
                back += 2
            expected.append(back)
    assert distances(samples).tolist() == expected


def test_a_reader_with_a_reach_pays_nothing_within_it_and_guesses_beyond(smoke: LongContextConfig) -> None:
    n = smoke.decoder_symbols.vocab_size
    table = distance_table(list(distance_rows(Reader(n), smoke, mode="none", seed=0)))
    assert set(table["task"]) == {"far", "overwrite"}
    assert set(table["length"]) == {32, 64}
    within = table["distance"] < REACH
    assert table.loc[within, "loss"].max() < 1e-6
    np.testing.assert_allclose(table.loc[~within, "loss"], math.log(n), rtol=1e-6)
    per_sequence = smoke.decoder_symbols.n_active
    assert (table.groupby(["task", "length"])["n"].sum() == 32 * per_sequence).all()


def test_answers_of_one_sequence_count_as_one_another() -> None:
    loss, sequence = np.array([1.0, 3.0, 2.0, 6.0]), np.arange(4)
    alone, copied = _mean(loss, sequence), _mean(np.repeat(loss, 8), np.repeat(sequence, 8))
    assert copied["stderr"] == pytest.approx(alone["stderr"])
    assert alone["stderr"] == pytest.approx(loss.std() / 2)
    assert (alone["loss"], copied["n"]) == (3.0, 32)
    assert math.isnan(_mean(loss, np.zeros(4, dtype=int))["stderr"])


def test_seeds_are_pooled_by_their_answers() -> None:
    place = {"task": "far", "length": 32, "mode": "rope", "distance": 8}
    seeds = [
        {"seed": 0, "loss": 1.0, "stderr": 0.3, "n": 30},
        {"seed": 1, "loss": 4.0, "stderr": 0.9, "n": 10},
    ]
    (pooled,) = pooled_losses(pd.DataFrame([place | seed for seed in seeds])).to_dict("records")
    assert (pooled["loss"], pooled["n"]) == (1.75, 40)
    half = 1.96 * math.hypot(0.3 * 30, 0.9 * 10) / 40
    assert pooled["high"] - pooled["loss"] == pytest.approx(half)
    seeds[1]["stderr"] = math.nan
    (unknown,) = pooled_losses(pd.DataFrame([place | seed for seed in seeds])).to_dict("records")
    assert math.isnan(unknown["low"])


def test_a_block_that_asks_neither_task_has_no_rows(smoke: LongContextConfig) -> None:
    asked = smoke.evaluation.model_copy(update={"benchmarks": ("needle", "latest")})
    config = smoke.model_copy(update={"evaluation": asked})
    table = distance_table(list(distance_rows(Reader(16), config, mode="none", seed=0)))
    assert table.empty
    assert "distance" in table.columns
