"""Verdicts on constructed losses: each answer follows from the numbers, whatever they are."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from finscale.longcontext.context_differences import Draws, differences
from finscale.longcontext.context_sentences import answer_words, context_sentences
from finscale.longcontext.context_verdict import ContextVerdict, SplitVerdict, context_verdict
from finscale.windows.measures import measure_of

MEASURE, WHOLE, N_DATES = measure_of("direction"), 60, 500
REFERENCE = 0.69


def judged(
    excess: Mapping[int, float],
    *,
    hidden: Mapping[int, float] | None = None,
    best: float = 0.02,
    n_dates: int = N_DATES,
    noise: float = 0.01,
    luck: float = 0.0,
    seeds: tuple[int, ...] = (0, 1),
) -> ContextVerdict:
    """Losses whose means are the reference's less the given excess; noise is common, own, and a seed's."""
    random = np.random.default_rng(3)
    dates = np.datetime64("2001-01-01", "ns") + np.arange(n_dates) * np.timedelta64(1, "D")
    shared = REFERENCE + random.normal(0, 0.2, n_dates)
    frames = []
    for kind, means in (("trained", excess), ("hidden", hidden or {})):
        for n_bars, lead in means.items():
            for seed in seeds:
                loss = shared - lead + random.normal(0, noise, n_dates) + luck * (-1) ** seed
                place = {"kind": kind, "context_length": n_bars, "seed": seed, "split": "val_score"}
                frames.append(pd.DataFrame({**place, "date": dates, "log_loss": loss}))
    names = {"base_rate": 0.0, "garch": best}
    baselines = [
        pd.DataFrame({"split": "val_score", "baseline": name, "date": dates, "log_loss": shared - lead})
        for name, lead in names.items()
    ]
    return context_verdict(
        pd.concat(frames, ignore_index=True),
        pd.concat(baselines, ignore_index=True),
        MEASURE,
        cell="20K_h1",
        context_length=WHOLE,
        horizon=1,
        seed=1,
        n_draws=300,
    )


def first(verdict: ContextVerdict) -> SplitVerdict:
    return verdict.splits[0]


def test_the_shortest_context_that_loses_nothing_is_enough() -> None:
    verdict = judged({10: 0.0, 20: 0.03, 40: 0.03, 60: 0.03})
    found, said = first(verdict), context_sentences(verdict)
    assert (found.answer, found.enough) == ("shorter_is_enough", 20)
    gap = next(row.gap for row in found.rows if row.context_length == 20)
    assert gap is not None
    assert gap.high is not None
    assert said[0].startswith("k = 20 is not told apart from 60; differences above")
    assert f"{max(gap.high, 0):.4f}"[:5] in said[0]
    assert said[1].startswith("10 bars are detectably too few: the log loss rises by 0.0")
    assert answer_words(found) == "20 bars are enough"


def test_a_short_context_that_does_well_by_chance_is_not_taken_over_a_longer_one_that_is_worse() -> None:
    verdict = judged({10: 0.03, 20: 0.0, 40: 0.03, 60: 0.03})
    assert first(verdict).enough == 40


def test_where_the_next_shorter_is_worse_the_whole_context_is_used_and_more_may_help() -> None:
    verdict = judged({10: 0.0, 20: 0.01, 40: 0.02, 60: 0.04})
    assert (first(verdict).answer, first(verdict).enough) == ("whole_context", 60)
    said = context_sentences(verdict)
    gap = next(row.gap for row in first(verdict).rows if row.context_length == 40)
    assert gap.mean == pytest.approx(0.02, abs=0.002)
    assert said[0].startswith(f"40 bars are detectably too few: the log loss rises by {gap.mean:.4f} nats (")
    assert "data.context_length" in said[1]
    assert answer_words(first(verdict)) == "The whole context is used"


def test_no_lead_over_the_reference_is_nothing_to_look_back_for_even_where_contexts_differ() -> None:
    verdict = judged({10: -0.05, 20: -0.02, 60: 0.0}, best=-0.1)
    assert first(verdict).answer == "nothing_to_look_back_for"
    said = context_sentences(verdict)
    assert said[0].startswith("With no context kept, from 10 to 60 bars, is the log loss detectably below")
    highs = [row.lead.high for row in first(verdict).rows if row.lead and row.lead.high is not None]
    assert (f"{max(highs):.5f}"[:6] in said[0]) == (max(highs) > 0)


def test_a_shorter_context_that_is_better_is_said_to_be_better() -> None:
    verdict = judged({10: 0.0, 20: 0.06, 60: 0.03})
    said = context_sentences(verdict)[0]
    assert said.startswith("20 bars are detectably better than 60, by 0.0")
    assert "ruled out" not in said


def test_a_context_that_is_enough_only_for_want_of_dates_is_told_to_lead_nothing() -> None:
    verdict = judged({10: 0.005, 60: 0.011}, noise=0.1)
    assert (first(verdict).answer, first(verdict).enough) == ("shorter_is_enough", 10)
    assert context_sentences(verdict)[2] == (
        "With k = 10 alone a lead over the base rate is not detectable, though."
    )


def test_hidden_bars_are_judged_against_the_same_models_that_see_all() -> None:
    verdict = judged({10: 0.03, 60: 0.03}, hidden={10: 0.0})
    row = first(verdict).of("hidden")[0]
    assert row.lead is None
    assert row.gap is not None
    assert row.gap.is_positive
    assert row.gap.mean == pytest.approx(0.03, abs=0.002)
    assert any(
        said.startswith("Hidden at evaluation, the bars before the last 10 are missed")
        for said in context_sentences(verdict)
    )
    unmoved = context_sentences(judged({10: 0.03, 60: 0.03}, hidden={10: 0.03}))
    assert any(
        said.startswith("Hiding all but the last 10 bars costs the models trained on 60 bars nothing")
        for said in unmoved
    )


def test_the_best_baseline_is_named_whether_it_is_beaten_or_not() -> None:
    beaten = context_sentences(judged({10: 0.03, 60: 0.03}, best=0.01))
    ahead = context_sentences(judged({10: 0.03, 60: 0.03}, best=0.05))
    assert any("is below that of the best baseline on the same rows (garch" in said for said in beaten)
    assert any("is not below that of the best baseline" in said for said in ahead)


def test_intervals_of_a_family_are_wider_and_tests_stricter_the_more_contexts_there_are() -> None:
    dates = pd.date_range("2001-01-01", periods=300, name="date")
    column = pd.Series(np.random.default_rng(4).normal(0.08, 1, 300), index=dates)
    draws = Draws(horizon=1, seed=1, n_draws=2000)
    one = differences(pd.DataFrame({10: column}), draws)[10]
    many = differences(pd.DataFrame(dict.fromkeys(range(10, 30), column)), draws)[10]
    assert one.low is not None
    assert many.low is not None
    assert many.high - many.low > 1.35 * (one.high - one.low)
    assert many.p_value == one.p_value == one.adjusted
    assert many.adjusted == pytest.approx(min(1.0, 20 * one.p_value))


def test_what_another_seed_would_have_given_is_part_of_the_noise_between_trainings_alone() -> None:
    means = {10: 0.02, 20: 0.03, 60: 0.04}
    lucky, plain = judged(means, hidden={10: 0.02}, luck=0.05), judged(means, hidden={10: 0.02})
    assert first(plain).answer == "whole_context"
    assert first(lucky).enough == 10
    assert first(lucky).seed_sd == pytest.approx(0.05 * 2**0.5, rel=0.05)
    gaps = [first(verdict).of("hidden")[0].gap for verdict in (lucky, plain)]
    assert gaps[0].is_positive
    assert (gaps[0].low, gaps[0].high) == pytest.approx((gaps[1].low, gaps[1].high))


def test_the_noise_of_seeds_shrinks_with_their_number() -> None:
    widths = []
    for seeds in ((0, 1), tuple(range(8))):
        gap = first(judged({10: 0.03, 60: 0.03}, luck=0.05, seeds=seeds)).rows[0].gap
        widths.append(gap.high - gap.low)
    assert widths[0] > 3 * widths[1]


def test_with_one_seed_each_it_is_said_that_training_noise_is_left_out() -> None:
    said = context_sentences(judged({10: 0.03, 60: 0.03}, seeds=(0,)))
    assert any(sentence.startswith("One seed each") for sentence in said)
    assert not any(s.startswith("One seed") for s in context_sentences(judged({10: 0.03, 60: 0.03})))


def test_hiding_that_helps_is_said_to_help() -> None:
    said = context_sentences(judged({10: 0.03, 60: 0.03}, hidden={10: 0.06}))
    assert "With all but the last 10 bars hidden the models trained on 60 bars do detectably better." in said


def test_too_few_dates_are_not_measurable_and_never_read_as_enough() -> None:
    verdict = judged({10: 0.03, 60: 0.03}, n_dates=2)
    assert (first(verdict).answer, first(verdict).enough) == ("not_measurable", None)
    assert context_sentences(verdict)[0] == "Not measurable: 2 dates are too few to tell losses apart."


def test_without_a_training_of_the_whole_context_nothing_is_compared() -> None:
    verdict = judged({10: 0.03, 20: 0.03})
    assert first(verdict).answer == "not_measurable"
    assert "no training of the whole context of 60 bars ended" in context_sentences(verdict)[0]


def test_a_verdict_survives_its_record() -> None:
    verdict = judged({10: 0.0, 60: 0.03}, hidden={10: 0.01})
    assert ContextVerdict.read(verdict.model_dump(mode="json"), subject="verdict") == verdict
