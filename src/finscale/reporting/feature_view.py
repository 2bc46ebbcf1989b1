"""What one page shows: the rows of one instrument, with times without a zone, and where its splits lie."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.core.errors import Fault, suggest

__all__ = ["FeatureView", "Stretch", "feature_view"]

Origins = Mapping[str, NDArray[np.int64]]
_LONGEST_STEP = np.timedelta64(60, "D")
_N_USUAL_STEPS = 20


@dataclass(frozen=True)
class Stretch:
    """A named stretch of time, from the first to the last of its rows.

    Attributes
    ----------
    name : str
        The split, or ``warm-up``.
    first, last : datetime64
    n_rows : int
        Windows of the split, or bars of the warm-up.
    """

    name: str
    first: np.datetime64
    last: np.datetime64
    n_rows: int


@dataclass(frozen=True, eq=False)
class FeatureView:
    """Features and bars of one instrument.

    Attributes
    ----------
    features, bars : DataFrame
        Indexed by time alone: sessions, or instants in UTC without a zone.
    origins : dict of int64 array
        Rows of ``features``, by split; a split in which the instrument has no window is left out.
    instrument : str
        ``""`` where there is but one.
    """

    features: pd.DataFrame
    bars: pd.DataFrame
    origins: dict[str, NDArray[np.int64]]
    instrument: str

    @property
    def splits(self) -> tuple[Stretch, ...]:
        """The splits, from the first to the last date at which a window of them ends."""
        times = _instants(self.features)
        return tuple(
            Stretch(name, times[rows].min(), times[rows].max(), len(rows))
            for name, rows in self.origins.items()
        )

    @property
    def warm_ups(self) -> tuple[Stretch, ...]:
        """The stretches of bars for which the features are not defined yet."""
        times = _instants(self.bars)
        absent = np.flatnonzero(~self.bars.index.isin(self.features.index))
        runs = np.split(absent, np.flatnonzero(np.diff(absent) > 1) + 1) if len(absent) else []
        return tuple(Stretch("warm-up", times[run[0]], times[run[-1]], len(run)) for run in runs)

    @property
    def interruptions(self) -> tuple[tuple[np.datetime64, np.datetime64], ...]:
        """The last bar before and the first after each step of months in which there is no bar.

        A step counts that is longer than 60 days and than 20 usual ones.
        """
        times = _instants(self.bars)
        steps = np.diff(times)
        if not len(steps):
            return ()
        long = steps > max(_LONGEST_STEP, _N_USUAL_STEPS * np.median(steps))
        return tuple((times[i], times[i + 1]) for i in np.flatnonzero(long))

    def shown_share(self, stretch: Stretch) -> float:
        """Return how much of the time axis a stretch takes once the interruptions are left out of it."""
        times = _instants(self.bars)
        whole = self._shown(times[0], times[-1])
        return float(self._shown(stretch.first, stretch.last) / whole) if whole else 1.0

    def _shown(self, first: np.datetime64, last: np.datetime64) -> np.timedelta64:
        inside = [end - begin for begin, end in self.interruptions if first <= begin and end <= last]
        return (last - first) - sum(inside, np.timedelta64(0, "ns"))


def feature_view(
    features: pd.DataFrame, bars: pd.DataFrame, origins: Origins, *, instrument: str | None
) -> FeatureView:
    """Select one instrument, the first of a panel where none is named.

    Raises
    ------
    Fault
        When the instrument is not in the panel, or one is named and there is no panel.
    """
    chosen = _chosen(features.index, instrument)
    rows = _rows_of(features.index, chosen)
    place = np.full(len(features), -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    found = {split: place[at][place[at] >= 0] for split, at in origins.items()}
    return FeatureView(
        features=_timed(features.iloc[rows]),
        bars=_timed(bars.iloc[_rows_of(bars.index, chosen)]),
        origins={split: at for split, at in found.items() if len(at)},
        instrument=chosen,
    )


def _chosen(index: pd.Index, instrument: str | None) -> str:
    if not isinstance(index, pd.MultiIndex):
        if instrument is not None:
            raise Fault("instrument", "be left out without a panel", instrument, "remove it")
        return ""
    known = [str(name) for name in index.unique(level=0)]
    if instrument is not None and instrument not in known:
        raise Fault("instrument", "be one of the panel", instrument, suggest(instrument, known))
    return instrument or known[0]


def _rows_of(index: pd.Index, instrument: str) -> NDArray[np.int64]:
    if not isinstance(index, pd.MultiIndex):
        return np.arange(len(index), dtype=np.int64)
    return np.flatnonzero(index.get_level_values(0) == instrument).astype(np.int64)


def _timed(frame: pd.DataFrame) -> pd.DataFrame:
    """Index by time alone; a zone is dropped after converting to UTC."""
    times = pd.DatetimeIndex(frame.index.get_level_values(-1))
    return frame.set_axis(times if times.tz is None else times.tz_convert("UTC").tz_localize(None), axis=0)


def _instants(frame: pd.DataFrame) -> NDArray[np.datetime64]:
    return frame.index.to_numpy(dtype="datetime64[ns]")
