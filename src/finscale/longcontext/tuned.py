"""Read a checkpoint under one mode of a block, and tune it where the block asks for that."""

from collections.abc import Iterator

import numpy as np

from finscale.core.errors import Fault
from finscale.core.seeding import derive, generator
from finscale.longcontext.config import LongContextConfig
from finscale.longcontext.evaluate_text import encoder_of
from finscale.longcontext.pretrained import PretrainedDecoder, load_pretrained
from finscale.longcontext.pretrained_config import TuningConfig
from finscale.longcontext.pretrained_tuning import fine_tune, text_samples
from finscale.longcontext.prompts import Encode, make_prompt
from finscale.longcontext.task_names import Task
from finscale.longcontext.tasks import Samples

__all__ = ["load_tuned", "prompt_samples"]

_TUNED: tuple[Task, ...] = ("needle", "latest", "multi_key", "variable_tracking", "passkey", "number_string")


def load_tuned(config: LongContextConfig, *, mode: str, seed: int) -> PretrainedDecoder:
    """Return the block's checkpoint as a mode changes it, after ``tuning`` steps where there is any.

    Raises
    ------
    FinscaleError
        When it cannot be read, changed or tuned so.
    """
    if config.pretrained is None:
        raise Fault("pretrained", "be given where no decoder is trained", "nothing", "choose another block")
    changes = config.pretrained_model(mode)
    seeded = derive(seed, "attractor")
    model = load_pretrained(config.pretrained, model=changes, system=config.system, seed=seeded)
    if config.tuning is None:
        return model
    named = config.tuning.text_file is not None
    samples = text_samples if named else prompt_samples
    fine_tune(model, samples(model, config.tuning, seed=seed), config.tuning)
    return model


def prompt_samples(model: PretrainedDecoder, tuning: TuningConfig, *, seed: int) -> Iterator[Samples]:
    """Yield batches of questions in words, each of the tuning's length; the tokens of the answer are scored.

    Tasks are drawn from those of sentences, depths from 0 to 1.
    """
    rng, encode = generator(seed, "long_context", "tuning"), encoder_of(model)
    while True:
        rows = [
            _row(encode, tuning.length, _TUNED[rng.integers(len(_TUNED))], rng)
            for _ in range(tuning.batch_size)
        ]
        yield Samples(*(np.stack(part) for part in zip(*rows, strict=True)))


def _row(encode: Encode, length: int, task: Task, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the tokens of a question and its answer, and where the next token is scored."""
    drawn, depth = int(rng.integers(2**63)), float(rng.uniform())
    asked = make_prompt(np.random.default_rng(drawn), length, task=task, depth=depth, encode=encode)
    right = list(encode(" " + " ".join(asked.problem.references)))
    left = length - len(right)
    prompt = make_prompt(np.random.default_rng(drawn), left, task=task, depth=depth, encode=encode)
    scored = np.zeros(length, dtype=bool)
    scored[left - 1 : -1] = True
    return np.array([*prompt.tokens, *right]), scored
