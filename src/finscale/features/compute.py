"""Bars to features: compute per segment, drop the warm-up once, and refuse anything that is not finite.

Nothing is computed across instruments or across a gap in the history (`segment_ids`): each segment has a
warm-up of its own, and one that is no longer than that leaves no row.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from finscale.core.errors import Fault, raise_faults
from finscale.core.hashing import content_hash
from finscale.features.arithmetic import Vector
from finscale.features.catalogue import FeatureSpec, known_features, readable_sets
from finscale.features.segments import segment_ids

__all__ = ["FeatureTable", "compute_features", "data_hash", "warm_up_of"]


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Features of every bar on which all of them are defined.

    Attributes
    ----------
    frame : DataFrame
        float64, indexed as the bars, one column per feature in the order asked for.
    n_warm_up : int
        Bars that were dropped, over all segments.
    slowest : str
        The feature whose lookback decided that number.
    n_segments, n_vanished : int
        Segments of the bars, and those of them that their warm-up used up.
    """

    frame: pd.DataFrame
    n_warm_up: int
    slowest: str
    n_segments: int = 1
    n_vanished: int = 0


@dataclass(frozen=True, eq=False)
class _Segment:
    """One stretch of bars, indexed by time alone, and the warm-up of the slowest feature in it."""

    bars: pd.DataFrame
    start: int
    n_warm_up: int
    slowest: FeatureSpec

    @property
    def n_lost(self) -> int:
        return min(self.n_warm_up, len(self.bars))


def compute_features(bars: pd.DataFrame, names: Sequence[str], *, timescale: str = "daily") -> FeatureTable:
    """Compute the named features of validated bars.

    A series (``attrs["kind"] == "series"``) has no prices: its features are its own columns.

    Parameters
    ----------
    bars : DataFrame
        Canonical bars, of one instrument or a panel.
    names : sequence of str
        Rows of the catalogue; of a series all its columns, in their order.
    timescale : str
        Decides how long a gap ends a segment.

    Raises
    ------
    FinscaleError
        When a feature is unknown, reads a column the bars lack, is not finite after the warm-up, or
        when the warm-up leaves no bar.
    """
    if _is_series(bars):
        return _own_columns(bars, names)
    specs = known_features(names)
    segments = _segments(bars, specs, timescale, {})
    values = np.hstack(
        [_values(segment, specs) for segment in segments if segment.n_lost < len(segment.bars)]
    )
    rows = np.concatenate([np.arange(s.start + s.n_lost, s.start + len(s.bars)) for s in segments])
    # rows of ``values`` become columns of the frame without a copy
    index = bars.index[rows] if len(segments) > 1 else bars.index[rows[0] :]
    frame = pd.DataFrame(values.T, index=index, columns=list(names), copy=False)
    raise_faults(_not_finite(frame))
    return FeatureTable(
        frame=frame,
        n_warm_up=len(bars) - len(frame),
        slowest=_longest(segments).slowest.name,
        n_segments=len(segments),
        n_vanished=sum(segment.n_lost == len(segment.bars) for segment in segments),
    )


def warm_up_of(
    bars: pd.DataFrame,
    names: Sequence[str],
    *,
    timescale: str = "daily",
    feature_sets: Mapping[str, Sequence[str]] | None = None,
) -> tuple[int, str]:
    """Return the bars that the named features lose, over all segments, and the feature that decides it.

    Parameters
    ----------
    bars, names, timescale
        As in `compute_features`.
    feature_sets : mapping, optional
        The sets of conf; a refusal then names those that these bars can compute.

    Raises
    ------
    FinscaleError
        When a feature is unknown, reads a column the bars lack, or when no bar would be left.
    """
    if _is_series(bars):
        return 0, _own_columns(bars, names).slowest
    segments = _segments(bars, known_features(names), timescale, feature_sets or {})
    return sum(segment.n_lost for segment in segments), _longest(segments).slowest.name


def data_hash(bars: pd.DataFrame, names: Sequence[str]) -> str:
    """Return the identity of a feature table: the bars and the ordered feature list it comes from.

    Where columns hold codes, their labels are part of it.
    """
    labels = bars.attrs.get("vocabularies")
    return content_hash(bars, list(names), *([labels] if labels else []))


def _is_series(bars: pd.DataFrame) -> bool:
    return bars.attrs.get("kind") == "series"


def _own_columns(bars: pd.DataFrame, names: Sequence[str]) -> FeatureTable:
    if list(names) != list(bars.columns):
        rule = f"be the columns of the series, {', '.join(bars.columns)}"
        raise Fault("feature_set", rule, ", ".join(names), "a series has no prices to compute others from")
    raise_faults(_not_finite(bars))
    return FeatureTable(frame=bars.astype(np.float64), n_warm_up=0, slowest=names[0])


def _segments(
    bars: pd.DataFrame,
    specs: Sequence[FeatureSpec],
    timescale: str,
    feature_sets: Mapping[str, Sequence[str]],
) -> list[_Segment]:
    _refuse_missing_columns(specs, bars, feature_sets)
    ids = segment_ids(bars.index, timescale=timescale)
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    by_time = bars.droplevel("instrument") if isinstance(bars.index, pd.MultiIndex) else bars
    segments = [
        _segment(by_time.iloc[start:stop], int(start), specs)
        for start, stop in zip(starts, [*starts[1:], len(bars)], strict=True)
    ]
    _refuse_too_few(segments)
    return segments


def _segment(bars: pd.DataFrame, start: int, specs: Sequence[FeatureSpec]) -> _Segment:
    warm_ups = [spec.warm_up(bars) for spec in specs]
    n_warm_up = max(warm_ups)
    return _Segment(bars, start, n_warm_up, specs[warm_ups.index(n_warm_up)])


def _longest(segments: Sequence[_Segment]) -> _Segment:
    return max(segments, key=lambda segment: segment.n_warm_up)


def _values(segment: _Segment, specs: Sequence[FeatureSpec]) -> Vector:
    """Return the features of one segment after its warm-up, (n_features, n_rows)."""
    values = np.empty((len(specs), len(segment.bars) - segment.n_lost))
    for row, spec in zip(values, specs, strict=True):
        row[:] = spec.function(segment.bars)[segment.n_lost :]
    return values


def _refuse_too_few(segments: Sequence[_Segment]) -> None:
    if any(segment.n_lost < len(segment.bars) for segment in segments):
        return
    longest = max(segments, key=lambda segment: len(segment.bars))
    slowest = longest.slowest
    length = f"{slowest.lookback} {slowest.clock}s" if slowest.clock != "bar" else str(longest.n_warm_up)
    got = f"{len(longest.bars)} rows"
    if len(segments) > 1:
        got = f"{len(segments)} segments, the longest of {got}"
    remedy = f"give more bars, or a feature set without {slowest.name}"
    raise Fault("bars", f"have more rows than the warm-up of {slowest.name} ({length})", got, remedy)


def _refuse_missing_columns(
    specs: Sequence[FeatureSpec], bars: pd.DataFrame, feature_sets: Mapping[str, Sequence[str]]
) -> None:
    needy = [spec for spec in specs if not set(spec.reads) <= set(bars.columns)]
    if not needy:
        return
    missing = sorted({column for spec in needy for column in spec.reads} - set(bars.columns))
    columns = f"column{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
    rule = f"have the {columns} that {', '.join(spec.name for spec in needy)} read"
    raise Fault("bars", rule, f"only {', '.join(bars.columns)}", _remedy(bars, missing, feature_sets))


def _remedy(bars: pd.DataFrame, missing: Sequence[str], feature_sets: Mapping[str, Sequence[str]]) -> str:
    data = "give intraday bars" if "slot" in missing else "use data that has it"
    readable = readable_sets(feature_sets, list(bars.columns))
    if readable:
        return f"{data}, or a feature set that these bars can compute: {', '.join(readable)}"
    return f"{data}, or a feature set without these features"


def _not_finite(frame: pd.DataFrame) -> Iterator[Fault]:
    for name in frame.columns:
        bad = ~np.isfinite(frame[name].to_numpy())
        if bad.any():
            yield Fault(
                f"feature {name}",
                "be finite after the warm-up",
                f"{bad.sum()} bad rows, the first on {_when(frame.index[bad][0])}",
                "look at these bars (no volume for weeks?), or leave the feature out",
            )


def _when(label: object) -> str:
    parts = label if isinstance(label, tuple) else (label,)
    return " ".join(str(part).removesuffix(" 00:00:00") for part in parts)
