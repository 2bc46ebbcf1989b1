"""Questions in words: what a haystack holds, what is asked at its end, what an answer must say. No torch.

After RULER (Hsieh et al. 2024) and the retrieval tasks of InfiniteBench (Zhang et al. 2024); words are made
of syllables instead of taken from a list. L tokens of a prompt.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from finscale.longcontext.scoring import Match
from finscale.longcontext.task_names import Task

__all__ = ["TextProblem", "pose"]

_N_DISTRACTORS, _N_VALUES, _N_QUERIES, _N_WRITES = 7, 4, 4, 4
_N_CHAINS, _N_HOPS = 3, 4
_N_COMMON, _COMMON_TIMES, _COMMON_SHARE, _TIMES_RARE = 10, 30, 0.6, 10
_N_FREQUENT, _ZIPF = 3, 2.0
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"
_HIDDEN = "Some special magic numbers are hidden in the following text. Memorize them.\n"


@dataclass(frozen=True)
class TextProblem:
    """One question before its haystack is filled.

    Parameters
    ----------
    preamble, question : str
        What stands first and last.
    references : tuple of str
        What the answer must hold.
    candidates : tuple of str
        What a reader could name who ignores the question; the references are among them.
    needles : tuple of (str, float)
        Sentences, each with its depth; noise lies between them.
    items : tuple of str
        In place of noise and needles: a list that fills the haystack.
    match : str
        All references count, or one is enough.
    """

    preamble: str
    question: str
    references: tuple[str, ...]
    candidates: tuple[str, ...]
    needles: tuple[tuple[str, float], ...] = ()
    items: tuple[str, ...] = ()
    match: Match = "all"

    @property
    def chance(self) -> float:
        """Mean score of as many different guesses as there are references.

        Guesses are drawn among the candidates; where these are the references and no more, among all
        strings of their kind: digits, as many of them.
        """
        n_right, n = len(self.references), len(self.candidates)
        if n > n_right:
            return n_right / n
        return n_right / (9.0 * 10 ** (len(self.references[0]) - 1))


def pose(
    rng: np.random.Generator, *, task: Task, depth: float | None, n_items: Callable[[str], int]
) -> TextProblem:
    """Return a question with fresh needles, keys and values.

    Parameters
    ----------
    rng : Generator
        Of everything that is drawn.
    task : str
        Of `finscale.longcontext.task_names.TEXT_TASKS`.
    depth : float or None
        Of the needle, or the first of several; None for a task that has no one place.
    n_items : callable
        How many items like this one fill the haystack.
    """
    if task in _LISTS:
        return _LISTS[task](rng, depth, n_items)
    return _SENTENCES[task](rng, 0.5 if depth is None else depth)


def _needle(rng: np.random.Generator, depth: float) -> TextProblem:
    key, number = _words(rng, 1)[0], _numbers(rng, 1)[0]
    return _asked((key,), (number,), needles=((_magic(key, number), depth),), candidates=(number,))


def _multi_key(rng: np.random.Generator, depth: float) -> TextProblem:
    keys, numbers = _words(rng, 1 + _N_DISTRACTORS), _numbers(rng, 1 + _N_DISTRACTORS)
    needles = _spread(rng, zip(keys, numbers, strict=True), depth)
    return _asked(keys[:1], numbers[:1], needles=needles, candidates=numbers)


def _multi_value(rng: np.random.Generator, depth: float) -> TextProblem:
    key, numbers = _words(rng, 1), _numbers(rng, _N_VALUES)
    needles = _spread(rng, ((key[0], number) for number in numbers), depth)
    return _asked(key, numbers, needles=needles, candidates=numbers)


def _multi_query(rng: np.random.Generator, depth: float) -> TextProblem:
    n = _N_QUERIES + _N_DISTRACTORS
    keys, numbers = _words(rng, n), _numbers(rng, n)
    needles = _spread(rng, zip(keys, numbers, strict=True), depth)
    return _asked(keys[:_N_QUERIES], numbers[:_N_QUERIES], needles=needles, candidates=numbers)


def _latest(rng: np.random.Generator, depth: float) -> TextProblem:
    """Ask for the last of several values of a key, which stands at the depth; the others stand before it."""
    key, numbers = _words(rng, 1)[0], _numbers(rng, _N_WRITES)
    depths = np.sort(rng.uniform(0, depth, _N_WRITES - 1))
    places = (*depths.tolist(), depth)
    needles = tuple(
        (f" From now on, the special magic number for {key} is: {number}.", place)
        for number, place in zip(numbers, places, strict=True)
    )
    asks = f"\nWhat was the last special magic number for {key} in the text? The last one was"
    return TextProblem(_HIDDEN, asks, numbers[-1:], numbers, needles)


def _variable_tracking(rng: np.random.Generator, depth: float) -> TextProblem:
    """Ask for the variables of one of several chains of assignments, whose first stands at the depth."""
    names = [name.upper() for name in _words(rng, _N_CHAINS * _N_HOPS)]
    chains = [tuple(names[i::_N_CHAINS]) for i in range(_N_CHAINS)]
    values = _numbers(rng, _N_CHAINS, n_digits=5)
    starts = (depth, *rng.uniform(0, 1, _N_CHAINS - 1).tolist())
    needles = tuple(
        needle
        for chain, value, start in zip(chains, values, starts, strict=True)
        for needle in _chain(rng, chain, value, start)
    )
    told = "directly or through others? They are"
    asks = f"\nWhich {_N_HOPS} variables are assigned the value {values[0]}, {told}"
    return TextProblem(
        "Memorize the chains of variable assignments.\n", asks, chains[0], tuple(names), needles
    )


def _chain(
    rng: np.random.Generator, chain: tuple[str, ...], value: str, start: float
) -> Iterator[tuple[str, float]]:
    depths = (start, *np.sort(rng.uniform(start, 1, len(chain) - 1)).tolist())
    for name, source, depth in zip(chain, (value, *(f"VAR {name}" for name in chain)), depths, strict=False):
        yield f" VAR {name} = {source}.", depth


def _passkey(rng: np.random.Generator, depth: float) -> TextProblem:
    key = _numbers(rng, 1, n_digits=5)
    needle = f" The pass key is {key[0]}. Remember it. {key[0]} is the pass key."
    preamble = "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it.\n"
    return TextProblem(preamble, "\nWhat is the pass key? The pass key is", key, key, ((needle, depth),))


def _number_string(rng: np.random.Generator, depth: float) -> TextProblem:
    """Ask for a number whose digits repeat, so that none may be lost or added."""
    digits = "".join(str(digit) * 2 for digit in rng.integers(1, 10, 5))
    needle = f" The sequence of digits is {digits}. Remember it. {digits} is the sequence of digits."
    preamble = "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it.\n"
    asks = "\nWhat is the sequence of digits? The sequence of digits is"
    return TextProblem(preamble, asks, (digits,), (digits,), ((needle, depth),))


def _key_value(rng: np.random.Generator, depth: float | None, n_items: Callable[[str], int]) -> TextProblem:
    shown = [_pair(key, value) for key, value in _pairs(rng, 1)]
    n = max(2, n_items(shown[0]))
    pairs = _pairs(rng, n)
    at = round((0.5 if depth is None else depth) * (n - 1))
    key, value = pairs[at]
    asks = f'\nExtract the value of the key "{key}" from the JSON object. Its value is'
    values, items = (tuple(value for _, value in pairs), tuple(_pair(*pair) for pair in pairs))
    return TextProblem("JSON data with key-value pairs:\n", asks, (value,), values, items=items)


def _common_words(
    rng: np.random.Generator, depth: float | None, n_items: Callable[[str], int]
) -> TextProblem:
    """Ask for the ten words that are listed far more often than all others."""
    n = n_items(f" {_words(rng, 1)[0]}")
    times = min(_COMMON_TIMES, max(2, round(_COMMON_SHARE * n / _N_COMMON)))
    rare = max(1, times // _TIMES_RARE)
    n_rare = max(1, (n - times * _N_COMMON) // rare)
    words = _words(rng, _N_COMMON + n_rare)
    counts = (times,) * _N_COMMON + (rare,) * n_rare
    asks = f"\nWhat are the {_N_COMMON} most common words in the list? They are"
    items = _shuffled(rng, words, counts)
    return TextProblem(
        "Memorize the words that appear most often.\n", asks, words[:_N_COMMON], words, items=items
    )


def _frequent_words(
    rng: np.random.Generator, depth: float | None, n_items: Callable[[str], int]
) -> TextProblem:
    """Ask for the three most frequent words of a list whose frequencies follow Zipf's law."""
    n = n_items(f" {_words(rng, 1)[0]}")
    shares = np.arange(1, n + 1) ** -_ZIPF
    counts = np.maximum(1, np.floor(n * shares / shares.sum())).astype(int)
    counts = tuple(counts[: int(np.searchsorted(np.cumsum(counts), n)) + 1].tolist())
    words = _words(rng, len(counts))
    asks = f"\nWhat are the {_N_FREQUENT} most frequently appeared words in the text? They are"
    items = _shuffled(rng, words, counts)
    preamble = "Read the following coded text and track the frequency of each coded word.\n"
    return TextProblem(preamble, asks, words[:_N_FREQUENT], words, items=items)


_SENTENCES: dict[Task, Callable[[np.random.Generator, float], TextProblem]] = {
    "needle": _needle,
    "latest": _latest,
    "multi_key": _multi_key,
    "multi_value": _multi_value,
    "multi_query": _multi_query,
    "variable_tracking": _variable_tracking,
    "passkey": _passkey,
    "number_string": _number_string,
}
_LISTS: dict[Task, Callable[[np.random.Generator, float | None, Callable[[str], int]], TextProblem]] = {
    "key_value": _key_value,
    "common_words": _common_words,
    "frequent_words": _frequent_words,
}


def _asked(
    keys: tuple[str, ...],
    references: tuple[str, ...],
    *,
    needles: tuple[tuple[str, float], ...],
    candidates: tuple[str, ...],
) -> TextProblem:
    named = ", ".join(keys)
    asks = f"\nWhat are all the special magic numbers for {named} in the text? They are"
    return TextProblem(_HIDDEN, asks, references, candidates, needles)


def _magic(key: str, number: str) -> str:
    return f" One of the special magic numbers for {key} is: {number}."


def _spread(
    rng: np.random.Generator, pairs: Iterator[tuple[str, str]] | zip, depth: float
) -> tuple[tuple[str, float], ...]:
    """Return a needle of each pair: the first at the depth, the others anywhere."""
    first, *others = (_magic(key, number) for key, number in pairs)
    return ((first, depth), *((other, float(rng.uniform())) for other in others))


def _pair(key: str, value: str) -> str:
    return f' "{key}": "{value}",'


def _pairs(rng: np.random.Generator, n: int) -> list[tuple[str, str]]:
    numbers = _numbers(rng, 2 * n, n_digits=12)
    return list(zip(numbers[:n], numbers[n:], strict=True))


def _shuffled(rng: np.random.Generator, words: tuple[str, ...], counts: tuple[int, ...]) -> tuple[str, ...]:
    listed = np.repeat(np.arange(len(words)), counts)
    return tuple(f" {words[i]}" for i in rng.permutation(listed))


def _numbers(rng: np.random.Generator, n: int, n_digits: int = 7) -> tuple[str, ...]:
    """Return n different numbers of so many digits."""
    drawn: dict[str, None] = {}
    while len(drawn) < n:
        drawn[str(rng.integers(10 ** (n_digits - 1), 10**n_digits))] = None
    return tuple(drawn)


def _words(rng: np.random.Generator, n: int) -> tuple[str, ...]:
    """Return n different words of three syllables (343,000 there are): none is part of another."""
    drawn: dict[str, None] = {}
    while len(drawn) < n:
        letters = zip(rng.integers(len(_CONSONANTS), size=3), rng.integers(len(_VOWELS), size=3), strict=True)
        drawn["".join(_CONSONANTS[i] + _VOWELS[j] for i, j in letters)] = None
    return tuple(drawn)
