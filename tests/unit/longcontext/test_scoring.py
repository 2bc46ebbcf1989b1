"""Scores equal RULER's rules on cases made by hand."""

import math

import numpy as np
import pytest

from finscale.longcontext.scoring import (
    bootstrap_interval,
    exact_match,
    match_score,
    perplexity,
    rouge_l,
    string_match_all,
    string_match_part,
    token_f1,
)


@pytest.mark.parametrize(
    ("answer", "references", "of_all", "of_part"),
    [
        ("It is 1234567.", ["1234567"], 1.0, 1.0),
        ("  Alpha, BETA\n", ["alpha", "beta", "gamma"], 2 / 3, 1.0),
        ("nothing", ["alpha", "beta"], 0.0, 0.0),
        ("12345678", ["1234567"], 1.0, 1.0),
        ("123\x004567", ["1234567"], 0.0, 0.0),
        ("", ["a"], 0.0, 0.0),
    ],
)
def test_string_matches_are_those_of_ruler(
    answer: str, references: list[str], of_all: float, of_part: float
) -> None:
    assert string_match_all(answer, references) == pytest.approx(of_all)
    assert string_match_part(answer, references) == of_part
    assert match_score(answer, references, "all") == string_match_all(answer, references)
    assert match_score(answer, references, "part") == of_part


def test_exact_match_wants_the_reference_and_nothing_else() -> None:
    assert exact_match(" 42. ", ["42"]) == 1.0
    assert exact_match("It is 42", ["42"]) == 0.0
    assert exact_match("a, b", ["a", "b"]) == 1.0


def test_f1_and_rouge_weigh_what_is_missing_and_what_is_too_much() -> None:
    assert token_f1("b a", ["a", "b"]) == 1.0
    assert rouge_l("b a", ["a", "b"]) == 0.5
    assert token_f1("a x x x", ["a", "b"]) == pytest.approx(2 * 0.25 * 0.5 / 0.75)
    assert rouge_l("a x c", ["a b c"]) == pytest.approx(2 / 3)
    assert token_f1("x", ["a"]) == rouge_l("", ["a"]) == 0.0


def test_perplexity_of_even_odds_is_their_number() -> None:
    assert perplexity([math.log(1 / 8)] * 5) == pytest.approx(8.0)


def test_the_bootstrap_interval_is_that_of_the_mean() -> None:
    scores = np.random.default_rng(0).random(400)
    low, high = bootstrap_interval(scores, rng=np.random.default_rng(1))
    spread = 1.96 * scores.std() / 20
    assert (low, high) == pytest.approx((scores.mean() - spread, scores.mean() + spread), abs=0.005)
