"""The lite gate unit: what it lets in takes the place of what was there."""

import pytest
import torch
from torch.nn.functional import layer_norm

from finscale.models.layers.block import Block, BlockState
from finscale.models.layers.gate import LiteGate

D, T, B = 6, 5, 2


def gate_of(openness: float) -> LiteGate:
    gate = LiteGate(D).double()
    torch.nn.init.zeros_(gate.linear.weight)
    torch.nn.init.constant_(gate.linear.bias, openness)
    return gate


def tokens(seed: int) -> torch.Tensor:
    return torch.randn(B, T, D, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("openness", "share"), [(-60.0, 0.0), (0.0, 0.5), (60.0, 1.0)])
def test_a_gate_moves_a_token_that_far_towards_the_normed_branch(openness: float, share: float) -> None:
    x, branch = tokens(1), 7 + 3 * tokens(2)
    normed = layer_norm(branch, (D,), eps=1e-5)
    torch.testing.assert_close(x + gate_of(openness)(x, branch), (1 - share) * x + share * normed)


def test_how_far_a_gate_opens_depends_on_the_token_alone() -> None:
    gate = LiteGate(D).double()
    x, branch = tokens(1), tokens(2)
    opened = gate(x, branch) / (layer_norm(branch, (D,), eps=1e-5) - x)
    torch.testing.assert_close(opened, torch.sigmoid(x @ gate.linear.weight.T + gate.linear.bias))


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_gated_block_gates_attention_and_adds_the_feed_forward(norm_first: bool) -> None:
    block = Block(D, 2, 8, gated=True, norm_first=norm_first).double()
    x = tokens(3)
    read = block.attention_norm(x) if norm_first else x
    y = x + block.gate(x, block.attention(read))
    y = y if norm_first else block.attention_norm(y)
    fed = y + block.feed_forward(block.feed_forward_norm(y) if norm_first else y)
    torch.testing.assert_close(block(x), fed if norm_first else block.feed_forward_norm(fed))


def test_a_gated_block_goes_on_with_a_causal_sequence() -> None:
    block, x, state, parts = Block(D, 2, 8, gated=True).double(), tokens(4), BlockState(), []
    for part in x.split((2, 3), dim=1):
        out, state = block.resume(part, state)
        parts.append(out)
    torch.testing.assert_close(torch.cat(parts, dim=1), block(x, causal=True))
