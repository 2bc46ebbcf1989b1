"""Where the folds of a walk-forward lie: the first in the folder itself, each later one in its own below."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from finscale.windows.data import WindowData, load_windows, save_windows

__all__ = ["fold_folder", "load_later_folds", "save_later_folds"]

_PREFIX = "fold_"


def fold_folder(folder: Path, fold: int) -> Path:
    """Return the place of a fold under ``folder``.

    Examples
    --------
    >>> fold_folder(Path("windows"), 0).as_posix(), fold_folder(Path("windows"), 2).as_posix()
    ('windows', 'windows/fold_2')
    """
    return folder if fold == 0 else folder / f"{_PREFIX}{fold}"


def save_later_folds(folder: Path, folds: Sequence[WindowData], *, max_ram_gb: float | None = None) -> None:
    """Write folds 1, 2, ... and remove those of an earlier definition."""
    kept = {fold_folder(folder, data.spec.fold) for data in folds}
    for stale in set(folder.glob(f"{_PREFIX}*")) - kept:
        shutil.rmtree(stale)
    for data in folds:
        save_windows(fold_folder(folder, data.spec.fold), data, max_ram_gb=max_ram_gb)


def load_later_folds(folder: Path) -> list[WindowData]:
    """Read folds 1, 2, ... in order; none without a walk-forward."""
    found = sorted(folder.glob(f"{_PREFIX}*"), key=lambda path: int(path.name.removeprefix(_PREFIX)))
    return [load_windows(path) for path in found]
