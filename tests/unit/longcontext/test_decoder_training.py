"""Training: fair between encodings, repeatable to the bit, and it learns."""

import numpy as np
import pytest
import torch

from finscale.core.errors import Fault
from finscale.longcontext.config import LongContextConfig
from finscale.longcontext.decoders import pack, training_hash, training_record, unpack
from finscale.longcontext.evaluate import evaluate_decoder
from finscale.longcontext.rows import pool, rows_table
from finscale.longcontext.train import (
    Step,
    TrainedDecoder,
    build_decoder,
    curves_table,
    sequence_loss,
    train_decoder,
    training_batches,
)


def shortened(config: LongContextConfig, n_steps: int, **fields: float) -> LongContextConfig:
    training = config.training.model_copy(update={"n_steps": n_steps, **fields})
    return config.model_copy(update={"training": training})


@pytest.fixture(scope="module")
def trained(smoke: LongContextConfig) -> list[TrainedDecoder]:
    return [train_decoder(smoke, mode=mode, seed=0) for mode in smoke.trained]


def accuracies(config: LongContextConfig, model: torch.nn.Module) -> dict[str, float]:
    asked = config.evaluation.model_copy(
        update={"n_samples": 200, "lengths": (32,), "benchmarks": ("needle",)}
    )
    config = config.model_copy(update={"evaluation": asked})
    table = rows_table(evaluate_decoder(model, config, mode="none", seed=0))
    return dict(pool(table, ["task"])[["task", "acc"]].itertuples(index=False))


def test_a_miniature_decoder_learns_to_retrieve(
    smoke: LongContextConfig, trained: list[TrainedDecoder]
) -> None:
    any_value = 1 / smoke.symbols.n_active
    for decoder in (decoder for decoder in trained if decoder.mode != "window"):
        untrained = build_decoder(smoke, mode=decoder.mode, seed=0).eval()
        assert accuracies(smoke, untrained)["needle"] < any_value / 2
        assert accuracies(smoke, decoder.model)["needle"] > any_value + 0.15


def test_every_encoding_starts_from_the_same_weights(smoke: LongContextConfig) -> None:
    rope, none = (build_decoder(smoke, mode=mode, seed=0).state_dict() for mode in ("rope", "none"))
    other = build_decoder(smoke, mode="rope", seed=1).state_dict()
    assert rope.keys() == none.keys()
    assert all(torch.equal(rope[name], none[name]) for name in rope)
    assert not torch.equal(rope["head.weight"], other["head.weight"])


def test_a_training_repeats_itself_bit_for_bit(smoke: LongContextConfig) -> None:
    short = shortened(smoke, 5)
    first, again = (train_decoder(short, mode="rope", seed=3) for _ in range(2))
    assert [step.loss for step in first.steps] == [step.loss for step in again.steps]
    state = again.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in first.model.state_dict().items())


def test_the_first_steps_see_dense_samples_alone(smoke: LongContextConfig) -> None:
    symbols, n_steps = smoke.symbols, smoke.training.n_steps
    first_noise = symbols.n_keys + symbols.n_values
    holds_noise = [(batch.tokens >= first_noise).any() for batch in training_batches(smoke, seed=0)]
    n_dense = round(smoke.training.mix.dense_only * n_steps)
    assert holds_noise == [False] * n_dense + [True] * (n_steps - n_dense)


def test_every_step_reads_the_stated_number_of_symbols(demo: LongContextConfig) -> None:
    batches = list(training_batches(shortened(demo, 30), seed=0))
    assert {batch.tokens.size for batch in batches} == {demo.training.tokens_per_step}
    assert {batch.tokens.shape[1] for batch in batches} == set(demo.training.lengths)


def test_each_sequence_weighs_the_same_however_much_of_it_is_scored() -> None:
    scored = np.zeros((2, 6), dtype=bool)
    scored[0, :4], scored[1, 2] = True, True
    logits = np.random.default_rng(0).normal(size=(5, 3))
    answers = np.array([0, 1, 2, 0, 1])
    nats = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(5), answers]
    expected = (nats[:4].mean() + nats[4]) / 2
    found = sequence_loss(*(torch.from_numpy(array) for array in (logits, answers, scored)))
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_listeners_hear_every_step_in_order(smoke: LongContextConfig) -> None:
    heard: list[Step] = []
    decoder = train_decoder(shortened(smoke, 4), mode="none", seed=0, on_event=heard.append)
    assert [step.step for step in heard] == [1, 2, 3, 4]
    assert tuple(heard) == decoder.steps
    assert curves_table([decoder])["loss"].tolist() == [step.loss for step in heard]


def test_a_loss_that_explodes_is_said_with_its_step(smoke: LongContextConfig) -> None:
    wild = shortened(smoke, 5, learning_rate=1e30)
    with pytest.raises(
        Fault, match=r"training\.learning_rate must keep the loss finite, got loss=\w+ at step"
    ):
        train_decoder(wild, mode="none", seed=0)


def test_kept_decoders_come_back_as_they_were(
    smoke: LongContextConfig, trained: list[TrainedDecoder]
) -> None:
    record = training_record(smoke, trained).model_dump(mode="json")
    found = list(unpack(pack(trained), record, smoke))
    assert [(mode, seed) for mode, seed, _ in found] == [(mode, 0) for mode in smoke.modes]
    kinds = {mode: model.config.positions.kind for mode, _, model in found}
    assert kinds == {
        "rope": "rope",
        "none": "none",
        "pi_spiral": "pi_spiral",
        "window": "rope",
        "yarn": "yarn",
    }
    weights = {decoder.mode: decoder for decoder in trained}
    for mode, _, model in found:
        decoder, state = weights[smoke.weights_of(mode)], model.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in decoder.model.state_dict().items())
    assert not any(model.training for _, _, model in found)


def test_decoders_of_another_training_or_with_missing_weights_are_refused(
    smoke: LongContextConfig, trained: list[TrainedDecoder]
) -> None:
    record = training_record(smoke, trained).model_dump(mode="json")
    weights = pack(trained)
    with pytest.raises(Fault, match=r"decoders must have the training_hash of this block"):
        list(unpack(weights, record, shortened(smoke, 61)))
    del weights["none/0/head.weight"]
    with pytest.raises(Fault, match=r"weights none/0/ must be complete, got none for head\.weight"):
        list(unpack(weights, record, smoke))


def test_other_questions_leave_the_training_hash_alone(smoke: LongContextConfig) -> None:
    more = smoke.model_copy(update={"evaluation": smoke.evaluation.model_copy(update={"n_samples": 99})})
    assert training_hash(more) == training_hash(smoke) != training_hash(shortened(smoke, 61))
