"""Bars as a catalog entry: a source, read only, and beside daily bars the VIX if it is asked for.

Loading gives the canonical columns as they were found, neither sorted nor checked: that is the first
node's business, which then sees every fault at once.
"""

from typing import Any, cast

import pandas as pd
from kedro.io import AbstractDataset, DatasetError

from finscale.core.errors import FinscaleError, raise_faults
from finscale.core.hashing import content_hash
from finscale.datasets.atomic import TablePreview
from finscale.datasets.sources.reading import read_source
from finscale.datasets.sources.source import BarsError, SeveralBarsErrors, Source
from finscale.datasets.sources.vix import join_vix

__all__ = ["BarsDataset", "BarsError"]

_SHOWN = 5


class BarsDataset(AbstractDataset[None, pd.DataFrame]):
    """Bars, read-only.

    Parameters
    ----------
    source : dict
        ``{kind: arch, symbol: sp500}``, ``{kind: file, path: ...}``, ``{kind: yfinance, symbol: ...}``,
        ``{kind: simulated, process: ...}`` or ``{kind: panel, members: {...}}``; the records of
        `finscale.datasets.sources` say which keys each has.
    vix : dict, optional
        Another source; its close is joined to daily bars as the column ``vix``.
    metadata : dict, optional
        For kedro-viz.

    Raises
    ------
    FinscaleError
        At once for everything that is wrong with ``source`` and ``vix``; on load for a file that is missing,
        empty, unreadable, or lacks a column, and for a download that fails.
    """

    def __init__(
        self,
        *,
        source: dict[str, Any],
        vix: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        found, faults = read_source(source, subject="source")
        beside, more = (None, []) if vix is None else read_source(vix, subject="vix")
        raise_faults([*faults, *more])
        self._source = cast(Source, found)
        self._vix = beside
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """Return the bars as they were found."""
        try:
            bars = self._source.load()
            return bars if self._vix is None else join_vix(bars, self._vix.load())
        except BarsError:
            raise
        except FinscaleError as error:
            raise SeveralBarsErrors(str(error)) from None

    def save(self, data: None) -> None:
        """Refuse: bars are only read."""
        raise DatasetError("Bars are read-only: a source is never written back")

    def preview(self, nrows: int = _SHOWN) -> TablePreview:
        """Return the first bars as a table for kedro-viz; none of bars that have yet to be downloaded."""
        head = self.load().head(nrows) if self._exists() else pd.DataFrame()
        places = [_words(place) for place in head.index]
        rows = [[*place, *row] for place, row in zip(places, head.to_numpy().tolist(), strict=True)]
        columns = [*(str(name) for name in head.index.names if name), *head.columns]
        return TablePreview({"index": list(range(len(rows))), "columns": columns, "data": rows})

    def fingerprint(self) -> str:
        """Return the identity of what `load` would give: the sources, and the content of their files."""
        return content_hash(*(source.fingerprint() for source in self._sources))

    def _exists(self) -> bool:
        return all(source.exists() for source in self._sources)

    def _describe(self) -> dict[str, Any]:
        described: dict[str, Any] = {"source": self._source.model_dump(mode="json")}
        return described if self._vix is None else {**described, "vix": self._vix.model_dump(mode="json")}

    @property
    def _sources(self) -> tuple[Source, ...]:
        return (self._source,) if self._vix is None else (self._source, self._vix)


def _words(place: Any) -> list[str]:
    """The instrument and time of a bar; a day without its midnight."""
    parts = place if isinstance(place, tuple) else (place,)
    return [str(part).removesuffix(" 00:00:00") for part in parts]
