"""Scores of a probability forecast over classes, of one target column or of several side by side.

n rows, K columns, C classes of a column; y codes (n, K), p probabilities (n, sum of C).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from finscale.core.errors import Fault
from finscale.metrics.classification import PROBABILITY_FLOOR

__all__ = ["class_blocks", "hit_rows", "log_loss_rows"]

Matrix = NDArray[np.float64]


def class_blocks(p: Matrix, n_classes: Sequence[int]) -> list[Matrix]:
    """Cut the classes of K columns, side by side, into one block (n, C) per column."""
    if p.shape[-1] != sum(n_classes):
        rule = f"be side by side, {' + '.join(map(str, n_classes))} of them"
        raise Fault("classes", rule, p.shape[-1])
    return np.split(p, np.cumsum(n_classes)[:-1], axis=-1)


def log_loss_rows(y: Matrix, p: Matrix, n_classes: Sequence[int]) -> Matrix:
    """Return the log loss of each row and column (n, K), in nats; none costs more than 16.

    Examples
    --------
    >>> log_loss_rows(np.array([[1.0]]), np.array([[0.75, 0.25]]), [2]).round(4).tolist()
    [[1.3863]]
    """
    said = [
        np.take_along_axis(block, column[:, None].astype(np.int64), axis=1)[:, 0]
        for column, block in zip(y.T, class_blocks(p, n_classes), strict=True)
    ]
    return -np.log(np.clip(np.stack(said, axis=1), PROBABILITY_FLOOR, None))


def hit_rows(y: Matrix, p: Matrix, n_classes: Sequence[int]) -> Matrix:
    """Return 1 where the likeliest class, the first of equals, is the one that came, else 0: (n, K)."""
    likeliest = [block.argmax(axis=1) for block in class_blocks(p, n_classes)]
    return (np.stack(likeliest, axis=1) == y).astype(np.float64)
