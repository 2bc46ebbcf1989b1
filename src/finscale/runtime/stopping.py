"""How a run is asked to stop, or to wait for a device to cool.

A signal, a STOP_NOW file or heat saves and ends; a second signal exits at once.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from finscale.core.errors import Interrupted
from finscale.runtime.hardware import HARDWARE, Hardware

__all__ = ["STOP", "Stopper"]

_POLL_S = 0.5


class Stopper:
    """The process-wide answer to *should I stop?*; cheap enough to ask at every optimizer step.

    Parameters
    ----------
    hardware : Hardware
        Watch over the machine; once it has said stop, the command ends.
    """

    def __init__(self, hardware: Hardware = HARDWARE) -> None:
        self._hardware = hardware
        self._signal: int | None = None
        self._folder: Path | None = None
        self._next_look = 0.0
        self._found = False

    @contextlib.contextmanager
    def listening(self) -> Iterator["Stopper"]:
        """Turn SIGINT and SIGTERM into a request while the block runs; restore the old handlers after."""
        self._signal, self._found = None, False
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        old = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def watch(self, folder: Path) -> None:
        """Also stop when ``STOP_NOW`` appears in ``folder``; ``STOP`` there ends a sweep after its cell."""
        self._folder = folder

    @property
    def stop_file(self) -> Path | None:
        """The file that ends a sweep (``data/STOP``), whether it exists or not."""
        return self._folder / "STOP" if self._folder else None

    def requested(self) -> bool:
        """Whether the run should save and end now."""
        if self._signal is not None or self._found:
            return True
        self._found = self._hardware.must_stop
        if self._folder is not None and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _POLL_S
            self._found = self._found or (self._folder / "STOP_NOW").exists()
        return self._found

    def should_pause(self) -> bool:
        """Whether training should wait for the device to cool."""
        return self._hardware.must_pause

    @property
    def exit_code(self) -> int:
        """130 after SIGINT, 143 after SIGTERM, 0 after a STOP file or heat."""
        return 0 if self._signal is None else 128 + self._signal

    def raise_if_requested(self, saved: str) -> None:
        """Raise `Interrupted` saying what was saved, if a stop was requested."""
        if self.requested():
            raise Interrupted(saved, self.exit_code)

    def request(self, number: int) -> None:
        """Do as on that signal: ask for a stop; asked once more, exit at once."""
        if self._signal is not None:
            os._exit(128 + number)
        self._signal = number
        print("\nStopping: saving at the next step (once more exits at once).", file=sys.stderr, flush=True)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.request(number)


STOP = Stopper()
