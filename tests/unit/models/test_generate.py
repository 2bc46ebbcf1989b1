"""Generation on the cache says what the whole sequence would have said."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from finscale.core.errors import Fault, FinscaleError
from finscale.models.config import PatchTSTConfig, TransformerConfig
from finscale.models.contract import Batch
from finscale.models.generate import generate
from finscale.models.head_config import ClassesHead, ForecastHead
from finscale.models.registry import build_model

V, B, T = 11, 3, 9
DYNAMIC = {"kind": "rope_dynamic", "factor": 2, "original_length": 8}


def decoder(**options: Any) -> nn.Module:
    chosen = {"vocab_size": V, "d_model": 16, "n_layers": 2, "n_heads": 4, "d_ff": 24, **options}
    config = TransformerConfig(**chosen)
    model = build_model(config, n_features=0, context_length=64, seed=5)
    with torch.no_grad():
        model.head.weight.mul_(4)  # far from uniform, so that draws can tell
    return model


def prompt(n: int = T) -> Tensor:
    return torch.randint(V, (B, n), generator=torch.Generator().manual_seed(2))


def whole_logits(model: nn.Module, tokens: Tensor) -> Tensor:
    """What one call over the whole sequence says of the symbol after it."""
    with torch.no_grad():
        said = model.eval()(Batch(tokens=tokens)).prediction
    return said["classes"] if "classes" in said else said["next_symbol"][:, -1]


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "window": {"window_size": 4},
    "window of one": {"window_size": 1, "conv_taps": 0},
    "gqa": {"attention": "gqa", "n_kv_heads": 2, "window_size": 6},
    "learned": {"positions": "learned"},
    "alibi": {"positions": "alibi"},
    "last symbols": {"prediction_length": 3},
    "classes": {"head": ClassesHead(n_classes=(V,))},
    "dropout": {"dropout": 0.5},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_the_likeliest_symbol_at_every_step_is_that_of_a_call_over_the_whole_sequence(
    options: dict[str, Any],
) -> None:
    model, tokens = decoder(**options).train(), prompt()
    new = generate(model, tokens, 20)
    assert new.shape == (B, 20)
    assert model.training
    for step in range(20):
        sequence = torch.cat((tokens, new[:, :step]), dim=1)
        assert torch.equal(whole_logits(model, sequence).argmax(dim=1), new[:, step])
    assert len({tuple(row) for row in new.tolist()}) > 1


def test_each_symbol_is_drawn_from_the_softmax_of_the_logits_over_the_temperature() -> None:
    model, tokens = decoder(), prompt()[:1].expand(40_000, T)
    for temperature in (0.5, 2.0):
        random = torch.Generator().manual_seed(1)
        drawn = generate(model, tokens, 1, temperature=temperature, generator=random)[:, 0]
        shares = torch.bincount(drawn, minlength=V) / len(drawn)
        expected = (whole_logits(model, tokens[:1])[0] / temperature).softmax(dim=0)
        assert expected.max() < 0.98
        torch.testing.assert_close(shares, expected, rtol=0, atol=0.012)


def test_only_the_k_likeliest_symbols_are_drawn_and_with_one_there_is_no_choice() -> None:
    model, tokens = decoder(), prompt()[:1].expand(5_000, T)
    logits = whole_logits(model, tokens[:1])[0]
    drawn = generate(model, tokens, 1, temperature=5.0, top_k=3, generator=torch.Generator().manual_seed(1))
    assert set(drawn[:, 0].tolist()) == set(logits.topk(3).indices.tolist())
    greedy = generate(model, prompt(), 6)
    assert torch.equal(generate(model, prompt(), 6, temperature=1.0, top_k=1), greedy)


def test_equal_generators_draw_equal_sequences_and_others_do_not() -> None:
    model = decoder()
    first, again, other = (
        generate(model, prompt(), 12, temperature=1.0, generator=torch.Generator().manual_seed(seed))
        for seed in (7, 7, 8)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_window_keeps_no_more_than_its_tokens_however_long_the_sequence_grows() -> None:
    model, kept = decoder(window_size=4), []

    def listen(module: nn.Module, inputs: Any, output: Any) -> None:
        kept.append(output.state.layers[0].attention.keys.shape[-2])

    model.register_forward_hook(listen)
    generate(model, prompt(), 30)
    assert len(kept) == 30
    assert max(kept) <= 4


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda: decoder(causal=False, prediction_length=1, conv_taps=0),
            "model must be a decoder, got 'causal=false'",
        ),
        (
            lambda: build_model(
                TransformerConfig(d_model=16, n_layers=1, n_heads=2, d_ff=8),
                n_features=3,
                context_length=8,
                seed=1,
            ),
            "model must be a transformer over symbols, got 'Transformer'",
        ),
        (
            lambda: build_model(
                PatchTSTConfig(d_model=16, n_layers=1, n_heads=2, d_ff=8, patch_length=4),
                n_features=3,
                context_length=8,
                seed=1,
            ),
            "model must be a transformer over symbols, got 'PatchTST'",
        ),
        (
            lambda: decoder(head=ForecastHead(horizon=2, n_channels=1)),
            "model.head must say the next symbol, got 'forecast'",
        ),
        (lambda: decoder(head=ClassesHead(n_classes=(V, V))), "model.head must say the next symbol"),
        (
            lambda: decoder(positions={"kind": "rope_dynamic", "factor": 2, "original_length": 8}),
            "under positions=rope_dynamic",
        ),
    ],
)
def test_a_model_that_cannot_go_on_is_refused(model: Any, message: str) -> None:
    with pytest.raises(Fault, match=message):
        generate(model(), torch.zeros(1, 4, dtype=torch.int64), 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_new": 0}, "n_new must be at least 1, got 0"),
        ({"temperature": -1.0}, "temperature must be 0"),
        ({"temperature": 1.0, "top_k": V + 1}, "top_k must be from 1 to vocab_size=11, got 12"),
        ({"top_k": 3}, "top_k must be left out at temperature=0"),
        ({"generator": torch.Generator()}, "generator must be left out at temperature=0"),
        ({"tokens": torch.full((1, 3), V)}, "tokens must be codes below vocab_size=11, got 11 to 11"),
        ({"tokens": torch.zeros(1, 0, dtype=torch.int64)}, r"tokens must be symbols \(B, T\)"),
    ],
)
def test_options_without_effect_and_foreign_symbols_are_refused(
    options: dict[str, Any], message: str
) -> None:
    asked = {"tokens": prompt(), "n_new": 2, **options}
    with pytest.raises(FinscaleError, match=message):
        generate(decoder(), **asked)
