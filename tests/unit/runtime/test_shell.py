"""Signals, STOP files, trackers and progress: the shell stays out of the way."""

import os
import signal
import socket

import pytest
import torch

from finscale.core.errors import Interrupted
from finscale.runtime.progress import track
from finscale.runtime.resolvers import RESOLVERS, data_folder, experiment_folder, reproduced
from finscale.runtime.stopping import Stopper
from finscale.runtime.trackers import answers


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_is_a_request_and_the_old_handlers_come_back(number):
    before = signal.getsignal(number)
    stopper = Stopper()
    with stopper.listening():
        assert not stopper.requested()
        os.kill(os.getpid(), number)
        assert stopper.requested()
        assert stopper.exit_code == 128 + number
        with pytest.raises(Interrupted, match="saved"):
            stopper.raise_if_requested("saved")
    assert signal.getsignal(number) == before


def test_a_stop_now_file_is_a_request_too(tmp_path):
    stopper = Stopper()
    stopper.watch(tmp_path)
    with stopper.listening():
        assert not stopper.requested()
        (tmp_path / "STOP_NOW").touch()
        stopper._next_look = 0.0
        assert stopper.requested()
        assert stopper.exit_code == 0


def test_a_server_that_does_not_listen_is_known_and_a_file_always_answers():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert answers(f"http://127.0.0.1:{port}")
    assert not answers(f"http://127.0.0.1:{port}")
    assert answers("sqlite:////tmp/x.db")


def test_progress_without_a_terminal_is_a_line_a_step(caplog):
    caplog.set_level("INFO", logger="finscale.runtime.progress")
    with track("Search", 2) as tracker:
        tracker.advance("best 0.5")
        tracker.show(1, "quiet")
        tracker.advance()
    assert [record.getMessage() for record in caplog.records] == ["Search 1/2  best 0.5", "Search 2/2"]


def test_paths_stay_in_their_folder(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="letters, digits and underscores"):
        experiment_folder("../x")
    assert experiment_folder("spy_daily_threshold_1pct") == ""
    assert reproduced(None) == ""
    assert reproduced("a.json") == "reproduced_"
    assert data_folder(str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize(("has_bf16", "taken"), [(True, "bf16"), (False, "fp32")])
def test_the_native_precision_is_bf16_where_the_processor_has_it(
    has_bf16: bool, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": has_bf16})
    for accelerator in (torch.cuda, torch.backends.mps):
        monkeypatch.setattr(accelerator, "is_available", lambda: False)
    assert RESOLVERS["native_precision"]() == taken
