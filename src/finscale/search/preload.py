"""Imported by the fork server after the module of the trial function: what its children share.

In the fork server, and there alone, this module acts when it is imported: it leaves stopping to the driver,
ties the server's life to the driver's, and keeps what was imported so far out of the children's garbage
collections, which would copy every page of it.
"""

import gc
import signal
import sys

import finscale.search.processes  # noqa: F401
from finscale.search.lifeline import die_with_parent

__all__: list[str] = []

if "multiprocessing.forkserver" in " ".join(sys.orig_argv):
    gc.freeze()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with_parent()
