"""The causal decoder: what a position may see, and which of its options say where a symbol stands."""

import pytest
import torch

from finscale.core.errors import Fault
from finscale.models.config import TransformerConfig
from finscale.models.contract import Batch, State
from finscale.models.registry import build_model

SHAPE = {"vocab_size": 11, "d_model": 16, "n_layers": 2, "n_heads": 2, "d_ff": 32}


def decoder(positions: str, *, conv_taps: int = 3) -> torch.nn.Module:
    config = TransformerConfig.read({**SHAPE, "positions": positions, "conv_taps": conv_taps})
    return build_model(config, n_features=0, context_length=12, seed=7).double().eval()


def symbols(n: int = 3, length: int = 12) -> torch.Tensor:
    return torch.randint(11, (n, length), generator=torch.Generator().manual_seed(1))


def logits(model: torch.nn.Module, tokens: torch.Tensor, **fields: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(Batch(tokens=tokens, **fields)).prediction["next_symbol"]


@pytest.mark.parametrize("positions", ["none", "rope"])
@pytest.mark.parametrize("changed", [0, 5, 11])
def test_a_symbol_changes_its_own_and_later_predictions_only(positions: str, changed: int) -> None:
    model, tokens = decoder(positions), symbols()
    other = tokens.clone()
    other[:, changed] = (other[:, changed] + 1) % 11
    before, after = logits(model, tokens), logits(model, other)
    assert torch.equal(before[:, :changed], after[:, :changed])
    assert (before[:, changed:] - after[:, changed:]).abs().amax(dim=(0, 2)).min() > 1e-6


@pytest.mark.parametrize("positions", ["none", "rope"])
def test_every_position_may_begin_anywhere_because_only_distances_count(positions: str) -> None:
    model, tokens = decoder(positions), symbols()
    moved = logits(model, tokens, positions=torch.arange(500, 512))
    torch.testing.assert_close(moved, logits(model, tokens), atol=1e-5, rtol=0)


def test_stretched_positions_change_rope_and_leave_none_alone() -> None:
    tokens, stretched = symbols(), 3 * torch.arange(12)
    rope, none = decoder("rope"), decoder("none")
    assert (logits(rope, tokens, positions=stretched) - logits(rope, tokens)).abs().max() > 1e-3
    assert torch.equal(logits(none, tokens, positions=stretched), logits(none, tokens))


def test_only_rope_sees_the_order_of_a_distant_past() -> None:
    """One layer and no convolution: without positions the past of the last symbol is a bag."""
    tokens = symbols()
    swapped = tokens.clone()
    swapped[:, [0, 1]] = tokens[:, [1, 0]]
    swapped = swapped[(tokens[:, 0] != tokens[:, 1])]
    tokens = tokens[(tokens[:, 0] != tokens[:, 1])]
    shape = {**SHAPE, "n_layers": 1, "conv_taps": 0}
    last = {}
    for positions in ("none", "rope"):
        config = TransformerConfig.read({**shape, "positions": positions})
        model = build_model(config, n_features=0, context_length=12, seed=7).double().eval()
        last[positions] = (logits(model, tokens) - logits(model, swapped))[:, -1].abs().max().item()
    assert len(tokens) > 0
    assert last["none"] < 1e-12
    assert last["rope"] > 1e-4


@pytest.mark.parametrize("positions", ["none", "rope"])
@pytest.mark.parametrize("side", ["leading", "trailing"])
def test_padding_on_either_side_leaves_real_symbols_as_they_were(positions: str, side: str) -> None:
    model, tokens, padding = decoder(positions), symbols(), symbols(length=4)
    real = torch.ones_like(tokens, dtype=torch.bool)
    fake = ~real[:, :4]
    order = slice(None) if side == "leading" else slice(None, None, -1)
    row, mask = torch.cat([padding, tokens][order], dim=1), torch.cat([fake, real][order], dim=1)
    with torch.no_grad():
        padded, plain = model(Batch(tokens=row, mask=mask)), model(Batch(tokens=tokens))
    at = slice(4, None) if side == "leading" else slice(0, 12)
    shown = padded.prediction["next_symbol"][:, at]
    torch.testing.assert_close(shown, plain.prediction["next_symbol"], atol=1e-6, rtol=0)
    torch.testing.assert_close(padded.embedding, plain.embedding, atol=1e-6, rtol=0)


def test_what_the_decoder_cannot_use_is_refused() -> None:
    model = decoder("none")
    with pytest.raises(Fault, match=r"batch must hold symbols only for transformer, got \['state'\]"):
        model(Batch(tokens=symbols()), State(layers=()))
    with pytest.raises(Fault, match=r"batch\.tokens must be given"):
        model(Batch())
