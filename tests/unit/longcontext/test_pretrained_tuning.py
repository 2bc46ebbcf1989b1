"""A short fine-tune teaches what it shows, from a text or from samples, and leaves nothing frozen unsaid."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from finscale.core.errors import Fault
from finscale.longcontext.pretrained import PretrainedDecoder, load_pretrained
from finscale.longcontext.pretrained_config import (
    PretrainedConfig,
    PretrainedModelConfig,
    SystemConfig,
    TuningConfig,
)
from finscale.longcontext.pretrained_tuning import TuningStep, fine_tune, text_samples
from finscale.longcontext.tasks import Samples

pytest.importorskip("transformers")
CYCLE = [7, 50, 12, 33, 80]


def load(folder: Path, *, model: dict[str, Any] | None = None, **system: Any) -> PretrainedDecoder:
    pretrained = PretrainedConfig(model_name_or_path=str(folder))
    changes, place = PretrainedModelConfig.read(model or {}), SystemConfig.read({"device": "cpu", **system})
    return load_pretrained(pretrained, model=changes, system=place)


def recipe(**fields: Any) -> TuningConfig:
    default = {"n_steps": 30, "length": 20, "batch_size": 4, "learning_rate": 5e-3, "warmup_steps": 2}
    return TuningConfig.read({**default, **fields})


def cycles() -> Iterator[Samples]:
    """Sequences that repeat one cycle of five tokens from different places."""
    first = np.arange(4)[:, None]
    tokens = np.array(CYCLE)[(first + np.arange(20)) % 5]
    scored = np.ones_like(tokens, dtype=bool)
    scored[:, -1] = False
    return itertools.repeat(Samples(tokens, scored))


@pytest.mark.parametrize(
    ("model", "system"),
    [
        ({"positions": "alibi", "attractor": {"into": "all"}}, {"window_size": 8}),
        ({"positions": "none"}, {"gradient_checkpointing": True}),
    ],
)
def test_a_tuned_model_goes_on_as_it_was_shown(
    checkpoint: Path, model: dict[str, Any], system: dict[str, Any]
) -> None:
    tuned, told = load(checkpoint, model=model, **system), []
    before = {name: weights.clone() for name, weights in tuned.named_parameters()}
    steps = fine_tune(tuned, cycles(), recipe(), on_event=told.append)
    assert told == list(steps) == [TuningStep(i + 1, 30, step.loss) for i, step in enumerate(steps)]
    assert steps[0].loss > 3
    assert steps[-1].loss < 0.3
    assert not tuned.training
    shown = torch.tensor([CYCLE[:3]])
    assert tuned.generate(shown, 7).tolist() == [[33, 80, 7, 50, 12, 33, 80]]
    still = [name for name, weights in tuned.named_parameters() if torch.equal(weights, before[name])]
    assert still == []


def test_gradients_are_the_same_however_memory_is_saved(checkpoint: Path) -> None:
    changes, losses = {"attractor": {"into": "all"}}, []
    for saving in (False, True):
        model = load(checkpoint, model=changes, gradient_checkpointing=saving)
        losses.append([step.loss for step in fine_tune(model, cycles(), recipe(n_steps=4))])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_a_text_is_read_in_stretches_that_the_seed_draws(checkpoint: Path, tmp_path: Path) -> None:
    text = tmp_path / "own.txt"
    text.write_text("".join(chr(33 + i % 90) for i in range(400)), encoding="utf-8")
    model, tuning = load(checkpoint), recipe(text_file=str(text))
    first, second = itertools.islice(text_samples(model, tuning, seed=1), 2)
    assert first.tokens.shape == (4, 20)
    assert np.all((np.diff(first.tokens, axis=1) - 1) % 90 == 0)
    assert first.scored.sum() == 4 * 19
    assert np.array_equal(first.answers, first.tokens[:, 1:].ravel())
    assert not np.array_equal(first.tokens, second.tokens)
    again, other = (next(text_samples(model, tuning, seed=seed)).tokens for seed in (1, 2))
    assert np.array_equal(again, first.tokens)
    assert not np.array_equal(other, first.tokens)
    ends = {int(batch.tokens.max()) for batch in itertools.islice(text_samples(model, tuning, seed=1), 20)}
    assert 93 in ends


def test_a_text_that_cannot_be_used_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    model, text = load(checkpoint), tmp_path / "own.txt"
    with pytest.raises(Fault, match="text_file must be given"):
        next(text_samples(model, recipe(), seed=0))
    with pytest.raises(Fault, match="text_file must be a readable UTF-8 text"):
        next(text_samples(model, recipe(text_file=str(text)), seed=0))
    text.write_text("!" * 19, encoding="utf-8")
    with pytest.raises(Fault, match="must have at least length=20 tokens, got 19"):
        next(text_samples(model, recipe(text_file=str(text)), seed=0))
    text.write_text("!" * 20, encoding="utf-8")
    assert next(text_samples(model, recipe(text_file=str(text)), seed=0)).tokens.shape == (4, 20)


def test_samples_that_run_out_are_refused(checkpoint: Path) -> None:
    with pytest.raises(Fault, match="samples must last for n_steps=30, got 2"):
        fine_tune(load(checkpoint), itertools.islice(cycles(), 2), recipe())


def test_a_loss_that_is_no_number_stops_the_tuning(checkpoint: Path) -> None:
    model = load(checkpoint)
    with torch.no_grad():
        model.network.lm_head.weight.fill_(torch.nan)
    with pytest.raises(Fault, match="learning_rate must keep the loss finite, got loss=nan at step 1"):
        fine_tune(model, cycles(), recipe())


def test_of_a_quantized_model_attractors_alone_are_tuned(checkpoint: Path) -> None:
    """The weights are whole here: what is tested is which of them may move."""
    quantized = PretrainedConfig(model_name_or_path=str(checkpoint), load_in_4bit=True)
    model, bare = load(checkpoint, model={"attractor": {"into": "all"}}), load(checkpoint)
    model.pretrained = bare.pretrained = quantized
    before = {name: weights.clone() for name, weights in model.network.state_dict().items()}
    losses = [step.loss for step in fine_tune(model, cycles(), recipe())]
    assert losses[-1] < losses[0]
    assert all(torch.equal(weights, before[name]) for name, weights in model.network.state_dict().items())
    with pytest.raises(Fault, match="have something to train that is not quantized, got no attractor"):
        fine_tune(bare, cycles(), recipe())
    model.network.lm_head.weight.quant_state = SimpleNamespace(packing_format_for_cpu=True)
    with pytest.raises(Fault, match="model must be tuned before it is asked anything"):
        fine_tune(model, cycles(), recipe())
