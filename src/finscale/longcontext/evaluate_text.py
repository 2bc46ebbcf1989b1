"""Ask a language model in words, and score what it says.

The prompts depend on seed, task, length, depth and the tokenizer alone: every mode of a checkpoint is asked
the same. n prompts, L tokens.
"""

import functools
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from finscale.core.errors import Fault, raise_faults
from finscale.core.seeding import derive, generator
from finscale.longcontext.config import LongContextConfig
from finscale.longcontext.costs import with_costs
from finscale.longcontext.pretrained import PretrainedDecoder
from finscale.longcontext.pretrained_positions import home
from finscale.longcontext.prompts import Encode, Prompt, make_prompts
from finscale.longcontext.rows import RetrievalRow, accuracy, ignore
from finscale.longcontext.scoring import exact_match, match_score, perplexity, rouge_l, token_f1
from finscale.longcontext.task_names import ENGINE_TASKS, Task
from finscale.longcontext.text_config import GenerationConfig

__all__ = ["encoder_of", "evaluate_text", "evaluation_prompts"]

_WORDED: dict[str, Callable[[str, Sequence[str]], float]] = {
    "exact_match": exact_match,
    "f1": token_f1,
    "rouge": rouge_l,
}


def evaluate_text(
    model: PretrainedDecoder,
    config: LongContextConfig,
    *,
    mode: str,
    seed: int,
    on_event: Callable[[RetrievalRow], None] = ignore,
) -> list[RetrievalRow]:
    """Return one row per task, length and depth.

    Parameters
    ----------
    model : PretrainedDecoder
        A checkpoint under one mode.
    config : LongContextConfig
        Of a block with ``pretrained``.
    mode, seed
        Of the model; the seed also names the prompts and the draws of an answer.
    on_event : callable
        Told about every row.
    """
    raise_faults(_missing(config.evaluation.tasks))
    rows = []
    for task, length, depth in config.evaluation.places():
        where: dict[str, Any] = {"task": task, "length": length, "depth": depth, "seed": seed}
        ask = _by_engine if task in ENGINE_TASKS else _by_ourselves
        rows.append(RetrievalRow(**where, mode=mode, **ask(model, config, **where)))
        on_event(rows[-1])
    return rows


def _missing(tasks: Sequence[Task]) -> Iterator[Fault]:
    asked = [task for task in tasks if task in ENGINE_TASKS]
    if asked and importlib.util.find_spec("lm_eval") is None:
        remedy = "type: pip install 'finscale[lm-eval]', or leave them out"
        yield Fault("evaluation.benchmarks", f"find the package lm_eval for {asked[0]}", "none", remedy)


def _by_engine(
    model: PretrainedDecoder,
    config: LongContextConfig,
    *,
    task: Task,
    length: int,
    depth: float | None,
    seed: int,
) -> dict[str, Any]:
    """Return the fields of a row that lm-evaluation-harness asked and scored; its time holds its samples."""
    from finscale.longcontext.lm_eval_bridge import engine_scores

    n = config.evaluation.n_sequences(task)
    ask = functools.partial(engine_scores, model, task=task, length=length, n=n, seed=seed)
    device = home(model.network.lm_head)
    scores, costs = with_costs(ask, n_tokens=length * n, device=device, system=config.system)
    return {**accuracy(scores), **costs, "engine": "lm_eval"}


def _by_ourselves(
    model: PretrainedDecoder,
    config: LongContextConfig,
    *,
    task: Task,
    length: int,
    depth: float | None,
    seed: int,
) -> dict[str, Any]:
    prompts = evaluation_prompts(model, config, task=task, length=length, depth=depth, seed=seed)
    generation = config.generation or GenerationConfig()
    per_batch = max(1, config.evaluation.tokens_per_batch // length)
    drawn = {"per_batch": per_batch, "seed": derive(seed, "answers")}
    answers, costs = with_costs(
        functools.partial(_answers, model, prompts, generation, **drawn),
        n_tokens=length * len(prompts),
        device=home(model.network.lm_head),
        system=config.system,
    )
    return {**_measured(model, prompts, answers, generation), **costs}


def evaluation_prompts(
    model: PretrainedDecoder,
    config: LongContextConfig,
    *,
    task: Task,
    length: int,
    depth: float | None,
    seed: int,
) -> list[Prompt]:
    """Return the prompts of one row; no mode enters."""
    place = repr(None if depth is None else float(depth))
    rng = generator(seed, "long_context", "prompts", task, length, place)
    n = config.evaluation.n_sequences(task)
    return make_prompts(rng, n, length, task=task, depth=depth, encode=encoder_of(model))


def encoder_of(model: PretrainedDecoder) -> Encode:
    """Return what turns a piece of a prompt into tokens, and adds none of its own."""
    return functools.partial(_encode, model)


def _encode(model: PretrainedDecoder, text: str) -> list[int]:
    tokens: list[int] = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    if not tokens:
        raise Fault("tokenizer", "turn words into tokens", f"none for {text!r}", "use the checkpoint's own")
    return tokens


def _answers(
    model: PretrainedDecoder,
    prompts: Sequence[Prompt],
    generation: GenerationConfig,
    *,
    per_batch: int,
    seed: int,
) -> list[str]:
    drawn: dict[str, Any] = {}
    if generation.do_sample:
        temperature = 1.0 if generation.temperature is None else generation.temperature
        drawn = {"temperature": temperature, "top_k": generation.top_k, "top_p": generation.top_p}
    tokens = torch.tensor([prompt.tokens for prompt in prompts])
    parts = enumerate(tokens.split(per_batch))
    said = [
        model.generate(part, generation.max_new_tokens, **drawn, seed=derive(seed, str(i)))
        for i, part in parts
    ]
    return [answer for part in said for answer in model.decode(part)]


def _measured(
    model: PretrainedDecoder, prompts: Sequence[Prompt], answers: Sequence[str], generation: GenerationConfig
) -> dict[str, Any]:
    problems = [prompt.problem for prompt in prompts]
    asked = list(zip(answers, problems, strict=True))
    scores = [match_score(answer, problem.references, problem.match) for answer, problem in asked]
    worded: dict[str, float] = {
        name: float(np.mean([measure(answer, problem.references) for answer, problem in asked]))
        for name, measure in _WORDED.items()
        if name in generation.metrics
    }
    if "perplexity" in generation.metrics:
        worded["perplexity"] = perplexity(
            [x for prompt in prompts for x in _log_probabilities(model, prompt)]
        )
    return {**accuracy(scores), **worded}


def _log_probabilities(model: PretrainedDecoder, prompt: Prompt) -> list[float]:
    """Return those, in nats, of the tokens of the right answer."""
    right = _encode(model, " " + " ".join(prompt.problem.references))
    tokens = torch.tensor([[*prompt.tokens, *right]])
    scored: list[float] = model.score(tokens, len(right))[0].tolist()
    return scored
