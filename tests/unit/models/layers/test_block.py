"""The residual block."""

import itertools

import pytest
import torch
from torch import Tensor

from finscale.models.layers.block import Block, BlockStack, BlockState

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


def test_post_norm_norms_every_sum() -> None:
    block, x = Block(D, 2, 16, conv_taps=2, norm_first=False, norm="rms_norm"), tokens()
    middle = block.attention_norm(x + block.attention(x + block.convolution(x)))
    torch.testing.assert_close(block(x), block.feed_forward_norm(middle + block.feed_forward(middle)))


def test_a_stack_is_one_block_after_the_other() -> None:
    stack, x = BlockStack(Block(D, 2, 16) for _ in range(3)), tokens()
    expected = stack[2](stack[1](stack[0](x, causal=True), causal=True), causal=True)
    assert torch.equal(stack(x, causal=True), expected)
    assert next(iter(stack.state_dict())) == "0.attention_norm.weight"


@pytest.mark.parametrize(
    ("norm", "dropout"), list(itertools.product(["layer_norm", "batch_norm"], [0.0, 0.3]))
)
def test_checkpointing_changes_no_number(norm: str, dropout: float) -> None:
    found = []
    for checkpoint in (False, True):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            blocks = [Block(D, 2, 16, norm=norm, dropout=dropout, conv_taps=3) for _ in range(3)]
            stack, x = BlockStack(blocks, checkpoint=checkpoint), tokens().requires_grad_()
            out = stack(x, causal=True, window_size=4)
            out.square().sum().backward()
        gradients = [parameter.grad for parameter in stack.parameters()]
        found.append([out, x.grad, *gradients, *stack.buffers()])
    assert all(torch.equal(plain, again) for plain, again in zip(*found, strict=True))


def test_checkpointing_keeps_less_for_the_gradient() -> None:
    stack, x = BlockStack(Block(D, 2, 64) for _ in range(4)), tokens().requires_grad_()
    kept = {}
    for stack.checkpoint in (False, True):
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda saved, sizes=sizes: sizes.append(saved.numel()) or saved, lambda saved: saved
        ):
            stack(x)
        kept[stack.checkpoint] = sum(sizes)
    assert kept[True] < kept[False] / 4


def test_a_state_counts_the_tokens_that_it_no_longer_holds() -> None:
    block, state = Block(D, 2, 16), BlockState()
    assert state.n_bytes == 0
    for _ in range(3):
        _, state = block.resume(tokens(), state, window_size=2)
    assert state.n_seen == 3 * T
    assert state.attention.keys.shape[2] == 1
