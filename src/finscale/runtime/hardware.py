"""Watch the machine while a command trains: a log of its load, and rest for a GPU that runs hot.

A daemon thread looks at the sensors every ten seconds; training only ever reads two attributes. Under the
first of three limits the hottest GPU is *normal*, from it on *acceptable*, from the second on training pauses
for 60 s, and again until it has cooled, from the third on it stops with a checkpoint. A state is left for a
cooler one 3 degrees under its limit. A temperature that cannot be read is *unknown*: it neither
pauses nor stops, and is never taken for normal.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import pandas as pd
from pandas.arrays import FloatingArray

from finscale.datasets.results import append_rows
from finscale.runtime.sensors import Reading, Sensors, read_machine
from finscale.training.config import ExecutionConfig

__all__ = ["HARDWARE", "LOG_COLUMNS", "Hardware", "State", "judge"]

State = Literal["unknown", "normal", "acceptable", "pause", "stop"]

LOG_COLUMNS = (
    *("since", "until", "cpu_percent", "memory_percent", "gpu_percent", "gpu_memory_percent"),
    *("temperature_c", "state"),
)
"""Of ``hardware.csv``: mean loads, highest memory and temperature of a period, and the state at its end."""

LOOK_EVERY_S: Final = 10.0
PAUSE_S: Final = 60.0
HYSTERESIS_C: Final = 3.0
_PATIENCE_S: Final = 5.0
_RISING: Final[tuple[State, ...]] = ("normal", "acceptable", "pause", "stop")
_MEANS: Final = ("cpu_percent", "gpu_percent")
_PEAKS: Final = ("memory_percent", "gpu_memory_percent", "temperature_c")
logger = logging.getLogger(__name__)


def judge(temperature_c: float | None, *, before: State, limits: Sequence[float]) -> State:
    """Return the state of a device, given the one before.

    Examples
    --------
    >>> judge(84.0, before="acceptable", limits=(70, 85, 95))
    'acceptable'
    >>> judge(84.0, before="pause", limits=(70, 85, 95))
    'pause'
    """
    if temperature_c is None:
        return "unknown"
    reached = sum(temperature_c >= limit for limit in limits)
    held = sum(temperature_c >= limit - HYSTERESIS_C for limit in limits)
    was = _RISING.index(before) if before in _RISING else 0
    return _RISING[max(reached, min(was, held))]


class Hardware:
    """The process-wide watch over the machine.

    Parameters
    ----------
    sensors : callable
        Returns a `Reading`; whatever it raises, nothing is known.
    clock : callable
        Seconds that never go back.
    """

    def __init__(
        self, sensors: Sensors = read_machine, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sensors, self._clock = sensors, clock
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._log: Path | None = None
        self._execution = ExecutionConfig()
        self._forget()

    def _forget(self) -> None:
        self.state: State = "unknown"
        self._pause_ends, self._row_due = -math.inf, -math.inf
        self._since, self._readings = datetime.now(UTC), list[Reading]()

    def watch(self, execution: ExecutionConfig, log: Path) -> None:
        """Look at the sensors from now on, in a thread of its own, and write to ``log``.

        Returns once they were read, so that work on a hot machine pauses before it begins; sensors that hang
        are waited for 5 s.
        """
        self.rest()
        self._forget()
        self._execution, self._log = execution, log
        self._row_due = self._clock() + execution.hardware_every_s
        self._ended, has_looked = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._ended, has_looked), daemon=True)
        self._thread.start()
        has_looked.wait(_PATIENCE_S)

    def rest(self) -> None:
        """End the thread, and write what it has seen since the last row."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE_S)
            self._thread = None
            self.flush()
            self._pause_ends, self.state = -math.inf, "unknown"

    @property
    def is_watching(self) -> bool:
        """Whether the sensors are being looked at."""
        return self._thread is not None

    @property
    def must_stop(self) -> bool:
        """Whether the device is too hot to go on."""
        return self.state == "stop"

    @property
    def must_pause(self) -> bool:
        """Whether training should wait: 60 s from when the device ran hot, and again while it does."""
        return self._clock() < self._pause_ends

    def look(self) -> None:
        """Read the sensors once, judge the temperature, and write a row where one is due."""
        reading, before = self._read(), self.state
        with self._lock:
            self._readings.append(reading)
        limits = self._execution.temperature_limits_c
        state = judge(reading.temperature_c, before=before, limits=limits)
        self._pause(state, reading.temperature_c)
        self.state = state
        if state != before:
            _announce(state, before, reading.temperature_c, limits)
        if state != before or self._clock() >= self._row_due:
            self.flush()

    def flush(self) -> None:
        """Write the row of the period that ends now, if anything was seen in it."""
        with self._lock:
            if self._log is None or not self._readings:
                return
            until = datetime.now(UTC)
            row, self._readings, self._since = self._row(until), [], until
            self._row_due = self._clock() + self._execution.hardware_every_s
            try:
                append_rows(self._log, [row], columns=LOG_COLUMNS)
            except (OSError, ValueError) as error:
                logger.warning("The hardware log lacks a row: %s", error)

    def hottest(self, runs: pd.DataFrame) -> FloatingArray:
        """Return the highest temperature of the periods that touch each run; NA where unknown.

        Parameters
        ----------
        runs : DataFrame
            With ``started_at`` and ``finished_at``; without a time zone they are local.
        """
        self.flush()
        log = _read_log(self._log)
        instants = (pd.to_datetime(runs[name]) for name in ("started_at", "finished_at"))
        spans = zip(*instants, strict=True)
        return pd.array([_hottest(log, began, ended) for began, ended in spans], dtype="Float64")

    def _run(self, ended: threading.Event, has_looked: threading.Event) -> None:
        while not ended.is_set():
            self.look()
            has_looked.set()
            ended.wait(LOOK_EVERY_S)

    def _read(self) -> Reading:
        try:
            return self._sensors()
        except Exception:
            return Reading()

    def _pause(self, state: State, temperature_c: float | None) -> None:
        """Begin 60 s of pause, or 60 s more just before they end: a thread that hangs pauses no longer."""
        if state == "pause" and self._clock() >= self._pause_ends - LOOK_EVERY_S:
            self._pause_ends = self._clock() + PAUSE_S
            logger.warning("The GPU is at %.0f C: training pauses for %.0f s", temperature_c, PAUSE_S)

    def _row(self, until: datetime) -> dict[str, object]:
        seen = pd.DataFrame([vars(reading) for reading in self._readings]).astype("float64")
        values = pd.concat([seen[list(_MEANS)].mean(), seen[list(_PEAKS)].max()])
        known = {str(name): "unknown" if math.isnan(v) else round(v, 1) for name, v in values.items()}
        return {"since": self._since, "until": until, **known, "state": self.state}


def _announce(state: State, before: State, temperature_c: float | None, limits: Sequence[float]) -> None:
    """Say a change that matters; a pause is said where it begins."""
    if state == "stop":
        logger.error(
            "The GPU is at %.0f C (limit %.0f): training stops with a checkpoint", temperature_c, limits[-1]
        )
    elif before == "pause" and state == "unknown":
        logger.warning("The temperature of the GPU cannot be read any more: training goes on after the pause")
    elif before == "pause":
        logger.warning("The GPU has cooled to %.0f C: training goes on after the pause", temperature_c)


def _read_log(path: Path | None) -> pd.DataFrame:
    if path is None or not path.exists() or not path.stat().st_size:
        return pd.DataFrame(columns=list(LOG_COLUMNS))
    log = pd.read_csv(path, on_bad_lines="skip")
    for name in ("since", "until"):
        log[name] = pd.to_datetime(log[name], utc=True, format="ISO8601", errors="coerce")
    return log.assign(temperature_c=pd.to_numeric(log["temperature_c"], errors="coerce"))


def _hottest(log: pd.DataFrame, began: pd.Timestamp, ended: pd.Timestamp) -> float | None:
    if pd.isna(began) or pd.isna(ended) or log.empty:
        return None
    since, until = (instant.to_pydatetime().astimezone(UTC) for instant in (began, ended))
    touched = (log["until"] >= since) & (log["since"] <= until)
    highest = log.loc[touched, "temperature_c"].max()
    return None if pd.isna(highest) else float(highest)


HARDWARE = Hardware()
