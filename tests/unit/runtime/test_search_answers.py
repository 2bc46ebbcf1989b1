import io
from typing import Any

import pytest
from rich.console import Console

from finscale.core.budgets import Cell
from finscale.runtime import search_answers
from finscale.runtime.search_answers import print_survey, print_verification
from finscale.search.extremes import Corner
from finscale.search.survey import Reason, Survey
from finscale.search.verification import Verification

CELL = Cell.parse("20M", 3)
SURVEY = Survey(
    n_grid=75,
    n_product=12_600,
    n_duplicates=30,
    n_candidates=12_566,
    refused=(Reason(rule="have N within 25% of 20M", n=4, first=("candidate [a] must", "second")),),
    n_combinations=None,
    continuous=("learning_rate", "dropout"),
    n_trials=50,
    n_finished=20,
    memory_bytes=(3 * 2**20, 2**30, 2.5 * 2**30),
    typical_epochs=75,
    flops_per_trial=1.5e15,
    flops_left=4.5e16,
    hours_left=12.34,
    corners=(Corner(name="most layers", arch_id="x"), Corner(name="most heads", arch_id=None)),
)


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Any:
    console = Console(width=150, record=True, file=io.StringIO())
    monkeypatch.setattr(search_answers, "get_console", lambda: console)
    return console.export_text


def test_a_dry_run_shows_sizes_reasons_memory_and_cost(printed: Any) -> None:
    print_survey(SURVEY, CELL)
    text = printed()
    shown = (
        "Search of 20M_h3, not run",
        "12,600",
        "12,566",
        "without end: learning_rate, dropout",
        "50, of which 20 are finished",
        "3 MiB to 2.5 GiB, median 1.0 GiB",
        "1.50e+15 operations in 75 epochs",
        "4.50e+16",
        "12.3 hours",
        "4 must have N within 25% of 20M",
        "candidate [a] must",
    )
    assert [part for part in shown if part not in text] == []
    assert "most layers" in text
    assert "most heads" not in text


def test_no_hours_are_told_before_a_trial_has_finished(printed: Any) -> None:
    print_survey(SURVEY.model_copy(update={"hours_left": None, "n_combinations": 1234}), CELL)
    text = printed()
    assert "hours" not in text
    assert "1,234" in text


def test_a_verification_shows_states_kinds_and_extremes(printed: Any) -> None:
    found = Verification(
        states={"COMPLETE": 48, "FAIL": 2}, kinds={"random": 10}, n_extremes=6, n_extremes_tried=5
    )
    print_verification(found, CELL)
    text = printed()
    shown = ("Study of 20M_h3", "complete", "48", "fail", "with a result, random", "5 of 6")
    assert [part for part in shown if part not in text] == []
