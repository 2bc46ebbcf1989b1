"""Long series drawn with few points: the extremes stay, and nothing is invented between the rows."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_POINTS", "kept_rows", "rounded", "time_strings"]

MAX_POINTS = 3000


def kept_rows(values: NDArray[np.float64], *, max_points: int = MAX_POINTS) -> NDArray[np.int64]:
    """Choose at most ``max_points`` rows of a series to draw, so that every spike stays where it was.

    The rows are cut into stretches of equal length; each gives its lowest and its highest row, and the
    series its first and last.

    Parameters
    ----------
    values : float array, (n_rows,)
        Without NaN.

    Returns
    -------
    int64 array, (n_kept,)
        Increasing rows; all of them where there are few.

    Examples
    --------
    >>> kept_rows(np.array([0.0, 0, 0, 9, 0, 0, -9, 0, 0, 0]), max_points=6)
    array([0, 3, 5, 6, 9])
    """
    n_rows = len(values)
    if n_rows <= max_points:
        return np.arange(n_rows, dtype=np.int64)
    n_stretches = (max_points - 2) // 2
    length = -(-n_rows // n_stretches)
    padded = np.pad(values, (0, -n_rows % length), mode="edge").reshape(-1, length)
    firsts = np.arange(len(padded), dtype=np.int64) * length
    ends = np.array([0, n_rows - 1])
    found = np.concatenate([ends, firsts + padded.argmin(axis=1), firsts + padded.argmax(axis=1)])
    return np.unique(np.minimum(found, n_rows - 1))


def rounded(values: NDArray[np.float64], *, span: float) -> list[float | None]:
    """Write numbers to a hundred-thousandth of the span they are drawn over: finer than any screen.

    Examples
    --------
    >>> rounded(np.array([2743.14876, 676.53]), span=2000.0)
    [2743.15, 676.53]
    """
    decimals = int(np.ceil(5 - np.log10(span))) if span > 0 else 12
    return [float(value) for value in np.round(values, decimals)]


def time_strings(times: NDArray[np.datetime64]) -> list[str]:
    """Write instants as the days, or the minutes or seconds, they fall on: whichever is shortest and exact.

    Examples
    --------
    >>> time_strings(np.array(["2020-01-31", "2020-02-03"], dtype="datetime64[ns]"))
    ['2020-01-31', '2020-02-03']
    """
    units = ("D", "m", "s", "ms")
    written = (times.astype(f"datetime64[{unit}]") for unit in units)
    exact = next((found for found in written if (found == times).all()), times)
    return [str(time) for time in exact]
