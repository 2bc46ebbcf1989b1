"""The command that a stopped command names goes on with it."""

import shlex

import pytest

from finscale import cli
from finscale.core.errors import Interrupted


def hint(typed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr("sys.argv", ["kedro", *shlex.split(typed)])
    with pytest.raises(SystemExit), cli._plain_errors():
        raise Interrupted("Saved.", 130)
    return capsys.readouterr().err.strip().partition("Continue with the same command: ")[2]


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ("run --env demo", "kedro run --env demo"),
        ("run --params hpo.restart=true --env demo", "kedro run --env demo"),
        ("run --env demo --params=hpo.restart=true", "kedro run --env demo"),
        ("run --params budget=20M,hpo.restart=true", "kedro run --params budget=20M"),
        ("run --params 'hpo.restart=yes, budget=20M'", "kedro run --params ' budget=20M'"),
        ("sweep --params=hpo.restart=1,hpo.n_trials=5 -p hpo", "kedro sweep --params=hpo.n_trials=5 -p hpo"),
        ("run --params hpo.restart=true,hpo.restarted=no", "kedro run --params hpo.restarted=no"),
    ],
)
def test_a_search_that_began_again_is_gone_on_with_and_not_begun_once_more(
    typed: str, named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hint(typed, monkeypatch, capsys) == named


def test_the_command_can_be_pasted_into_a_shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = "run --params 'sweep.horizons=1 5,experiment=a b'"
    assert shlex.split(hint(typed, monkeypatch, capsys)) == ["kedro", *shlex.split(typed)]
