"""Tasks in words: exact lengths, answers that reading finds and guessing does not, no two alike."""

import re
from collections import Counter

import numpy as np
import pytest

from finscale.core.errors import Fault
from finscale.core.seeding import generator
from finscale.longcontext.prompts import Prompt, make_prompt, make_prompts
from finscale.longcontext.scoring import match_score
from finscale.longcontext.task_names import TEXT_TASKS, Task, is_placed

LENGTH = 600


class Words:
    """A tokenizer of words and punctuation; a leading space belongs to its word."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def encode(self, text: str) -> list[int]:
        return [
            self.known.setdefault(piece, len(self.known)) for piece in re.findall(r"\s?\w+|\s?[^\w]", text)
        ]

    def decode(self, tokens: tuple[int, ...]) -> str:
        pieces = list(self.known)
        return "".join(pieces[token] for token in tokens)


@pytest.fixture(scope="module")
def words() -> Words:
    return Words()


def posed(words: Words, task: Task, n: int, *, depth: float = 0.5, seed: int = 0) -> list[Prompt]:
    place = depth if is_placed(task) else None
    return make_prompts(generator(seed, "test"), n, LENGTH, task=task, depth=place, encode=words.encode)


def read(task: Task, text: str) -> str:
    """Answer as a reader of the whole prompt would, from its text alone."""
    *_, question = text.rsplit("\n", 1)
    body = text[: -len(question)]
    if task in ("needle", "multi_key", "multi_value", "multi_query"):
        keys = re.search(r"numbers for (.*) in the text", question)[1].split(", ")
        return " ".join(re.findall(rf"for (?:{'|'.join(keys)}) is: (\d+)", body))
    if task == "latest":
        key = re.search(r"number for (\w+) in", question)[1]
        return re.findall(rf"for {key} is: (\d+)", body)[-1]
    if task == "variable_tracking":
        known = {re.search(r"the value (\d+)", question)[1]}
        for name, source in re.findall(r"VAR (\w+) = (?:VAR )?(\w+)\.", body):
            known |= {name} if source in known else set()
        return " ".join(known)
    if task in ("passkey", "number_string"):
        return re.search(r"is (\d+)\. Remember", body)[1]
    if task == "key_value":
        key = re.search(r'"(\d+)"', question)[1]
        return re.search(rf'"{key}": "(\d+)"', body)[1]
    n, listed = (10 if task == "common_words" else 3), body.split("\n", 1)[1]
    noise = set(re.findall(r"\w+", "The grass is green sky blue sun yellow Here we go There and back again"))
    counts = Counter(word for word in re.findall(r"\w+", listed) if word not in noise)
    return " ".join(word for word, _ in counts.most_common(n))


def score(prompt: Prompt, answer: str) -> float:
    return match_score(answer, prompt.problem.references, prompt.problem.match)


@pytest.mark.parametrize("task", TEXT_TASKS)
def test_a_prompt_has_its_exact_length_and_a_reader_is_always_right(words: Words, task: Task) -> None:
    for prompt in posed(words, task, 20):
        assert len(prompt.tokens) == LENGTH
        assert score(prompt, read(task, words.decode(prompt.tokens))) == 1.0


@pytest.mark.parametrize("task", TEXT_TASKS)
def test_a_guesser_scores_at_chance(words: Words, task: Task) -> None:
    rng, prompts = np.random.default_rng(0), posed(words, task, 150, seed=1)
    scores = [score(prompt, guess(rng, prompt)) for prompt in prompts]
    chance = np.mean([prompt.problem.chance for prompt in prompts])
    assert chance < 0.5
    assert np.mean(scores) == pytest.approx(chance, abs=4 * np.sqrt(chance / 150) + 1e-9)


def guess(rng: np.random.Generator, prompt: Prompt) -> str:
    problem = prompt.problem
    n = len(problem.references)
    if len(problem.candidates) > n:
        return " ".join(rng.choice(problem.candidates, n, replace=False))
    width = len(problem.references[0])
    return " ".join(str(rng.integers(10 ** (width - 1), 10**width)) for _ in range(n))


@pytest.mark.parametrize("task", TEXT_TASKS)
def test_no_two_prompts_are_alike_and_equal_streams_give_equal_prompts(words: Words, task: Task) -> None:
    first, again = (posed(words, task, 30) for _ in range(2))
    assert [prompt.tokens for prompt in first] == [prompt.tokens for prompt in again]
    assert len({prompt.tokens for prompt in first}) == 30
    assert len({prompt.problem.references for prompt in first}) == 30


@pytest.mark.parametrize("depth", [0.1, 0.5, 0.9])
def test_the_needle_stands_at_its_depth(words: Words, depth: float) -> None:
    for task in ("needle", "multi_key", "latest", "passkey", "variable_tracking", "key_value"):
        prompt = posed(words, task, 1, depth=depth)[0]
        text = words.decode(prompt.tokens)
        found = re.search(rf"(= |is |is: |: \"){prompt.problem.references[0]}", text)
        if task == "variable_tracking":
            found = re.search(rf"VAR {prompt.problem.references[0]} = \d", text)
        assert len(words.encode(text[: found.start()])) / LENGTH == pytest.approx(depth, abs=0.12)


def test_the_last_of_several_writes_is_the_answer(words: Words) -> None:
    for prompt in posed(words, "latest", 20):
        written = re.findall(r"is: (\d+)", words.decode(prompt.tokens))
        assert tuple(written) == prompt.problem.candidates
        assert prompt.problem.references == (written[-1],)


def test_a_length_that_cannot_hold_the_question_is_refused_with_what_it_needs(words: Words) -> None:
    with pytest.raises(
        Fault, match=r"evaluation\.lengths must be at least \d+, what multi_query asks, got 60"
    ):
        make_prompt(generator(0, "x"), 60, task="multi_query", depth=0.5, encode=words.encode)
