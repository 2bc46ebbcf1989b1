"""What a finished run needs beside its weights to score new bars: JSON, exact to the last bit. No torch.

F features.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from finscale.core.config import Record
from finscale.core.errors import Fault
from finscale.core.files import read_json, write_json
from finscale.features.bar_rules import BarKind
from finscale.features.bars import kind_of
from finscale.features.sessions import SessionRule
from finscale.windows.data import WindowData
from finscale.windows.spec import WindowSpec
from finscale.windows.standardize import Standardizer

__all__ = ["INPUTS", "BarFacts", "RunInputs", "bar_facts", "load_inputs", "save_inputs", "usual_step_s"]

INPUTS = "inputs.json"
_NS = 1e9
_FORMAT = "finscale-inputs-1"
_REMEDY = "run the training pipeline again: it writes this file without training anew"


class BarFacts(Record):
    """What the table of bars itself does not say.

    Parameters
    ----------
    kind : str
        ``daily``, ``intraday`` or ``series``.
    sessions : SessionRule or None
        Of intraday bars.
    calendar : str or None
        Exchange whose weeks and months count.
    step_s : float
        Usual time from one bar to the next at the timescale of the run, in seconds.
    """

    kind: BarKind
    sessions: SessionRule | None = None
    calendar: str | None = None
    step_s: float


class RunInputs(Record):
    """What goes into the model of a run, and how.

    Parameters
    ----------
    spec : WindowSpec
        Task, horizon, context, timescale, and the features in their order.
    mean, std : tuple of float (F,)
        Moments of the training rows, see `finscale.windows.standardize`.
    bars : BarFacts
    """

    format: Literal["finscale-inputs-1"] = "finscale-inputs-1"
    spec: WindowSpec
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bars: BarFacts

    @property
    def standardizer(self) -> Standardizer:
        """The moments as arrays."""
        return Standardizer(mean=np.array(self.mean), std=np.array(self.std))


def bar_facts(bars: pd.DataFrame) -> BarFacts:
    """Return what prepared bars (`finscale.features.prepare.prepare_bars`) say of themselves."""
    told = {name: bars.attrs.get(name) or None for name in ("sessions", "calendar")}
    return BarFacts.read({**told, "kind": kind_of(bars), "step_s": usual_step_s(bars)}, subject="bars")


def usual_step_s(bars: pd.DataFrame) -> float:
    """Return the median time between two bars of one instrument, in seconds; 0 where there is only one."""
    steps = np.diff(pd.DatetimeIndex(bars.index.get_level_values(-1)).as_unit("ns").asi8)
    if isinstance(bars.index, pd.MultiIndex):
        steps = steps[np.diff(bars.index.codes[0]) == 0]
    return float(np.median(steps)) / _NS if len(steps) else 0.0


def save_inputs(directory: Path, data: WindowData, bars: BarFacts) -> None:
    """Write ``inputs.json`` into the directory of a run that was trained on ``data``."""
    mean, std = tuple(data.standardizer.mean.tolist()), tuple(data.standardizer.std.tolist())
    inputs = RunInputs(spec=data.spec, mean=mean, std=std, bars=bars)
    write_json(directory / INPUTS, inputs.model_dump(mode="json"))


def load_inputs(directory: Path) -> RunInputs:
    """Read what `save_inputs` wrote.

    Raises
    ------
    FinscaleError
        When the file is missing, foreign or damaged.
    """
    path = directory / INPUTS
    found = read_json(path, remedy=_REMEDY)
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise Fault(
            str(path), f"be the inputs of a run ({_FORMAT})", "another file, or an older one", _REMEDY
        )
    return RunInputs.read(found, subject=str(path))
