"""Imported by the fork server after the module of the trial function: what its children share.

This module acts when it is imported, and only the fork server imports it: it leaves stopping to the driver,
ties the server's life to the driver's, and keeps what was imported so far out of the children's garbage
collections, which would copy every page of it.
"""

import gc
import signal

import finscale.search.processes  # noqa: F401
from finscale.search.lifeline import die_with_parent

__all__: list[str] = []

gc.freeze()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
die_with_parent()
