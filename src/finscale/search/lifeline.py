"""Ties that end a child when its driver is gone, so that no orphan trains on."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading

__all__ = ["die_with_driver", "die_with_parent"]

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """On Linux, have the kernel send SIGKILL when the thread that started this process ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def die_with_driver() -> None:
    """Also watch the pipe to the process that asked for this one, which a fork server stands between."""
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os.kill(os.getpid(), signal.SIGKILL)
