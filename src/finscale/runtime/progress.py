"""Progress with an ETA on anything over two seconds: bars on a terminal, plain lines in a log file."""

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich import get_console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["Tracker", "track"]

logger = logging.getLogger(__name__)


@dataclass
class Tracker:
    """One line of progress.

    Attributes
    ----------
    label : str
        What is being worked through.
    total : int
        Steps in all, as far as known: more raise it.
    """

    label: str
    total: int
    done: int = 0
    started_at: float = field(default_factory=time.monotonic)
    _n_earlier: int = 0
    _bar: TaskID | None = None

    def advance(self, note: str = "", *, log: bool = True) -> None:
        """One step is done; ``note`` says what it gave, and ``log=False`` keeps it out of a log file."""
        self.done += 1
        self.total = max(self.total, self.done)
        if self._bar is not None:
            _screen.progress.update(self._bar, completed=self.done, total=self.total, note=note)
        elif log:
            logger.info(
                "%s %d/%d%s%s", self.label, self.done, self.total, f"  {note}" if note else "", self._eta()
            )

    def resume(self, n_done: int) -> None:
        """Count steps that an earlier run of the same work has done; they say nothing of the time left."""
        self._n_earlier = max(n_done - self.done, 0)
        self.done += self._n_earlier

    def show(self, done: int, note: str = "") -> None:
        """Set the position, e.g. after a resume; never logged."""
        self.done = done
        if self._bar is not None:
            _screen.progress.update(self._bar, completed=done, note=note)

    def _eta(self) -> str:
        here = self.done - self._n_earlier
        seconds = (time.monotonic() - self.started_at) / here * (self.total - self.done)
        return f"  (about {seconds:.0f} s left)" if self.done < self.total and seconds > 2 else ""


class _Screen:
    """The one live display: bars of sweep, cell, trial and epoch stand under each other."""

    def __init__(self) -> None:
        self.depth = 0
        self.progress = Progress()

    def open(self) -> None:
        if self.depth == 0:
            self.progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("[dim]{task.fields[note]}"),
                console=get_console(),
                transient=True,
            )
            self.progress.start()
        self.depth += 1

    def close(self) -> None:
        self.depth -= 1
        if self.depth == 0:
            self.progress.stop()


_screen = _Screen()


@contextlib.contextmanager
def track(label: str, total: int, *, done: int = 0) -> Iterator[Tracker]:
    """Show progress while the block runs.

    Parameters
    ----------
    total, done : int
        Steps in all, and those already done when it begins (a resumed search).
    """
    tracker = Tracker(label, total, done)
    if not get_console().is_terminal:
        yield tracker
        return
    _screen.open()
    tracker._bar = _screen.progress.add_task(label, total=total, completed=done, note="")
    try:
        yield tracker
    finally:
        _screen.progress.remove_task(tracker._bar)
        _screen.close()
