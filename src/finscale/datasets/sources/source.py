"""What every source can do: load bars, say whether it could, and name what it would give."""

from abc import abstractmethod
from collections.abc import Hashable
from typing import Any

import pandas as pd
from kedro.io import DatasetError

from finscale.core.config import Record
from finscale.core.errors import Fault, FinscaleError
from finscale.core.hashing import content_hash

__all__ = ["BarsError", "SeveralBarsErrors", "Source", "Told"]

Told = dict[Hashable | None, Any]
"""What ``bars.attrs`` tells the data card."""


class BarsError(Fault, DatasetError):
    """A fault of the bars; Kedro passes it on as it is instead of wrapping it."""


class SeveralBarsErrors(FinscaleError, DatasetError):
    """Faults of the bars in one message; passed on as it is, too."""


class Source(Record):
    """One place that bars come from; the keys are those of the catalog entry.

    ``load`` gives what the place holds, neither sorted nor checked, over an index ``session`` (naive days)
    or ``opened_at`` (UTC). Its ``attrs`` tell the data card where it came from and what was done to it, and
    the next step on which exchange calendar it lies and, for intraday bars, how its sessions are cut.
    """

    @abstractmethod
    def load(self) -> pd.DataFrame:
        """Return the bars as they were found."""

    def exists(self) -> bool:
        """Return whether the bars are at hand, without loading them."""
        return True

    def fingerprint(self) -> str:
        """Return the identity of what `load` would give."""
        return content_hash(self)
