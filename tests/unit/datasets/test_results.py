"""The log of results loses no row: several writers, a torn line, a file of an older version."""

import json
import multiprocessing
from pathlib import Path

import pandas as pd
import pytest

from finscale.datasets.results import COLUMNS, ResultsLog, append_rows

N_WRITERS, N_ROWS = 4, 200


def write_rows(path: Path, writer: int) -> None:
    log = ResultsLog(filepath=str(path))
    for row in range(N_ROWS):
        values = {"run_id": f"{writer}:{row}", "error": f"{writer},{row} " * 20, "seed": row}
        log.save(pd.DataFrame([values]))


def test_four_processes_append_two_hundred_rows_each_and_none_is_lost_or_torn(tmp_path):
    path, fork = tmp_path / "log.csv", multiprocessing.get_context("fork")
    writers = [fork.Process(target=write_rows, args=(path, k)) for k in range(N_WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = ResultsLog(filepath=str(path)).load()
    assert set(found["run_id"]) == {f"{k}:{row}" for k in range(N_WRITERS) for row in range(N_ROWS)}
    assert len(found) == N_WRITERS * N_ROWS
    expected = found["run_id"].str.replace(":", ",") + " "
    assert (found["error"] == expected * 20).all()
    assert path.read_text().count("run_id") == 1


@pytest.mark.parametrize("n_lost", [1, 3, 9])
def test_a_line_that_a_kill_cut_short_is_dropped_and_the_next_row_is_whole(tmp_path, n_lost):
    path = tmp_path / "log.csv"
    for name in ("first", "second"):
        append_rows(path, [{"run_id": name, "seed": 12345}], columns=["run_id", "seed"], key="run_id")
    path.write_bytes(path.read_bytes()[:-n_lost])
    append_rows(path, [{"run_id": "second", "seed": 7}], columns=["run_id", "seed"], key="run_id")
    assert path.read_text() == "run_id,seed\nfirst,12345\nsecond,7\n"


def test_a_log_of_an_older_version_keeps_its_rows_under_the_columns_of_today(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("seed,run_id,gone\n1,old,x\n")
    log = ResultsLog(filepath=str(path))
    log.save(pd.DataFrame({"run_id": ["new"], "seed": [2]}))
    found = log.load()
    assert tuple(found.columns) == COLUMNS
    assert found[["run_id", "seed"]].values.tolist() == [["old", 1], ["new", 2]]


def test_a_temperature_that_nobody_measured_is_written_as_unknown(tmp_path):
    log = ResultsLog(filepath=str(tmp_path / "log.csv"))
    temperatures = pd.array([71.0, None], dtype="Float64")
    log.save(pd.DataFrame({"run_id": ["a", "b"], "max_temperature_c": temperatures}))
    log.save(pd.DataFrame({"run_id": ["c"]}))
    assert log.load()["max_temperature_c"].tolist() == ["71.0", "unknown", "unknown"]


def test_baselines_survive_as_json(tmp_path):
    log = ResultsLog(filepath=str(tmp_path / "log.csv"))
    baselines = {"test": {"base_rate": 0.69, "garch": 0.66}}
    log.save(pd.DataFrame({"run_id": ["a"], "baselines": [json.dumps(baselines)]}))
    assert json.loads(log.load()["baselines"].item()) == baselines
