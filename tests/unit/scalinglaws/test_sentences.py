import numpy as np
import pandas as pd
import pytest

from finscale.scalinglaws.sentences import format_n, headline, sentences
from finscale.scalinglaws.verdict import ScalingVerdict, Verdict, scaling_verdict


def judged(slope: float, *, noise: float = 2e-4, n_budgets: int = 4, n_seeds: int = 2) -> ScalingVerdict:
    rng = np.random.default_rng(0)
    rows = [
        {
            "n_budget": 20_000 * 10**k,
            "horizon": horizon,
            "n_params": 20_000 * 10**k,
            "seed": seed,
            "split": "val_score",
            "excess_loss": 0.01 + slope * k + rng.normal(0, noise),
        }
        for k in range(n_budgets)
        for horizon in (1, 5)
        for seed in range(n_seeds)
    ]
    return scaling_verdict(pd.DataFrame(rows))


CASES = {
    Verdict.SCALING: judged(0.002),
    Verdict.INVERSE_SCALING: judged(-0.005),
    Verdict.NO_DETECTABLE_SCALING: judged(0.0015, noise=8e-3),
    Verdict.NOT_ENOUGH_DATA: judged(0.002, n_budgets=2),
}


@pytest.mark.parametrize("name", CASES)
def test_the_headline_is_that_of_the_verdict(name: Verdict) -> None:
    expected = {
        Verdict.SCALING: "Bigger models predict better here.",
        Verdict.INVERSE_SCALING: "Bigger models predict worse here.",
        Verdict.NO_DETECTABLE_SCALING: "No effect of model size can be detected here.",
        Verdict.NOT_ENOUGH_DATA: "There is not enough data for a verdict yet.",
    }
    assert CASES[name].overall.verdict is name
    assert headline(CASES[name]) == expected[name]


@pytest.mark.parametrize("name", CASES)
def test_a_goodness_of_fit_is_never_quoted(name: Verdict) -> None:
    spoken = " ".join(sentences(CASES[name])).lower()
    assert not any(word in spoken for word in ("r^2", "r2", "r-squared", "variance explained"))
    assert all(sentence.endswith(".") for sentence in sentences(CASES[name]))


def test_scaling_states_the_fall_the_range_and_its_lower_bound() -> None:
    overall = CASES[Verdict.SCALING].overall
    first = sentences(CASES[Verdict.SCALING])[0]
    assert first.startswith(f"The loss falls by {overall.drop:.4f} nats on the scoring half of validation")
    assert "from 20K to 20M parameters (4 budgets, horizons 1 and 5 averaged)" in first
    assert f"at least {overall.drop_lower:.4f} nats with 95 % confidence" in first


def test_inverse_scaling_states_a_rise_of_positive_size() -> None:
    overall = CASES[Verdict.INVERSE_SCALING].overall
    first = sentences(CASES[Verdict.INVERSE_SCALING])[0]
    assert first.startswith(f"The loss rises by {-overall.drop:.4f} nats")
    assert f"at least {-overall.drop_upper:.4f} nats" in first


def test_no_detectable_scaling_states_what_is_ruled_out() -> None:
    overall = CASES[Verdict.NO_DETECTABLE_SCALING].overall
    spoken = " ".join(sentences(CASES[Verdict.NO_DETECTABLE_SCALING]))
    assert f"a fall of more than {overall.drop_upper:.4f} nats over this range is ruled out" in spoken
    assert f"would detect a drop of {overall.detectable_drop:.4f} nats or more with 80 % power" in spoken


def test_an_unidentified_exponent_is_said_with_its_interval_only() -> None:
    verdict = CASES[Verdict.SCALING]
    assert verdict.exponent.estimate is None
    low, high = verdict.exponent.low, verdict.exponent.high
    expected = f"The exponent is unidentified: its 90 % profile interval is {low:.2f} to {high:.2f}."
    assert expected in sentences(verdict)


def test_too_few_budgets_are_counted() -> None:
    assert sentences(CASES[Verdict.NOT_ENOUGH_DATA])[0] == (
        "A trend needs at least 3 budgets, and only 2 budgets have a finished run."
    )


def test_losses_above_the_base_rate_are_said() -> None:
    rows = judged(0.002).model_copy(update={"n_cells_above_base_rate": 3})
    silent = " ".join(sentences(rows))
    said = " ".join(sentences(rows.model_copy(update={"notes": ("loss_above_base_rate",)})))
    assert "worse than the base rate" not in silent
    assert "In 3 of 8 cells the model is worse than the base rate" in said


@pytest.mark.parametrize(
    ("n_params", "written"), [(19_912_345, "19.9M"), (5_021, "5.02K"), (640.0, "640"), (1_999_999, "2M")]
)
def test_sizes_are_written_to_three_digits(n_params: float, written: str) -> None:
    assert format_n(n_params) == written
