"""Codes that are added: learned slots and sinusoids."""

import numpy as np
import pytest
import torch

from finscale.core.errors import Fault
from finscale.models.layers.positions import build_positions
from finscale.models.layers.positions.additive import LearnedPositions
from finscale.models.position_config import LearnedConfig, SinusoidalConfig

SIZES = {"d_model": 12, "d_head": 6, "n_heads": 2}


def learned(n_slots: int = 7) -> LearnedPositions:
    positions = LearnedPositions(n_slots, 12)
    torch.nn.init.normal_(positions.table, generator=torch.Generator().manual_seed(0))
    return positions


def test_a_token_gains_the_vector_of_its_slot_bit_for_bit() -> None:
    positions, x = learned(), torch.randn(2, 7, 12, generator=torch.Generator().manual_seed(1))
    assert torch.equal(positions.add(x), x + positions.table)
    assert torch.equal(positions.add(x[:, :3]), x[:, :3] + positions.table[:3])
    assert torch.equal(positions.add(x[:, :2], torch.tensor([5, 1])), x[:, :2] + positions.table[[5, 1]])


def test_a_position_without_a_slot_is_a_fault() -> None:
    with pytest.raises(Fault, match="positions must lie below the 7 learned ones, got 7"):
        learned().add(torch.zeros(1, 8, 12))
    with pytest.raises(Fault, match="got 9"):
        learned().add(torch.zeros(1, 2, 12), torch.tensor([9, 1]))


def test_a_built_table_has_a_slot_per_position_of_the_context() -> None:
    (table,) = build_positions(LearnedConfig(), **SIZES, max_length=11).parameters()
    assert tuple(table.shape) == (11, 12)


def test_sinusoids_are_those_of_the_paper() -> None:
    code = build_positions(SinusoidalConfig(base=500.0), **SIZES, max_length=1).add(torch.zeros(1, 50, 12))[0]
    angles = np.arange(50)[:, None] / 500.0 ** (np.arange(0, 12, 2) / 12)
    np.testing.assert_allclose(code[:, 0::2].numpy(), np.sin(angles), atol=1e-6)
    np.testing.assert_allclose(code[:, 1::2].numpy(), np.cos(angles), atol=1e-6)
