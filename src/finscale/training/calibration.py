"""Conformal calibration of a quantile model: fitted on ``val_score``, kept beside its weights. No torch.

The search and the choice of the best epoch look at ``val_select`` alone, so ``val_score`` is the one part of
the past that neither of them has fitted. What is promised and what not: `finscale.metrics.conformal`.

n origins, H trained horizons, Q levels.
"""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from finscale.core.config import Record
from finscale.core.errors import Fault
from finscale.core.files import read_json, write_json
from finscale.metrics.conformal import conformal_offsets, in_order
from finscale.metrics.tables import quantile_matrix
from finscale.training.scoring import Rows
from finscale.windows.spec import WindowSpec
from finscale.windows.tasks import parse_task

__all__ = [
    "CALIBRATED_ON",
    "CALIBRATION",
    "Calibration",
    "fit_calibration",
    "load_calibration",
    "record_calibration",
    "should_calibrate",
]

CALIBRATION = "calibration.json"
CALIBRATED_ON: Literal["val_score"] = "val_score"

Array = NDArray[np.float64]


class Calibration(Record):
    """By how much the quantiles of one run are moved.

    Parameters
    ----------
    fingerprint : str
        Of the run.
    split, n
        Rows that the offsets were fitted on.
    horizons, levels : tuple
        Of the model.
    offsets : tuple of tuple of float (H, Q)
        Added to every quantile, in the units of the targets: returns over trailing volatility.
    """

    format: Literal["finscale-calibration-1"] = "finscale-calibration-1"
    fingerprint: str
    split: Literal["val_score"] = CALIBRATED_ON
    n: int
    horizons: tuple[int, ...]
    levels: tuple[float, ...]
    offsets: tuple[tuple[float, ...], ...]

    def apply(self, quantiles: Array) -> Array:
        """Return quantiles (n, H, Q) moved by the offsets; they do not cross."""
        return in_order(quantiles + np.array(self.offsets))


def should_calibrate(asked: bool | None, spec: WindowSpec, *, n_rows: int) -> bool:
    """Return whether models of these windows are to be calibrated: where nothing is asked, if they can be.

    Parameters
    ----------
    n_rows : int
        Origins of ``val_score``.

    Raises
    ------
    Fault
        When it is asked for and cannot be done.
    """
    fault = _fault(spec, n_rows)
    if asked and fault is not None:
        raise fault
    return fault is None if asked is None else asked


def _fault(spec: WindowSpec, n_rows: int) -> Fault | None:
    if parse_task(spec.task).kind != "quantile":
        rule, remedy = "be left out unless data.task is quantile", "remove it"
        return Fault("training.conformal", rule, f"true with {spec.task}", remedy)
    if n_rows == 0:
        rule = "be left out where validation is not divided: there are no rows to fit it on"
        return Fault("training.conformal", rule, True, "lower data.split.val_select_fraction below 1")
    return None


def fit_calibration(rows: Rows, spec: WindowSpec, *, fingerprint: str) -> Calibration:
    """Return what to move, fitted on what a run says of the origins of ``val_score``."""
    levels = spec.quantile_levels
    offsets = [
        conformal_offsets(columns["target"], quantile_matrix(columns, levels), levels)
        for columns in rows.by_horizon
    ]
    return Calibration(
        fingerprint=fingerprint,
        n=len(rows.loss),
        horizons=spec.horizons,
        levels=levels,
        offsets=tuple(tuple(row.tolist()) for row in offsets),
    )


def record_calibration(directory: Path, calibration: Calibration | None) -> None:
    """Write ``calibration.json`` into the directory of a run; None removes what an earlier training left."""
    if calibration is None:
        (directory / CALIBRATION).unlink(missing_ok=True)
    else:
        write_json(directory / CALIBRATION, calibration.model_dump(mode="json"))


def load_calibration(directory: Path, *, fingerprint: str) -> Calibration | None:
    """Return the calibration of the run in ``directory``; None where it has none.

    Raises
    ------
    FinscaleError
        When the file is damaged, or belongs to another run.
    """
    path = directory / CALIBRATION
    if not path.exists():
        return None
    found = Calibration.read(read_json(path), subject=str(path))
    if found.fingerprint != fingerprint:
        remedy = "run the training pipeline again: it writes this file without training anew"
        raise Fault(str(path), f"have the fingerprint {fingerprint} of the run", found.fingerprint, remedy)
    return found
