"""The residual block."""

import torch
from torch import Tensor

from finscale.models.layers.block import Block

B, T, D = 2, 9, 8


def tokens(seed: int = 0) -> Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(seed))


def silenced(block: Block, *weights: Tensor) -> Block:
    for weight in weights:
        weight.data.zero_()
    return block


def test_a_block_whose_branches_add_nothing_is_the_identity() -> None:
    block = Block(D, 2, 16, conv_taps=3)
    attention, feed_forward = block.attention.output, block.feed_forward.down
    silenced(block, attention.weight, attention.bias, feed_forward.weight, feed_forward.bias)
    assert torch.equal(block(tokens()), tokens())


def test_a_block_is_pre_norm() -> None:
    block, x = Block(D, 2, 16), tokens()
    middle = x + block.attention(block.attention_norm(x))
    torch.testing.assert_close(block(x), middle + block.feed_forward(block.feed_forward_norm(middle)))


def test_the_convolution_reads_the_normed_tokens_and_is_added_to_them() -> None:
    block, x = Block(D, 2, 16, conv_taps=2), tokens()
    normed = block.attention_norm(x)
    middle = x + block.attention(normed + block.convolution(normed), causal=True)
    expected = middle + block.feed_forward(block.feed_forward_norm(middle))
    torch.testing.assert_close(block(x, causal=True), expected)
