"""The causal decoder: what a position may see, and which of its options say where a symbol stands."""

import hashlib

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


def test_the_default_decoder_has_stayed_what_it_was() -> None:
    model = build_model(TransformerConfig.read(SHAPE), n_features=0, context_length=12, seed=7).eval()
    weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    digest = hashlib.sha256(weights.numpy().tobytes()).hexdigest()
    assert digest.startswith("56d202387799b63f")
    said = logits(model, torch.arange(12)[None] * 5 % 11)[0, [0, 5, 11], 3]
    expected = torch.tensor([-0.462077796459198, -0.2528592646121979, 1.0040282011032104])
    torch.testing.assert_close(said, expected, rtol=0, atol=1e-5)


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
    model, tokens = decoder("none"), symbols()
    with pytest.raises(Fault, match=r"batch must hold symbols only for this transformer, got \['values'\]"):
        model(Batch(tokens=tokens, values=torch.zeros(3, 12, 2)))
    with pytest.raises(Fault, match=r"batch\.tokens must be given"):
        model(Batch())
    with pytest.raises(Fault, match=r"state must have 2 layers, got 0; begin with start\(\)"):
        model(Batch(tokens=tokens), State(layers=()))
    with pytest.raises(Fault, match=r"batch\.calendar must be left out"):
        model(Batch(tokens=tokens, calendar=torch.zeros(3, 12, 4, dtype=torch.int64)))


def bars(**fields: object) -> torch.nn.Module:
    shape = {name: size for name, size in SHAPE.items() if name != "vocab_size"}
    config = TransformerConfig.read({**shape, **fields})
    return build_model(config, n_features=3, context_length=12, seed=7).eval()


def test_a_model_of_bars_asks_for_the_columns_it_was_built_for() -> None:
    model = bars(categories=(5,), feature_embedding_dims=(4,))
    values, codes = torch.randn(2, 12, 3), torch.zeros(2, 12, 1, dtype=torch.int64)
    assert model(Batch(values=values, categories=codes)).prediction["logits"].shape == (2, 1)
    with pytest.raises(Fault, match=r"batch\.values must have 3 columns, got 2"):
        model(Batch(values=values[:, :, :2], categories=codes))
    with pytest.raises(Fault, match=r"batch\.categories must have 1 columns, got 0"):
        model(Batch(values=values))
    with pytest.raises(Fault, match=r"hold bars only for this transformer, got \['tokens'\]"):
        model(Batch(values=values, categories=codes, tokens=symbols(2)))


def test_columns_of_a_bar_lie_side_by_side_before_they_are_joined() -> None:
    model = bars(
        **{"categories": (5, 2), "feature_embedding_dims": (4, 1)},
        **{"initial_embedding_dim": 8, "joint_embedding_dim": 16},
    )
    values = torch.randn(2, 12, 3)
    codes = torch.stack([torch.randint(5, (2, 12)), torch.randint(2, (2, 12))], dim=2)
    layer = model.embedding
    parts = [layer.categories[k].weight[codes[:, :, k]] for k in range(2)]
    joined = torch.cat([*parts, values @ layer.real.weight.T + layer.real.bias], dim=2)
    assert joined.shape[2] == 8
    expected = joined @ layer.joint.weight.T + layer.joint.bias
    torch.testing.assert_close(layer(values, codes), expected)


def test_columns_without_room_or_room_without_columns_are_refused() -> None:
    with pytest.raises(Fault, match="got n_features=3, width left for them 0"):
        bars(categories=(5,), feature_embedding_dims=(16,))
    config = bars().config
    with pytest.raises(Fault, match="got n_features=0, width left for them 16"):
        build_model(config, n_features=0, context_length=12, seed=0)


def test_padding_may_hold_anything_even_what_is_no_number() -> None:
    model = bars(categories=(5,), feature_embedding_dims=(4,))
    values, codes = torch.randn(2, 12, 3), torch.zeros(2, 12, 1, dtype=torch.int64)
    mask = (torch.arange(12) >= 4).expand(2, 12)
    said = model(Batch(values=values, categories=codes, mask=mask))
    values[:, :4], codes[:, :4] = torch.nan, 99
    again = model(Batch(values=values, categories=codes, mask=mask))
    assert torch.equal(said.prediction["logits"], again.prediction["logits"])


@pytest.mark.parametrize("padded", [False, True])
def test_a_prediction_length_keeps_the_last_of_all_predictions(padded: bool) -> None:
    tokens = symbols()
    mask = torch.arange(12).expand(3, 12) < torch.tensor([12, 9, 7])[:, None] if padded else None
    whole = TransformerConfig.read(SHAPE)
    few = TransformerConfig.read({**SHAPE, "prediction_length": 4})
    said = {
        config.prediction_length: logits(
            build_model(config, n_features=0, context_length=12, seed=7).eval(), tokens, mask=mask
        )
        for config in (whole, few)
    }
    ends = [12, 9, 7] if padded else [12] * 3
    expected = torch.stack([said[None][row, end - 4 : end] for row, end in enumerate(ends)])
    assert torch.equal(said[4], expected)


def test_the_steps_of_a_forecast_are_read_from_the_last_tokens_by_one_map() -> None:
    model = bars(head={"kind": "forecast", "horizon": 4, "n_channels": 2}, prediction_length=4)
    seen: list[torch.Tensor] = []
    model.final_norm.register_forward_hook(lambda _, __, out: seen.append(out))
    forecast = model(Batch(values=torch.randn(2, 12, 3))).prediction["forecast"]
    expected = seen[0][:, -4:] @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(forecast, expected)
    assert model.head.weight.shape == (2, 16)


def test_rope_base_reaches_the_rotation() -> None:
    tokens, read = symbols(), {}
    for name, fields in {
        "short": {"rope_base": 50.0},
        "same": {"positions": {"kind": "rope", "base": 50.0}},
        "default": {},
    }.items():
        config = TransformerConfig.read({**SHAPE, **fields})
        read[name] = logits(build_model(config, n_features=0, context_length=12, seed=7).eval(), tokens)
    assert torch.equal(read["short"], read["same"])
    assert not torch.allclose(read["short"], read["default"])


@pytest.mark.parametrize(("back", "sees"), [(4, True), (5, False), (9, False)])
def test_one_layer_with_a_window_sees_the_last_symbols_alone(back: int, sees: bool) -> None:
    config = TransformerConfig.read({**SHAPE, "n_layers": 1, "conv_taps": 0, "window_size": 5})
    model = build_model(config, n_features=0, context_length=12, seed=7).double().eval()
    tokens = symbols()
    other = tokens.clone()
    other[:, 11 - back] = (other[:, 11 - back] + 1) % 11
    changed = (logits(model, tokens) - logits(model, other))[:, 11].abs().amax() > 1e-9
    assert changed == sees


FAULTS = {
    "n_kv_heads must be left out unless attention=gqa, got 2": {"n_kv_heads": 2},
    "n_kv_heads must divide n_heads under attention=gqa, got n_kv_heads=3, n_heads=2": {
        "attention": "gqa",
        "n_kv_heads": 3,
    },
    "n_kv_heads must divide n_heads under attention=gqa, got n_kv_heads=None": {"attention": "gqa"},
    "window_size must be left out under causal=false, got 4": {
        **{"causal": False, "window_size": 4, "prediction_length": 1}
    },
    "prediction_length must be 1 for the next symbol under causal=false": {"causal": False},
    "prediction_length must be the horizon of a forecast head": {
        "prediction_length": 2,
        "head": {"kind": "logits"},
    },
    "categories must be left out over symbols": {"categories": (3,)},
    "feature_embedding_dims must have one width per column": {"vocab_size": None, "categories": (3,)},
    "feature_embedding_dims must fit into initial_embedding_dim": {
        **{"vocab_size": None, "categories": (3,), "feature_embedding_dims": (17,)}
    },
    "initial_embedding_dim must be d_model, the width of a token, got initial_embedding_dim=8, d_model=16": {
        "vocab_size": None,
        "initial_embedding_dim": 8,
    },
    "joint_embedding_dim must be d_model, the width of a token, got joint_embedding_dim=8": {
        "vocab_size": None,
        "joint_embedding_dim": 8,
    },
    "rope_base must be left out beside positions.base, got 5.0": {
        "positions": {"kind": "rope", "base": 7.0},
        "rope_base": 5.0,
    },
}


@pytest.mark.parametrize("message", FAULTS)
def test_options_that_contradict_each_other_are_refused_with_their_numbers(message: str) -> None:
    with pytest.raises(Fault, match=message.replace(".", r"\.")):
        TransformerConfig.read({**SHAPE, **FAULTS[message]})
