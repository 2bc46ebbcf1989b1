"""Scores over classes, against the plain formula."""

import math

import numpy as np
import pytest

from finscale.core.errors import Fault
from finscale.metrics.classes import class_blocks, hit_rows, log_loss_rows

N_CLASSES = (3, 2)
Y = np.array([[0.0, 1.0], [2.0, 0.0]])
P = np.array([[0.7, 0.2, 0.1, 0.4, 0.6], [0.5, 0.3, 0.2, 0.5, 0.5]])


def test_the_log_loss_of_a_column_is_minus_the_log_of_what_was_said_of_the_class_that_came() -> None:
    expected = [[-math.log(0.7), -math.log(0.6)], [-math.log(0.2), -math.log(0.5)]]
    np.testing.assert_allclose(log_loss_rows(Y, P, N_CLASSES), expected, rtol=1e-14)


def test_a_sure_mistake_costs_16_nats_and_not_infinity() -> None:
    found = log_loss_rows(np.array([[1.0]]), np.array([[1.0, 0.0]]), [2])
    assert found[0, 0] == pytest.approx(-math.log(1e-7))


def test_a_hit_is_the_likeliest_class_and_the_first_of_equals() -> None:
    assert hit_rows(Y, P, N_CLASSES).tolist() == [[1, 1], [0, 1]]


def test_blocks_lie_side_by_side_and_another_number_of_classes_is_refused() -> None:
    assert [block.tolist() for block in class_blocks(P[:1], N_CLASSES)] == [[[0.7, 0.2, 0.1]], [[0.4, 0.6]]]
    with pytest.raises(Fault, match=r"classes must be side by side, 3 \+ 3 of them, got 5"):
        class_blocks(P, (3, 3))
