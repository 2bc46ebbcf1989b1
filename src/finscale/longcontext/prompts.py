"""Fill a haystack so that a prompt has its length exactly, under any tokenizer. No torch.

L tokens of a prompt, H tokens of its haystack.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from finscale.core.errors import Fault
from finscale.longcontext.task_names import Task
from finscale.longcontext.text_tasks import TextProblem, pose

__all__ = ["Encode", "Prompt", "make_prompt", "make_prompts"]

Encode = Callable[[str], Sequence[int]]
Tokens = list[int]

_NOISE = (
    " The grass is green.",
    " The sky is blue.",
    " The sun is yellow.",
    " Here we go.",
    " There and back again.",
)
_FILLED, _LIST_FRAME, _MIN_ITEMS = 0.9, 64, 16


@dataclass(frozen=True)
class Prompt:
    """A question as a model reads it: L tokens."""

    tokens: tuple[int, ...]
    problem: TextProblem


def make_prompts(
    rng: np.random.Generator, n: int, length: int, *, task: Task, depth: float | None, encode: Encode
) -> list[Prompt]:
    """Return n prompts, no two of them alike."""
    drawn: dict[tuple[int, ...], Prompt] = {}
    while len(drawn) < n:
        prompt = make_prompt(rng, length, task=task, depth=depth, encode=encode)
        drawn[prompt.tokens] = prompt
    return list(drawn.values())


def make_prompt(
    rng: np.random.Generator, length: int, *, task: Task, depth: float | None, encode: Encode
) -> Prompt:
    """Return a prompt of exactly ``length`` tokens.

    Parameters
    ----------
    rng : Generator
        Of needles, keys and values.
    length : int
        L.
    task, depth
        What is asked, and where the answer stands; needles begin at the next sentence.
    encode : callable
        Tokens of a text, without any that a tokenizer adds to a whole one.

    Raises
    ------
    Fault
        When the question alone is longer.
    """

    def n_items(item: str) -> int:
        # one word may take more tokens than another: what is left over is noise around the list
        return max(_MIN_ITEMS, int(_FILLED * (length - _LIST_FRAME) / len(encode(item))))

    problem = pose(rng, task=task, depth=depth, n_items=n_items)
    first, last = list(encode(problem.preamble)), list(encode(problem.question))
    needles = [(list(encode(text)), at) for text, at in problem.needles]
    if problem.items:
        needles = [([token for item in problem.items for token in encode(item)], 0.5)]
    fixed = len(first) + len(last) + sum(len(needle) for needle, _ in needles)
    if fixed > length:
        raise Fault("evaluation.lengths", f"be at least {fixed}, what {task} asks", length, "ask longer ones")
    noise = [list(encode(sentence)) for sentence in _NOISE]
    haystack = _haystack(needles, noise, n_noise=length - fixed)
    return Prompt((*first, *haystack, *last), problem)


def _haystack(needles: list[tuple[Tokens, float]], noise: list[Tokens], *, n_noise: int) -> Tokens:
    """Return noise of exactly so many tokens, with every needle between two sentences of it."""
    filled = list(itertools.islice(itertools.chain.from_iterable(itertools.cycle(noise)), n_noise))
    starts = _starts(noise, n_noise)
    placed = sorted(((_before(starts, depth * n_noise), needle) for needle, depth in needles), key=_place)
    parts, end = [], 0
    for at, needle in placed:
        parts += [*filled[end:at], *needle]
        end = at
    return parts + filled[end:]


def _starts(noise: list[Tokens], n_noise: int) -> list[int]:
    """Return where the sentences of the noise begin."""
    starts, at = [0], 0
    for sentence in itertools.cycle(noise):
        at += len(sentence)
        if at > n_noise:
            return starts
        starts.append(at)
    return starts


def _before(starts: list[int], at: float) -> int:
    return starts[int(np.searchsorted(starts, at, side="right")) - 1]


def _place(placed: tuple[int, Tokens]) -> int:
    return placed[0]
