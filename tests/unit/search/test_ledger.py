from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial
from search_toys import IDENTITY

from finscale.search.ledger import Ledger
from finscale.search.outcomes import TrialOutcome
from finscale.search.study import lease, open_study

RATES = {"learning_rate": FloatDistribution(1e-5, 1e-2, log=True)}


@pytest.fixture
def study(tmp_path: Path) -> Any:
    with lease(tmp_path):
        yield open_study(tmp_path, name="s", identity=IDENTITY, attributes={})


def write_all(ledger: Ledger, after_each: Callable[[], None]) -> None:
    """Take every kind of change that a driver makes."""
    for number in range(3):
        ledger.enter({"learning_rate": 1e-3 * (number + 1)}, RATES, {"kind": "random", "n_halvings": 0})
        after_each()
    ledger.record(1, {"n_halvings": 1, "reason": "memory", "val": float("nan")})
    after_each()
    for epoch in (1, 2, 2):
        ledger.report(0, epoch=epoch, loss=0.7 / epoch)
        after_each()
    ledger.tell(0, TrialOutcome(outcome="pruned", reason="behind"))
    ledger.tell(2, TrialOutcome(outcome="complete", value=0.25))
    ledger.tell(1, TrialOutcome(outcome="diverged", reason="nan"))
    after_each()


def shown(trials: list[FrozenTrial]) -> list[dict[str, Any]]:
    return [dict(vars(trial)) for trial in trials]


def test_a_ledger_holds_what_its_study_holds_after_every_change(study: optuna.Study) -> None:
    ledger = Ledger(study)

    def compare() -> None:
        assert shown(ledger.trials()) == shown(study.trials)

    write_all(ledger, compare)
    assert [trial.state.name for trial in ledger.trials()] == ["PRUNED", "FAIL", "COMPLETE"]
    assert ledger.trials()[1].user_attrs["val"] is None


def test_a_later_ledger_reads_what_an_earlier_one_wrote(study: optuna.Study) -> None:
    earlier = Ledger(study)
    write_all(earlier, lambda: None)
    assert shown(Ledger(study).trials()) == shown(earlier.trials())


def test_a_change_reads_no_other_trial(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(study)
    monkeypatch.setattr(study, "get_trials", lambda **options: pytest.fail("read all trials"))
    write_all(ledger, lambda: None)
    assert len(ledger.trials()) == 3


def test_a_list_of_trials_that_was_handed_out_does_not_grow(study: optuna.Study) -> None:
    ledger = Ledger(study)
    before = ledger.trials()
    write_all(ledger, lambda: None)
    assert before == []
