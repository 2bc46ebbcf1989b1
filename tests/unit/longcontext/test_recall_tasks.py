"""Tasks: exact length, an answer that stands where it should, and no way around reading it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finscale.core.seeding import generator
from finscale.longcontext.decoder_config import MixConfig, SymbolConfig
from finscale.longcontext.tasks import (
    Samples,
    dense_samples,
    needle_slot,
    recall_samples,
    retrieval_samples,
    training_samples,
)

SYMBOLS = SymbolConfig()
LENGTHS = st.integers(32, 150).map(lambda n_slots: 2 * n_slots)
DEPTHS = st.floats(0.15, 1.0)
TASKS = st.sampled_from(["needle", "latest"])
SEEDS = st.integers(0, 10_000)


def writes(row: np.ndarray) -> list[tuple[int, int, int]]:
    """Read a row slot by slot: (slot, key, value) of every slot that is not noise."""
    slots = row.reshape(-1, 2)
    return [(i, int(k), int(v)) for i, (k, v) in enumerate(slots) if k < SYMBOLS.n_keys]


def answers_of(samples: Samples, choose: str, seed: int = 0) -> np.ndarray:
    """Answer each row's one query as a reader who minds order, ignores it, or ignores the key would."""
    rng, found = np.random.default_rng(seed), []
    for row in samples.tokens:
        *past, (_, asked, _) = writes(row)
        own = [value for _, key, value in past if key == asked]
        every = [value for _, _, value in past]
        found.append({"last": own[-1], "any_own": rng.choice(own), "any": rng.choice(every)}[choose])
    return np.array(found)


def accuracy(samples: Samples, choose: str) -> float:
    return float(np.mean(answers_of(samples, choose) == samples.answers))


@settings(max_examples=40, deadline=None)
@given(length=LENGTHS, depth=DEPTHS, task=TASKS, seed=SEEDS)
def test_a_retrieval_sample_has_the_exact_length_and_its_answer_at_the_stated_depth(
    length: int, depth: float, task: str, seed: int
) -> None:
    rng = generator(seed, "test")
    samples = retrieval_samples(rng, 5, length, task=task, depth=depth, symbols=SYMBOLS)
    assert samples.tokens.shape == samples.scored.shape == (5, length)
    assert np.array_equal(samples.scored, np.tile(np.arange(length) == length - 2, (5, 1)))
    for row, answer in zip(samples.tokens, samples.answers, strict=True):
        *past, (_, asked, value) = writes(row)
        own = [(slot, written) for slot, key, written in past if key == asked]
        assert own[-1] == (needle_slot(length, depth), answer)
        assert value == answer
        assert len(own) == (1 if task == "needle" else SYMBOLS.n_overwrites)
        assert len({key for _, key, _ in past}) == SYMBOLS.n_active
        assert len({written for _, _, written in past}) == len(past)


@pytest.mark.parametrize(("depth", "slot"), [(0.0, 0), (0.1, 13), (0.5, 63), (1.0, 126)])
def test_depth_counts_from_the_oldest_slot_to_the_one_before_the_query(depth: float, slot: int) -> None:
    assert needle_slot(256, depth) == slot


@settings(max_examples=25, deadline=None)
@given(length=LENGTHS, seed=SEEDS)
def test_every_scored_symbol_of_training_is_the_last_value_written_under_its_key(
    length: int, seed: int
) -> None:
    samples = training_samples(generator(seed, "test"), 20, length, symbols=SYMBOLS, mix=MixConfig())
    assert samples.tokens.shape == (20, length)
    assert samples.tokens.min() >= 0
    assert samples.tokens.max() < SYMBOLS.vocab_size
    for row, scored in zip(samples.tokens, samples.scored, strict=True):
        known: dict[int, int] = {}
        for slot, key, value in writes(row):
            if scored[2 * slot]:
                assert known[key] == value
            known[key] = value
    assert not samples.scored[:, 1::2].any()


def test_dense_samples_score_each_repeat_and_no_first_write() -> None:
    samples = dense_samples(generator(0, "test"), 10, 64, symbols=SYMBOLS)
    for row, scored in zip(samples.tokens, samples.scored, strict=True):
        keys = row[0::2]
        assert len(set(keys)) <= SYMBOLS.n_active
        expected = [key in keys[:slot] for slot, key in enumerate(keys)]
        assert scored[0::2].tolist() == expected


def test_recall_samples_query_every_key_once_at_the_end() -> None:
    counts = SYMBOLS.overwrite_counts
    samples = recall_samples(generator(0, "test"), 10, 128, symbols=SYMBOLS, n_writes=counts)
    for row, scored in zip(samples.tokens, samples.scored, strict=True):
        queried = row[-2 * SYMBOLS.n_active :: 2]
        past = [key for _, key, _ in writes(row)][: -SYMBOLS.n_active]
        assert sorted(past.count(key) for key in queried) == sorted(counts)
        assert scored.sum() == SYMBOLS.n_active
        assert scored[-2 * SYMBOLS.n_active :: 2].all()


def test_the_mixes_come_in_their_shares() -> None:
    samples = training_samples(generator(0, "test"), 100, 128, symbols=SYMBOLS, mix=MixConfig())
    n_written = [len(writes(row)) for row in samples.tokens]
    per_far, per_overwrite = 2 * SYMBOLS.n_active, SYMBOLS.n_active + sum(SYMBOLS.overwrite_counts)
    assert [n_written.count(n) for n in (64, per_far, per_overwrite)] == [35, 35, 30]


def test_latest_needs_order_and_needle_does_not() -> None:
    by_task = {
        task: retrieval_samples(generator(0, "test"), 2000, 256, task=task, depth=0.5, symbols=SYMBOLS)
        for task in ("needle", "latest")
    }
    assert accuracy(by_task["needle"], "last") == accuracy(by_task["latest"], "last") == 1.0
    assert accuracy(by_task["needle"], "any_own") == 1.0
    assert accuracy(by_task["latest"], "any_own") == pytest.approx(1 / SYMBOLS.n_overwrites, abs=0.03)
    assert accuracy(by_task["needle"], "any") == pytest.approx(1 / SYMBOLS.n_active, abs=0.03)


def test_the_last_value_cannot_be_told_by_its_name() -> None:
    samples = retrieval_samples(generator(0, "test"), 2000, 256, task="latest", depth=0.5, symbols=SYMBOLS)
    largest = []
    for row in samples.tokens:
        *past, (_, asked, _) = writes(row)
        largest.append(max(value for _, key, value in past if key == asked))
    assert np.mean(largest == samples.answers) == pytest.approx(0.25, abs=0.03)


def test_keys_and_values_are_drawn_afresh_for_every_sample() -> None:
    samples = retrieval_samples(generator(0, "test"), 2000, 64, task="needle", depth=0.5, symbols=SYMBOLS)
    n_pairs = SYMBOLS.n_keys * SYMBOLS.n_values
    drawn = {(int(row[-2]), int(row[-1])) for row in samples.tokens}
    assert len(drawn) == pytest.approx(n_pairs * (1 - np.exp(-2000 / n_pairs)), rel=0.05)


def test_equal_streams_give_equal_samples_and_others_do_not() -> None:
    first, again, other = (
        retrieval_samples(generator(seed, "test"), 4, 64, task="needle", depth=0.5, symbols=SYMBOLS).tokens
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
