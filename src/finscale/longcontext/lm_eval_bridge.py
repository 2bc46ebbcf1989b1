"""Let lm-evaluation-harness ask a checkpoint of ours; needs the extra ``[lm-eval]``.

T tokens of a request, n of them scored.
"""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import torch

from finscale.longcontext.pretrained import PretrainedDecoder
from finscale.longcontext.task_names import ENGINE_PREFIX, Task

__all__ = ["CheckpointLM", "engine_scores"]

_CHUNK, _N_NEW = 512, 256


def engine_scores(model: PretrainedDecoder, *, task: Task, length: int, n: int, seed: int) -> list[float]:
    """Return the engine's own score of each of n of its samples, cut to a length.

    The samples depend on task, length, tokenizer and seed alone. The engine makes 500 of them whatever n is.

    Parameters
    ----------
    model : PretrainedDecoder
        A checkpoint under one mode.
    task : str
        One of the engine's, after ``lm_eval:``.
    length : int
        Tokens of a prompt at most, the answer's included.
    n, seed : int
        Samples, and the seed of the engine.
    """
    from lm_eval.api.model import LM
    from lm_eval.evaluator import simple_evaluate

    class Asked(CheckpointLM, LM):
        """The checkpoint as a model of the engine's own."""

    name = task.removeprefix(ENGINE_PREFIX)
    seeds = dict.fromkeys(
        ("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed"), seed
    )
    with tempfile.TemporaryDirectory() as folder:
        _write_tokenizer(model, Path(folder))
        told = simple_evaluate(
            Asked(model),
            tasks=[name],
            limit=n,
            bootstrap_iters=0,
            metadata={"tokenizer": folder, "max_seq_lengths": [length]},
            **seeds,
        )
    return [float(sample[str(length)]) for sample in told["samples"][name]]


def _write_tokenizer(model: PretrainedDecoder, folder: Path) -> None:
    """Write the tokenizer without any pointer to code: the engine reads it with trust_remote_code on."""
    model.tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings.pop("auto_map", None)
    path.write_text(json.dumps(settings), encoding="utf-8")


class Request(Protocol):
    """What the engine hands over: the texts and options of one question."""

    args: tuple[Any, ...]


class CheckpointLM:
    """A checkpoint as the engine sees one: texts in, log-probabilities and texts out.

    Parameters
    ----------
    model : PretrainedDecoder
        Whose positions, window and attractor stay as they are.
    """

    def __init__(self, model: PretrainedDecoder) -> None:
        super().__init__()
        self.model = model

    def loglikelihood(self, requests: Iterable[Request]) -> list[tuple[float, bool]]:
        """Return the log-probability of every continuation, and whether it is the likeliest throughout."""
        return [self._continued(*request.args) for request in requests]

    def loglikelihood_rolling(self, requests: Iterable[Request]) -> list[float]:
        """Return the log-probability of every text, given the token that begins one."""
        return [self._continued("", *request.args)[0] for request in requests]

    def generate_until(self, requests: Iterable[Request]) -> list[str]:
        """Return what follows every text, up to the first of its stopping words."""
        return [self._followed(*request.args) for request in requests]

    def _continued(self, context: str, continuation: str) -> tuple[float, bool]:
        bare = context.rstrip()
        # a tokenizer may join a space with the word after it
        shown = self._codes(bare) if bare else [self._first]
        whole = self._codes(context + continuation)
        asked = whole[len(shown) :] if bare else whole
        return _scored(self.model, torch.tensor([[*shown, *asked]]), len(asked))

    def _followed(self, context: str, options: dict[str, Any]) -> str:
        drawn = {name: options.get(name) for name in ("top_k", "top_p")} if options.get("do_sample") else {}
        temperature = float(options.get("temperature") or 1.0) if options.get("do_sample") else 0.0
        n_new = int(options.get("max_gen_toks") or options.get("max_new_tokens") or _N_NEW)
        answer = self.model.answer(context, n_new, temperature=temperature, **drawn)
        stops = options.get("until") or []
        for stop in [stops] if isinstance(stops, str) else stops:
            answer = answer.split(stop)[0] if stop else answer
        return answer

    @property
    def _first(self) -> int:
        """The token that stands before a text without a context."""
        tokenizer = self.model.tokenizer
        return int(tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id)

    def _codes(self, text: str) -> list[int]:
        codes: list[int] = self.model.tokenizer(text)["input_ids"]
        return codes


def _scored(model: PretrainedDecoder, tokens: torch.Tensor, n: int) -> tuple[float, bool]:
    """Return the sum of the log-probabilities of the last n tokens, and whether each is the likeliest."""
    shown, asked = tokens[:, :-1].split(_CHUNK, dim=1), tokens[:, 1:].split(_CHUNK, dim=1)
    said = [
        _judged(output.prediction["next_symbol"], codes)
        for output, codes in zip(model.stream(shown), asked, strict=True)
    ]
    log_p, likeliest = (torch.cat(parts, dim=1)[0, -n:] for parts in zip(*said, strict=True))
    return float(log_p.sum()), bool(likeliest.all())


def _judged(logits: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    there = codes.to(logits.device)
    log_p = logits.float().log_softmax(dim=2).gather(2, there[:, :, None])[:, :, 0]
    return log_p, logits.argmax(dim=2) == there
