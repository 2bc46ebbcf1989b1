"""The engine of others is told what our checkpoint says, and its scores stand in our table as its own."""

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from finscale.core.errors import Fault, FinscaleError
from finscale.longcontext.config import LongContextConfig
from finscale.longcontext.evaluate_text import evaluate_text
from finscale.longcontext.lm_eval_bridge import CheckpointLM
from finscale.longcontext.pretrained import PretrainedDecoder, load_pretrained
from finscale.longcontext.pretrained_config import PretrainedConfig, SystemConfig

pytest.importorskip("transformers")
installed = pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="needs finscale[lm-eval]")


def block(folder: Path, *benchmarks: str) -> LongContextConfig:
    return LongContextConfig.read(
        {
            "experiment_name": "engine",
            "pretrained": {"model_name_or_path": str(folder)},
            "variants": {"rope": {}},
            "evaluation": {"benchmarks": benchmarks, "lengths": [2048], "n_samples": 2, "depths": [0.5]},
            "generation": {"max_new_tokens": 2},
            "system": {"device": "cpu"},
        }
    )


@pytest.fixture
def model(checkpoint: Path) -> PretrainedDecoder:
    named = PretrainedConfig(model_name_or_path=str(checkpoint))
    return load_pretrained(named, system=SystemConfig(device="cpu"))


def test_without_the_engine_its_tasks_name_the_extra_before_anything_is_asked(
    checkpoint: Path, model: PretrainedDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, rows = importlib.util.find_spec, []
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "lm_eval" else genuine(name)
    )
    config = block(checkpoint, "needle", "lm_eval:niah_single_1")
    with pytest.raises(Fault, match=r"must find the package lm_eval .*pip install 'finscale\[lm-eval\]'"):
        evaluate_text(model, config, mode="rope", seed=0, on_event=rows.append)
    assert rows == []
    assert len(evaluate_text(model, block(checkpoint, "needle"), mode="rope", seed=0)) == 1


def test_a_task_that_the_engine_cannot_run_here_is_refused(checkpoint: Path) -> None:
    with pytest.raises(FinscaleError, match=r"did you mean .lm_eval:niah_single_1"):
        block(checkpoint, "lm_eval:niah_singel_1")


def requests(*args: tuple[Any, ...]) -> list[Any]:
    return [SimpleNamespace(args=each) for each in args]


def test_a_continuation_has_the_sum_of_what_its_tokens_have(model: PretrainedDecoder) -> None:
    engine = CheckpointLM(model)
    pairs = [("abc", "de"), ("abc", "d"), ("abcd", "e"), ("abc ", "de"), ("abc", " de")]
    (whole, first, second, before, after) = engine.loglikelihood(requests(*pairs))
    expected = float(model.score(model.encode("abcde"), 2).sum())
    assert whole[0] == pytest.approx(expected, abs=1e-4)
    assert whole[0] == pytest.approx(first[0] + second[0], abs=1e-4)
    # the space goes with the word after it, wherever it was cut
    assert before == after
    likeliest = model.answer("abc", 3)
    (yes, no) = engine.loglikelihood(requests(("abc", likeliest), ("abc", "zzz")))
    assert (yes[1], no[1]) == (True, False)
    alone = engine.loglikelihood_rolling(requests(("abc",)))
    assert alone == [engine.loglikelihood(requests(("", "abc")))[0][0]]
    assert alone[0] < 0


def test_an_answer_ends_at_its_first_stop(model: PretrainedDecoder) -> None:
    def said(**options: Any) -> str:
        return CheckpointLM(model).generate_until(requests(("abc", options)))[0]

    whole = model.answer("abc", 12)
    assert said(max_gen_toks=12) == said(max_gen_toks=12, until=[], do_sample=False, temperature=0.0) == whole
    stop = whole[4]
    assert said(max_gen_toks=12, until=[stop, "never said"]) == whole[: whole.index(stop)]
    assert said(max_gen_toks=12, until=stop) == whole[: whole.index(stop)]
    assert said(max_gen_toks=3) == model.answer("abc", 3)


@installed
@pytest.mark.slow  # the engine lists millions of words when it is imported
@pytest.mark.parametrize("right", [True, False])
def test_scores_of_the_engine_stand_in_the_table_as_its_own(
    checkpoint: Path, model: PretrainedDecoder, monkeypatch: pytest.MonkeyPatch, right: bool
) -> None:
    pytest.importorskip("wonderwords", reason="needs finscale[lm-eval]")
    from lm_eval.tasks.ruler import prepare_niah

    genuine, read = prepare_niah.generate_samples, []

    def few(*args: Any, **options: Any) -> Any:
        return genuine(*args, **{**options, "num_samples": 3})

    def reader(self: Any, context: str, options: dict[str, Any]) -> str:
        read.append(len(model.encode(context)[0]))
        return re.findall(r"is: (\d+)\.", context)[0] if right else "0"

    monkeypatch.setattr(prepare_niah, "generate_samples", few)
    monkeypatch.setattr(CheckpointLM, "_followed", reader)
    config = block(checkpoint, "needle", "lm_eval:niah_single_1")
    ours, theirs = evaluate_text(model, config, mode="rope", seed=0)
    assert (ours.engine, theirs.engine) == ("finscale", "lm_eval")
    assert (theirs.task, theirs.length, theirs.depth) == ("lm_eval:niah_single_1", 2048, None)
    assert theirs.scores == (float(right),) * 2
    assert theirs.tokens_per_s == 4096 / theirs.runtime_s
    assert len(read) == 2
    assert 1500 < max(read) <= 2048
