"""Features as a reader meets them: grouped by family in the catalogue's order, each with its source."""

from collections.abc import Sequence
from dataclasses import dataclass

from finscale.features.catalogue import CATALOGUE

__all__ = ["FeatureLabel", "by_family"]

_COLUMN = "column"
_WIDTH = 47


@dataclass(frozen=True)
class FeatureLabel:
    """What is said about one feature in a menu, on an axis and above its curve.

    Attributes
    ----------
    name, family, source : str
        Of the catalogue's row; the column of a series table is its own family and source.
    lookback : str
        With its unit: ``14 bars``, ``14 weeks``.
    """

    name: str
    family: str
    source: str
    lookback: str

    @property
    def entry(self) -> str:
        """Line of a menu: family, name and the paper up to its first comma; short enough for a telephone.

        Examples
        --------
        >>> FeatureLabel("stochrsi", "momentum", "Chande and Kroll 1994, %K of RSI", "18 bars").entry
        'momentum · stochrsi (Chande & Kroll 1994)'
        """
        paper = self.source.partition(",")[0].replace(" and ", " & ")
        line = f"{self.family} · {self.name} ({paper})"
        return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 2].rstrip()}…)"

    @property
    def line(self) -> str:
        """What the menu has no room for: the whole source, and how far back the feature looks."""
        return f"{self.source}; lookback {self.lookback}"


def by_family(names: Sequence[str]) -> tuple[FeatureLabel, ...]:
    """Return the labels of the named features, families and features in the catalogue's order.

    Columns that are no feature of the catalogue (of a series table) come last, in the order given.

    Examples
    --------
    >>> [label.name for label in by_family(["rsi_14", "sma_50", "load", "close", "stochrsi"])]
    ['close', 'sma_50', 'rsi_14', 'stochrsi', 'load']
    """
    families = list(dict.fromkeys(row.family for row in CATALOGUE.values()))
    place = {row.name: (families.index(row.family), i) for i, row in enumerate(CATALOGUE.values())}
    last = (len(families), 0)
    return tuple(_label(name) for name in sorted(names, key=lambda name: place.get(name, last)))


def _label(name: str) -> FeatureLabel:
    if name not in CATALOGUE:
        return FeatureLabel(name, _COLUMN, "the table itself", "0 bars")
    row = CATALOGUE[name]
    return FeatureLabel(
        name, row.family, row.source, f"{row.lookback} {row.clock}{'' if row.lookback == 1 else 's'}"
    )
