"""Evaluation: the same questions for every encoding, the answer hidden, the intervals right."""

import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from finscale.core.errors import Fault
from finscale.core.seeding import generator
from finscale.longcontext.config import LongContextConfig
from finscale.longcontext.decoder_config import SymbolConfig
from finscale.longcontext.evaluate import evaluate_decoder, evaluation_samples, predict, sequence_scores
from finscale.longcontext.rows import RetrievalRow, accuracy, metrics_lines, pool, rows_table, wilson_interval
from finscale.longcontext.task_names import is_placed
from finscale.longcontext.tasks import place_samples
from finscale.models.contract import Batch, ModelOutput


class Reader(nn.Module):
    """A perfect reader: it looks up the last (or a random) value written under the last symbol it sees."""

    def __init__(self, config: LongContextConfig, *, minds_order: bool) -> None:
        super().__init__()
        self.symbols, self.minds_order = config.symbols, minds_order
        self.rng, self.seen = np.random.default_rng(0), []

    def forward(self, batch: Batch) -> ModelOutput:
        self.seen.append(batch.tokens)
        logits = torch.zeros(*batch.tokens.shape, self.symbols.vocab_size)
        for row, tokens in enumerate(batch.tokens):
            for place in range(0, len(tokens), 2):
                logits[row, place, self._answer(tokens[: place + 1])] = 1.0
        return ModelOutput({"next_symbol": logits}, embedding=logits[:, -1])

    def _answer(self, tokens: Tensor) -> int:
        keys, values = tokens[0:-1:2], tokens[1::2]
        own = values[keys == tokens[-1]].tolist() or [0]
        return own[-1] if self.minds_order else self.rng.choice(own)


def with_samples(config: LongContextConfig, n_samples: int) -> LongContextConfig:
    return config.model_copy(
        update={"evaluation": config.evaluation.model_copy(update={"n_samples": n_samples, "n_recall": 60})}
    )


def test_a_reader_who_minds_order_is_always_right_and_one_who_does_not_guesses_latest(
    smoke: LongContextConfig,
) -> None:
    config, scores = with_samples(smoke, 250), {}
    for minds_order in (True, False):
        reader = Reader(config, minds_order=minds_order)
        table = rows_table(evaluate_decoder(reader, config, mode="none", seed=0))
        scores[minds_order] = pool(table, ["task"]).set_index("task")["acc"]
    assert scores[True].to_dict() == dict.fromkeys(("dense", "far", "latest", "needle", "overwrite"), 1.0)
    assert scores[False]["needle"] == scores[False]["far"] == 1.0
    assert scores[False]["overwrite"] == pytest.approx(0.75, abs=0.08)
    assert scores[False]["latest"] == pytest.approx(1 / smoke.symbols.n_overwrites, abs=0.05)


def test_every_encoding_is_asked_the_same_questions(smoke: LongContextConfig) -> None:
    asked = {}
    for mode in ("rope", "none"):
        reader = Reader(smoke, minds_order=True)
        evaluate_decoder(reader, smoke, mode=mode, seed=0)
        asked[mode] = reader.seen
    assert len(asked["rope"]) == len(asked["none"]) > 0
    assert all(torch.equal(a, b) for a, b in zip(asked["rope"], asked["none"], strict=True))


@pytest.mark.parametrize("other", [{"seed": 1}, {"depth": 0.8}, {"task": "latest"}])
def test_another_seed_depth_or_task_asks_other_questions(smoke: LongContextConfig, other: dict) -> None:
    place = {"task": "needle", "length": 64, "depth": 0.2, "seed": 0}
    first, second = (evaluation_samples(smoke, **{**place, **change}) for change in ({}, other))
    assert not np.array_equal(first.tokens[:, -2:], second.tokens[:, -2:])


def test_the_answer_is_not_shown_and_the_batch_size_does_not_matter(smoke: LongContextConfig) -> None:
    samples = evaluation_samples(smoke, task="needle", length=64, depth=0.2, seed=0)
    readers = [Reader(smoke, minds_order=True) for _ in range(2)]
    one_by_one = predict(readers[0], samples, tokens_per_batch=1)
    together = predict(readers[1], samples, tokens_per_batch=10**6)
    assert np.array_equal(one_by_one, together)
    assert (len(readers[0].seen), len(readers[1].seen)) == (smoke.evaluation.n_samples, 1)
    assert torch.equal(readers[1].seen[0], torch.from_numpy(samples.tokens[:, :-1]))


def test_rows_say_what_was_asked_in_order(smoke: LongContextConfig) -> None:
    heard: list[RetrievalRow] = []
    reader = Reader(smoke, minds_order=True)
    rows = evaluate_decoder(reader, smoke, mode="rope", seed=7, on_event=heard.append)
    assert heard == rows
    assert [(row.task, row.length, row.depth) for row in rows] == [
        *((task, n, depth) for task in ("needle", "latest") for n in (32, 64) for depth in (0.2, 0.8)),
        *((task, n, None) for task in ("dense", "far", "overwrite") for n in (32, 64)),
    ]
    assert {(row.mode, row.seed, row.n) for row in rows} == {("rope", 7, 16)}


def test_the_interval_is_wilsons() -> None:
    n_right, n, z = 7, 20, 1.959963984540054
    centre, spread = n_right / n + z**2 / (2 * n), np.sqrt(0.35 * 0.65 / n + z**2 / (4 * n**2))
    expected = [(centre + sign * z * spread) / (1 + z**2 / n) for sign in (-1, 1)]
    assert wilson_interval(n_right, n) == pytest.approx(expected, abs=1e-12)


def test_pooling_adds_counts_and_keeps_what_it_is_asked_to_keep() -> None:
    place = {"task": "needle", "length": 64, "mode": "rope", "runtime_s": 0.1}
    rows = [
        RetrievalRow(**place, **accuracy([1, 0, 0]), depth=0.1, seed=0),
        RetrievalRow(**place, **accuracy([1]), depth=0.9, seed=0),
        RetrievalRow(**place, **accuracy([0, 0, 0, 0]), depth=0.9, seed=1),
    ]
    pooled = pool(rows_table(rows), ["mode", "seed"])
    assert pooled[["seed", "acc", "n"]].to_numpy().tolist() == [[0, 0.5, 4], [1, 0.0, 4]]
    assert pooled.loc[0, ["low", "high"]].tolist() == list(wilson_interval(2, 4))


def test_metrics_lines_are_json_with_the_published_fields(smoke: LongContextConfig) -> None:
    table = rows_table(evaluate_decoder(Reader(smoke, minds_order=True), smoke, mode="none", seed=0))
    lines = [json.loads(line) for line in metrics_lines(table).splitlines()]
    assert len(lines) == len(table) == 14
    assert list(lines[0]) == ["task", "length", "depth", "mode", "acc", "seed", "runtime_s"]
    assert [line["length"] for line in lines] == table["length"].tolist()
    assert [line["depth"] for line in lines][-1] is None


def test_a_sequence_scores_the_share_of_its_answers(smoke: LongContextConfig) -> None:
    samples = evaluation_samples(smoke, task="far", length=64, depth=None, seed=0)
    guesses = samples.answers.copy()
    guesses[0] += 1
    scores = sequence_scores(samples, guesses)
    assert scores.tolist() == [0.5] + [1.0] * 15


def test_no_two_sequences_of_a_place_are_alike() -> None:
    symbols = SymbolConfig(n_keys=2, n_values=4, n_noise=1, n_active=2, n_overwrites=2)
    ask = {"task": "needle", "depth": 0.5, "symbols": symbols}
    samples = place_samples(generator(0, "x"), 30, 8, **ask)
    assert len({row.tobytes() for row in samples.tokens}) == 30
    assert np.array_equal(samples.answers, samples.tokens[:, -1])
    with pytest.raises(Fault, match=r"n_samples must leave room for sequences that differ, got 60"):
        place_samples(generator(0, "x"), 60, 8, **ask)


@pytest.mark.parametrize("task", ["needle", "latest", "dense", "far", "overwrite"])
def test_a_random_guesser_scores_at_chance(smoke: LongContextConfig, task: str) -> None:
    depth = 0.8 if is_placed(task) else None
    config = with_samples(smoke, 300)
    samples = evaluation_samples(config, task=task, length=64, depth=depth, seed=0)
    rng = np.random.default_rng(0)
    guesses = smoke.symbols.n_keys + rng.integers(smoke.symbols.n_values, size=len(samples.answers))
    chance = 1 / smoke.symbols.n_values
    assert sequence_scores(samples, guesses).mean() == pytest.approx(chance, abs=0.06)
