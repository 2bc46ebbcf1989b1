"""A command that only asks ends well: exit code 0, no failed node, no failed cell, no verdict."""

import logging
from typing import Any

import pytest
from kedro.pipeline import node

from finscale import cli
from finscale.core.budgets import Cell
from finscale.core.errors import Answered, Fault
from finscale.runtime import cell_runs, runner


def raising(error: Exception) -> Any:
    def raise_it(**_: Any) -> None:
        raise error

    return raise_it


def test_an_answer_is_printed_and_the_command_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    with cli._plain_errors():
        raise Answered("Nothing was trained.")
    assert capsys.readouterr().out == "Nothing was trained.\n"


@pytest.mark.parametrize(("error", "reported"), [(Answered("done"), 0), (Fault("a", "be b", "c"), 1)])
def test_a_node_that_answers_is_not_reported_as_failed(
    error: Exception, reported: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert runner._is_a_failure in logging.getLogger("kedro.pipeline.node").filters
    asked = node(raising(error), None, "nothing", name="asked")
    with caplog.at_level(logging.ERROR, "kedro.pipeline.node"), pytest.raises(type(error)):
        asked.run({})
    assert sum("failed" in record.message for record in caplog.records) == reported


class _Session:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __enter__(self) -> "_Session":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def run(self, **_: Any) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status"), [(Answered("asked"), "answered"), (Fault("a", "be b", "c"), "failed")]
)
def test_a_cell_that_answered_has_not_failed(
    error: Exception, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell_runs.KedroSession, "create", lambda *_, **__: _Session(error))
    assert cell_runs.run_cell(Cell.parse("5K", 1), ["hpo"], "test", {}).status == status
