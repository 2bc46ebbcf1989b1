"""Labels of a categorical column, and their codes counted from 0."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.core.errors import Fault

__all__ = ["Label", "Vocabulary", "code_labels", "shown_labels", "vocabularies_of", "vocabulary_of"]

Label = str | int
Vocabulary = tuple[Label, ...]
"""Different labels in ascending order: the code of a label is its place."""

_SHOWN = 5


def vocabularies_of(bars: pd.DataFrame) -> dict[str, Vocabulary]:
    """Return the labels of each categorical column of a loaded table, in the order of their codes."""
    labels = bars.attrs.get("vocabularies", {})
    return {str(name): tuple(labels[name]) for name in bars.columns if name in labels}


def vocabulary_of(values: pd.Series, *, subject: str) -> Vocabulary:
    """Return the labels of a column: texts, or whole numbers; True and False are texts.

    Parameters
    ----------
    values : Series
        One label per row.
    subject : str
        What messages call the column.

    Raises
    ------
    Fault
        When a row has no label, or one that is neither, or texts and numbers are mixed.

    Examples
    --------
    >>> vocabulary_of(pd.Series(["b", "a", "b"]), subject="x")
    ('a', 'b')
    """
    labels = {_label(value, subject) for value in pd.unique(values)}
    if len({type(label) for label in labels}) > 1:
        rule = "hold texts or whole numbers, not both"
        raise Fault(subject, rule, shown_labels(labels), "write them as texts")
    return tuple(sorted(labels))


def code_labels(values: pd.Series, vocabulary: Sequence[Label], *, subject: str) -> NDArray[np.int64]:
    """Return the code of each row's label (n_rows,): of the rows a vocabulary was made from, or of new ones.

    Raises
    ------
    Fault
        As `vocabulary_of`, and when a label is not in the vocabulary.

    Examples
    --------
    >>> code_labels(pd.Series(["b", "b", "a"]), ("a", "b"), subject="x").tolist()
    [1, 1, 0]
    """
    places = {label: code for code, label in enumerate(vocabulary)}
    rows, found = pd.factorize(values, use_na_sentinel=False)
    labels = [_label(value, subject) for value in found]
    unknown = {label for label in labels if label not in places}
    if unknown:
        rule, remedy = f"hold the {len(places)} labels of the vocabulary", "leave these rows out"
        raise Fault(subject, rule, shown_labels(unknown), f"{remedy}, or train with them")
    return np.array([places[label] for label in labels], dtype=np.int64)[rows]


def _label(value: Any, subject: str) -> Label:
    if pd.api.types.is_scalar(value) and pd.isna(value):
        raise Fault(subject, "have a label in every row", "a missing one", "fill it, or drop the row")
    if isinstance(value, str | bool | np.bool_):
        return str(value)
    if isinstance(value, int | np.integer) or (isinstance(value, float | np.floating) and value.is_integer()):
        return int(value)
    raise Fault(subject, "hold texts or whole numbers", str(value), "write the labels as texts")


def shown_labels(labels: Collection[Label]) -> str:
    """Return how many labels there are, and the first of them, for a message."""
    first = ", ".join(repr(label) for label in sorted(labels, key=str)[:_SHOWN])
    return f"{len(labels)} labels ({first}{', ...' if len(labels) > _SHOWN else ''})"
