import signal
import subprocess
import sys
from pathlib import Path

import pytest
from toy_trials import is_alive, wait_until

DRIVER = """
import multiprocessing, pathlib, sys, toy_trials
context = multiprocessing.get_context("spawn")
context.Process(target=toy_trials.hold, args=(sys.argv[1], pathlib.Path(sys.argv[2]))).start()
"""


@pytest.mark.parametrize("tie", ["die_with_parent", "die_with_driver"])
def test_a_child_dies_with_a_driver_that_is_killed(tmp_path: Path, tie: str) -> None:
    if tie == "die_with_parent" and sys.platform != "linux":
        pytest.skip("the parent-death signal is a Linux one")
    path = tmp_path / "pid"
    with subprocess.Popen([sys.executable, "-c", DRIVER, tie, str(path)]) as driver:
        wait_until(path.exists)
        child = int(path.read_text())
        assert is_alive(child)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    wait_until(lambda: not is_alive(child), seconds=10)
