"""The events of a run as lines of JSON in its folder, for whoever wants to follow or plot it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from finscale.core.files import append_line
from finscale.training.events import Event

__all__ = ["EVENT_LOG", "logged", "read_events"]

EVENT_LOG: Final = "events.jsonl"


def logged(directory: Path, on_event: Callable[[Event], None]) -> Callable[[Event], None]:
    """Return a listener that appends every event to ``events.jsonl`` and then passes it on.

    A line holds the instant of writing (``at``, UTC), the kind of ``event`` and its fields. A run that is
    resumed goes on in the same file.

    Parameters
    ----------
    directory : Path
        Of the run.
    on_event : callable
        Who else listens.
    """

    def listen(event: Event) -> None:
        said = {"at": datetime.now(UTC).isoformat(), "event": type(event).__name__, **asdict(event)}
        append_line(directory / EVENT_LOG, json.dumps(said, allow_nan=False))
        on_event(event)

    return listen


def read_events(directory: Path) -> Iterator[dict[str, Any]]:
    """Yield what `logged` wrote in ``directory``, if anything; not what a kill left of a last line."""
    path = directory / EVENT_LOG
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
        if line.endswith(b"\n"):
            yield json.loads(line)
