"""Jumps: overnight moves that look like a split to which the earlier prices were not adjusted."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.features.bars import bad_bars
from finscale.features.segments import segment_ids, segment_starts

__all__ = ["SPLIT_RATIOS", "jump_warning", "split_ratios"]

SPLIT_RATIOS = (
    "1/100",
    "1/50",
    "1/20",
    "1/15",
    "1/10",
    "1/8",
    "1/7",
    "1/6",
    "1/5",
    "1/4",
    "1/3",
    "1/2",
    "2/3",
)
_SMALLEST_MOVE = 0.25  # log units; nothing smaller is near a ratio, so few rows need the closer look
_N_SIGMA, _N_BARS = 10.0, 63
_MAD_TO_SIGMA = 1.4826
_SLACK, _MOST_SLACK = 0.03, 0.1  # of the true overnight move that hides behind the split


def _log_ratio(ratio: str) -> float:
    up, down = ratio.split("/")
    return float(np.log(int(up) / int(down)))


# a consolidation is a split the other way round
_NAMED = {ratio: _log_ratio(ratio) for ratio in SPLIT_RATIOS}
_NAMED |= {"/".join(reversed(ratio.split("/"))): -value for ratio, value in _NAMED.items()}
_NAMES, _LOGS = np.array(list(_NAMED)), np.array(list(_NAMED.values()))


def split_ratios(bars: pd.DataFrame) -> NDArray[np.str_]:
    """Name for each bar the ratio of prices that a split would explain; an empty string for most.

    A move log(open_t / close_{t-1}) counts when it is larger than 0.25, ten times the usual move of the
    63 bars around it (the median absolute one, scaled to a standard deviation), and at most 0.03, or three
    times the usual move up to 0.1, away from a ratio of `SPLIT_RATIOS` or its inverse. Bars after the move
    are read: this is for a warning, never for a feature.

    Parameters
    ----------
    bars : DataFrame
        Canonical daily or intraday bars of one instrument, or a panel; (n_rows, ...).

    Returns
    -------
    array of str, (n_rows,)
        ``1/2`` where the price was halved.
    """
    log_open, log_close = np.log(bars["open"].to_numpy()), np.log(bars["close"].to_numpy())
    ids = segment_ids(bars.index, timescale="daily")
    inside = segment_starts(ids) < np.arange(len(bars))
    overnight = np.where(inside, log_open - np.roll(log_close, 1), 0.0)
    large = np.flatnonzero(np.abs(overnight) > _SMALLEST_MOVE)
    names = np.full(len(bars), "", dtype=_NAMES.dtype)
    moves = np.where(inside, log_close - np.roll(log_close, 1), np.nan)
    for row in large.tolist():
        usual = _usual_move(moves, ids, row)
        distance = np.abs(_LOGS - overnight[row])
        nearest = distance.argmin()
        far = abs(overnight[row]) > _N_SIGMA * usual
        if far and distance[nearest] <= np.clip(3 * usual, _SLACK, _MOST_SLACK):
            names[row] = _NAMES[nearest]
    return names


def _usual_move(moves: NDArray[np.float64], ids: NDArray[np.int64], row: int) -> float:
    """Return the robust standard deviation of the moves around a row, the row's own left out."""
    begin, end = max(0, row - _N_BARS // 2), row + _N_BARS // 2 + 1
    near = np.arange(begin, min(end, len(moves)))
    others = moves[near[(near != row) & (ids[near] == ids[row]) & ~np.isnan(moves[near])]]
    return float(_MAD_TO_SIGMA * np.median(np.abs(others))) if others.size else 0.0


def jump_warning(times: pd.DatetimeIndex, ratios: NDArray[np.str_]) -> str | None:
    """Say which bars of one instrument look like a split; None where none does."""
    found = ratios != ""
    if not found.any():
        return None
    kinds = ", ".join(dict.fromkeys(ratios[found].tolist()))
    moves = bad_bars(times, found).replace("bad bar", "overnight move")
    return (
        f"{moves} by about {kinds}: a split that the prices are not adjusted for? set adjust: in the source"
    )
