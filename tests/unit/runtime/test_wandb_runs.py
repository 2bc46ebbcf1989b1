"""Runs of Weights & Biases, written offline by the real package and read back from its files."""

import importlib.util
import json
import os
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from finscale.runtime import wandb_runs
from finscale.runtime.trackers import ChildRun
from finscale.runtime.wandb_runs import keep_under, log_wandb_run

installed = pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")

RUN = ChildRun(
    "20M_h3 seed 7",
    params={"training.learning_rate": 3e-4, "seed": 7, "model.norm": "layer_norm", "arch_id": None},
    metrics={"test_log_loss": 0.6543210987654321, "test_auc": float("nan")},
    curve={
        "val_loss": [(1, 0.7), (2, 0.1 + 0.2)],
        "learning_rate": [(2, 1e-4)],
        "mfu": [(1, None), (2, None)],
    },
    tags={"cell": "20M_h3", "kind": "final"},
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where runs are kept; nobody is logged in, and nothing is asked of the environment."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "NETRC", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    wandb_runs._warn_once.cache_clear()
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_ERROR_REPORTING"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    (tmp_path / "data").mkdir()
    keep_under(tmp_path / "data")
    yield tmp_path / "data"
    if "wandb" in sys.modules and sys.modules["wandb"] is not None:
        sys.modules["wandb"].teardown()


def _records(folder: Path) -> list[Any]:
    """The records of the only run under ``folder``: a header of 7 bytes, then length-prefixed messages."""
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # as a process does that ends: all is written
    (path,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    content, at, records = path.read_bytes(), 7, []
    while at < len(content):
        _, length, _ = struct.unpack("<IHB", content[at : at + 7])
        records.append(Record.FromString(content[at + 7 : at + 7 + length]))
        at += 7 + length
    return records


def _values(items: Sequence[Any]) -> dict[str, Any]:
    found = {(item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in items}
    return {key: value for key, value in found.items() if not key.startswith("_")}


@installed
def test_a_run_is_kept_offline_with_the_numbers_that_were_given(folder: Path) -> None:
    log_wandb_run(RUN, project="scaling")
    records = _records(folder)
    (run,) = (record.run for record in records if record.HasField("run"))
    assert (run.project, run.display_name, run.run_group) == ("scaling", "20M_h3 seed 7", "20M_h3")
    assert (run.job_type, list(run.tags)) == ("final", ["20M_h3", "final"])
    assert _values(run.config.update) == dict(RUN.params)
    history = {
        record.history.step.num: _values(record.history.item)
        for record in records
        if record.HasField("history")
    }
    assert history == {1: {"val_loss": 0.7}, 2: {"val_loss": 0.1 + 0.2, "learning_rate": 1e-4}}
    summaries = [_values(record.summary.update) for record in records if record.HasField("summary")]
    scores = {key: value for summary in summaries for key, value in summary.items() if key.startswith("test")}
    assert scores == {"test_log_loss": 0.6543210987654321}
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [0]


@installed
def test_nothing_is_written_outside_the_data_folder(folder: Path) -> None:
    log_wandb_run(RUN, project="scaling")
    assert {path.name for path in folder.parent.iterdir()} == {"data"}


@installed
@pytest.mark.parametrize("mode", ["online", None])
def test_runs_that_no_server_takes_are_kept_offline_with_one_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, mode: str | None
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    if mode:
        monkeypatch.setenv("WANDB_MODE", mode)
    for _ in range(2):
        log_wandb_run(RUN, project="scaling")
    assert len(list((folder / "wandb").glob("offline-run-*"))) == 2
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "wandb sync" in warning


@installed
def test_who_is_not_logged_in_asks_no_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        log_wandb_run(RUN, project="scaling")
        with pytest.raises(BlockingIOError):
            server.accept()
    (kept,) = (folder / "wandb").glob("*run-*")
    assert kept.name.startswith("offline-")
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@installed
def test_a_server_that_hangs_is_asked_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wandb_runs, "_WAIT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        for _ in range(3):
            log_wandb_run(RUN, project="scaling")
    assert len(list((folder / "wandb").glob("offline-run-*"))) == 3
    assert len(list((folder / "wandb").glob("run-*"))) == 1
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "wandb sync" in warning


@installed
def test_a_disabled_tracker_writes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    log_wandb_run(RUN, project="scaling")
    assert not list((folder / "wandb").glob("*run-*"))


def test_a_missing_package_is_one_warning_with_its_remedy(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    for _ in range(3):
        log_wandb_run(RUN, project="scaling")
    (record,) = caplog.records
    assert "pip install 'finscale[wandb]'" in record.getMessage()


@installed
def test_what_goes_wrong_stops_no_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_MODE", "sideways")
    for _ in range(2):
        log_wandb_run(RUN, project="scaling")
    assert len(caplog.records) == 1
