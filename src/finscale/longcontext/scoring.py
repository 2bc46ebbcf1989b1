"""Score an answer in words against what it should hold. No torch.

``string_match_all`` and ``string_match_part`` are RULER's (Hsieh et al. 2024, section 3 and its code): a
reference counts as found when it stands anywhere in the answer, whatever its case.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Match",
    "bootstrap_interval",
    "cleaned",
    "exact_match",
    "match_score",
    "perplexity",
    "rouge_l",
    "string_match_all",
    "string_match_part",
    "token_f1",
]

Match = Literal["all", "part"]
_CONTROL = re.compile(r"[\x00-\x1f]")


def cleaned(answer: str) -> str:
    """Return an answer as it is compared: control characters are line breaks, and its ends are bare."""
    return _CONTROL.sub("\n", answer).strip()


def string_match_all(answer: str, references: Sequence[str]) -> float:
    """Return the share of the references that the answer holds.

    Examples
    --------
    >>> string_match_all("They are 12 and 7.", ["12", "34"])
    0.5
    """
    said = cleaned(answer).lower()
    return sum(reference.lower() in said for reference in references) / len(references)


def string_match_part(answer: str, references: Sequence[str]) -> float:
    """Return 1 when the answer holds any of the references, else 0."""
    return float(string_match_all(answer, references) > 0)


def match_score(answer: str, references: Sequence[str], match: Match) -> float:
    """Score an answer as its task asks: every reference counts, or one is enough."""
    return {"all": string_match_all, "part": string_match_part}[match](answer, references)


def exact_match(answer: str, references: Sequence[str]) -> float:
    """Return 1 when the answer is one of the references, or all of them in their order, and nothing else."""
    whole = (*references, " ".join(references))
    return float(_words(answer) in [_words(reference) for reference in whole])


def token_f1(answer: str, references: Sequence[str]) -> float:
    """Return the F1 of the words of an answer against those of all references (Rajpurkar et al. 2016)."""
    said, expected = Counter(_words(answer)), Counter(_words(" ".join(references)))
    shared = (said & expected).total()
    return 2 * shared / (said.total() + expected.total()) if shared else 0.0


def rouge_l(answer: str, references: Sequence[str]) -> float:
    """Return the F1 of the longest common subsequence of words (Lin 2004, ROUGE-L with beta 1)."""
    said, expected = _words(answer), _words(" ".join(references))
    shared = _common_subsequence(said, expected)
    return 2 * shared / (len(said) + len(expected)) if shared else 0.0


def perplexity(log_probabilities: Sequence[float]) -> float:
    """Return exp of the mean negative log probability (nats) of the tokens of right answers."""
    return math.exp(-float(np.mean(log_probabilities)))


def bootstrap_interval(
    scores: NDArray[np.float64], *, rng: np.random.Generator, level: float = 0.95, n_draws: int = 2000
) -> tuple[float, float]:
    """Return the percentile interval of a mean of sequences drawn again (Efron 1979)."""
    drawn = rng.integers(len(scores), size=(n_draws, len(scores)))
    low, high = np.quantile(scores[drawn].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKC", cleaned(text)).lower()
    return re.findall(r"\w+", plain)


def _common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    lengths = [0] * (len(second) + 1)
    for word in first:
        before = 0
        for i, other in enumerate(second, start=1):
            before, lengths[i] = lengths[i], before + 1 if word == other else max(lengths[i], lengths[i - 1])
    return lengths[-1]
