"""Imported once by the fork server, so that every attempt starts with torch at hand.

This module acts when it is imported, and only the fork server imports it: it brings in what a trial needs,
leaves stopping to the driver, and ties the server's life to the driver's.
"""

import gc
import signal

import finscale.search.objective
import finscale.search.processes  # noqa: F401
from finscale.search.lifeline import die_with_parent

__all__: list[str] = []

# a collection in a child would copy every page of these imports
gc.freeze()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
die_with_parent()
