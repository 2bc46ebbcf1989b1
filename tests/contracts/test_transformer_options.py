"""What the general sequence model promises under every option."""

import dataclasses
import itertools
import typing
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from finscale.core.errors import Fault
from finscale.models.contract import Batch, ModelOutput, State
from finscale.models.layers.attractor import Attractor
from finscale.models.layers.counts import transformer_flops, transformer_params
from finscale.models.position_config import POSITION_CONFIGS
from finscale.models.registry import build_meta_model, build_model
from finscale.models.transformer import Transformer
from finscale.models.transformer_config import TransformerConfig

B, T, F, V = 4, 24, 3, 11
SHAPE = {"d_model": 16, "n_layers": 2, "n_heads": 4, "d_ff": 24}
SIZES = {"context_length": T, "n_outputs": 2}
SCALED = {"factor": 2.0, "original_length": 8}
POSITIONS: dict[str, dict[str, Any]] = {
    **{kind: {} for kind in ("none", "learned", "sinusoidal", "rope", "alibi", "pi_spiral")},
    "rope_linear": {"factor": 2.0},
    "rope_ntk": {"factor": 2.0},
    "rope_dynamic": SCALED,
    "yarn": SCALED,
    "hybrid": {"K": 4, "width": 8},
    "calendar": {"session_bars": 12, "harmonics": 4},
    "time2vec": {"session_bars": 12, "harmonics": 4},
}
DECODERS: dict[str, dict[str, Any]] = {
    "default": {},
    "swiglu": {"activation": "swiglu"},
    "relu": {"activation": "relu"},
    "mqa": {"attention": "mqa"},
    "gqa": {"attention": "gqa", "n_kv_heads": 2},
    "rms_norm": {"norm": "rms_norm"},
    "post_norm": {"norm_first": False, "norm": "rms_norm"},
    "no_bias": {"bias": False},
    "no_convolution": {"conv_taps": 0},
    "window": {"window_size": 5},
    "window_of_one": {"window_size": 1},
    "llama": {
        **{"activation": "swiglu", "attention": "gqa", "n_kv_heads": 2, "norm": "rms_norm", "bias": False},
        **{"conv_taps": 0, "rope_base": 500.0, "window_size": 7},
    },
    "alibi_window": {"positions": "alibi", "window_size": 6, "attention": "mqa"},
    "distance_window": {
        "positions": {"kind": "hybrid", "K": 3, "width": 2, "gate": "distance"},
        **{"window_size": 9, "attention": "mqa"},
    },
    "sinks": {"window_size": 5, "n_sinks": 3},
    "alibi_sinks": {"positions": "alibi", "window_size": 4, "n_sinks": 2, "attention": "mqa"},
    "distance_sinks": {
        "positions": {"kind": "hybrid", "K": 3, "width": 2, "gate": "distance"},
        **{"window_size": 5, "n_sinks": 2},
    },
    "attractor": {"attractor": {"alpha": {"kind": "learned", "start": 0.9}}},
    "attractor_rotated": {
        "attractor": {
            **{"keys": {"kind": "content", "rotated": True}, "injection": "residual"},
            **{"alpha": {"kind": "exp_c_over_N", "N": 30}, "into": "custom", "layers": (1,)},
        },
        **{"window_size": 4, "n_sinks": 1},
    },
    "attractor_positions": {
        "attractor": {"keys": "position", "alpha": "fixed", "n_inject": 1},
        **{"window_size": 3, "bias": False},
    },
    "attractor_residual_positions": {
        "attractor": {"keys": "position", "alpha": "learned", "injection": "residual", "into": "all"}
    },
    "attractor_none": {"attractor": {"injection": "none"}},
    **{f"positions_{kind}": {"positions": {"kind": kind, **rest}} for kind, rest in POSITIONS.items()},
}
BARS: dict[str, dict[str, Any]] = {
    "real": {},
    "categorical": {"categories": (5, 3), "feature_embedding_dims": (10, 6)},
    "both": {"categories": (5, 3), "feature_embedding_dims": (4, 2)},
    "joint": {
        **{"categories": (5,), "feature_embedding_dims": (3,)},
        **{"initial_embedding_dim": 9, "joint_embedding_dim": 16},
    },
    "quantiles": {"head": {"kind": "quantiles", "horizons": (1, 3), "levels": (0.1, 0.5)}},
    "forecast": {"head": {"kind": "forecast", "horizon": 4, "n_channels": 2}},
    "steps": {"head": {"kind": "forecast", "horizon": 4, "n_channels": 2}, "prediction_length": 4},
    "regression": {"head": {"kind": "regression"}, "window_size": 5, "positions": "none"},
}
ENCODERS: dict[str, dict[str, Any]] = {
    "symbols": {"vocab_size": V, "prediction_length": 1},
    "classes": {"vocab_size": V, "head": {"kind": "logits"}},
    "bars": {"attention": "gqa", "n_kv_heads": 2, "norm_first": False},
    "alibi": {"positions": "alibi", "conv_taps": 0},
}
CONFIGS = {
    **{f"decoder-{name}": {"vocab_size": V, **fields} for name, fields in DECODERS.items()},
    **{f"bars-{name}": fields for name, fields in BARS.items()},
    **{f"encoder-{name}": {"causal": False, **fields} for name, fields in ENCODERS.items()},
}
READ = {name: TransformerConfig.read({**SHAPE, **fields}) for name, fields in CONFIGS.items()}
CAUSAL = {name: config for name, config in READ.items() if config.causal}
STREAMED = {name: config for name, config in CAUSAL.items() if config.positions.kind != "rope_dynamic"}


def every(configs: dict[str, TransformerConfig]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("config", configs.values(), ids=configs.keys())


def n_features(config: TransformerConfig) -> int:
    return F if config.real_embedding_dim else 0


def model_of(config: TransformerConfig, seed: int = 1) -> Transformer:
    sizes = SIZES if config.predicts_symbols or (config.head or config.window_head).kind == "logits" else {}
    options = {"n_features": n_features(config), **{**SIZES, "n_outputs": 1}, **sizes}
    model = build_model(config, **options, seed=seed).eval()
    assert isinstance(model, Transformer)
    woken(model)
    return model


def woken(model: Transformer) -> None:
    """Let attractors add something, as after the first step of a training."""
    generator = torch.Generator().manual_seed(9)
    for module in model.modules():
        if isinstance(module, Attractor):
            for parameter in module.output.parameters():
                torch.nn.init.normal_(parameter, std=0.3, generator=generator)


def windows(config: TransformerConfig, seed: int = 0, length: int = T) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    fields: dict[str, Tensor] = {}
    if config.vocab_size is not None:
        fields["tokens"] = torch.randint(config.vocab_size, (B, length), generator=generator)
    if n_features(config):
        fields["values"] = torch.randn(B, length, F, generator=generator)
    if config.categories:
        columns = [torch.randint(n, (B, length), generator=generator) for n in config.categories]
        fields["categories"] = torch.stack(columns, dim=2)
    if config.positions.kind in {"calendar", "time2vec"}:
        steps = torch.arange(length).expand(B, length)
        fields["calendar"] = torch.stack([steps % 12, steps % 7, 1 + steps % 31, 1 + steps], dim=2)
    return Batch(**fields)


def moved(config: TransformerConfig, batch: Batch, at: Tensor) -> Batch:
    """The batch with other content where ``at`` (T) is True."""
    other = windows(config, seed=5)
    changed = {}
    for name in ("tokens", "values", "categories"):
        old, new = getattr(batch, name), getattr(other, name)
        if old is not None and name == "tokens":
            new = (old + 1 + new % (V - 1)) % V
        if old is not None:
            changed[name] = torch.where(at.view(1, -1, *[1] * (old.ndim - 2)), new, old)
    return dataclasses.replace(batch, **changed)


def part(batch: Batch, rows: slice) -> Batch:
    fields = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return Batch(**{name: x[:, rows] for name, x in fields.items() if x is not None})


def tokens_of(model: Transformer, batch: Batch, state: State | None = None) -> tuple[Tensor, ModelOutput]:
    """What every token has become after the last norm."""
    seen: list[Tensor] = []
    hook = model.final_norm.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.no_grad():
        output = model(batch, state)
    hook.remove()
    return seen[0], output


def only(output: ModelOutput) -> Tensor:
    (prediction,) = output.prediction.values()
    return prediction


def numel(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_every_value_of_every_option_has_a_case() -> None:
    """Of options with a closed list of values: words, switches, and the kinds of positions."""
    for name, field in TransformerConfig.model_fields.items():
        found = {getattr(value, "kind", value) for value in (getattr(c, name) for c in READ.values())}
        if typing.get_origin(field.annotation) is typing.Literal:
            assert found == set(typing.get_args(field.annotation)), name
        if field.annotation is bool:
            assert found == {True, False}, name
    assert {config.positions.kind for config in READ.values()} == set(POSITION_CONFIGS)


@every(READ)
def test_every_group_of_parameters_is_counted(config: TransformerConfig) -> None:
    model = model_of(config)
    sizes = {"n_features": n_features(config), "context_length": T, "n_outputs": model_outputs(config)}
    counted = transformer_params(config, **sizes)
    assert counted.embedding == numel(model.embedding)
    assert counted.positions == numel(model.positions)
    assert counted.body == numel(model.blocks) + numel(model.final_norm)
    assert counted.head == numel(model.head)
    assert sum(counted) == numel(model)


def model_outputs(config: TransformerConfig) -> int:
    return 2 if config.predicts_symbols or config.window_head.kind == "logits" else 1


def test_the_count_equals_the_built_model_over_a_product_of_options() -> None:
    options = {
        "activation": ["gelu", "relu", "swiglu"],
        "attention": ["mha", "mqa", "gqa"],
        "norm": ["layer_norm", "rms_norm"],
        "norm_first": [True, False],
        "bias": [True, False],
        "conv_taps": [0, 3],
    }
    for chosen in itertools.product(*options.values()):
        fields = dict(zip(options, chosen, strict=True))
        grouped = {"n_kv_heads": 2} if fields["attention"] == "gqa" else {}
        config = TransformerConfig.read({**SHAPE, "vocab_size": V, **fields, **grouped})
        assert sum(transformer_params(config)) == numel(
            build_meta_model(config, n_features=0, context_length=T)
        )


@pytest.mark.parametrize(
    "name",
    [
        *("default", "swiglu", "mqa", "gqa", "window", "llama", "positions_calendar", "positions_alibi"),
        *("sinks", "alibi_sinks", "attractor", "attractor_rotated"),
    ],
)
@pytest.mark.parametrize("bars", [False, True])
def test_flops_agree_with_the_counter_of_torch(name: str, bars: bool) -> None:
    fields = {
        **DECODERS[name],
        "conv_taps": 0,
        "vocab_size": None if bars else V,
        "n_heads": 2,
        "d_model": 32,
    }
    config = TransformerConfig.read({**SHAPE, **fields})
    model = build_meta_model(config, n_features=F if bars else 0, context_length=T).train()
    meta = {"values": torch.zeros(B, T, F)} if bars else {"tokens": torch.zeros(B, T, dtype=torch.int64)}
    calendar = windows(config).calendar
    batch = Batch(
        **{key: x.to("meta") for key, x in meta.items()},
        calendar=None if calendar is None else calendar.to("meta"),
    )
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        prediction = only(model(batch))
        forward = counter.get_total_flops()
        prediction.sum().backward()
    ours = transformer_flops(config, n_features=F if bars else 0, context_length=T)
    assert ours[0] * B == pytest.approx(forward, rel=0.02)
    assert ours[1] * B == pytest.approx(counter.get_total_flops(), rel=0.02)


@every(READ)
def test_the_gradient_reaches_every_parameter(config: TransformerConfig) -> None:
    model = model_of(config)
    prediction = only(model(windows(config)))
    weights = torch.randn(prediction.shape, generator=torch.Generator().manual_seed(3))
    (prediction * weights).sum().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # with one key in sight its weight is 1 whatever queries and keys are; their share of the map is silent
    assert silent == []


@every(CAUSAL)
@pytest.mark.parametrize("at", [1, 10, T - 1])
def test_a_decoder_cannot_see_the_future(config: TransformerConfig, at: int) -> None:
    model, batch = model_of(config), windows(config)
    old, _ = tokens_of(model, batch)
    new, _ = tokens_of(model, moved(config, batch, torch.arange(T) >= at))
    torch.testing.assert_close(new[:, :at], old[:, :at], rtol=1e-5, atol=1e-5)
    assert ((new[:, at:] - old[:, at:]).abs().amax(dim=(0, 2)) > 1e-4).all()


@every({name: config for name, config in READ.items() if not config.causal})
def test_an_encoder_sees_all_of_the_window(config: TransformerConfig) -> None:
    model, batch = model_of(config), windows(config)
    old, _ = tokens_of(model, batch)
    new, _ = tokens_of(model, moved(config, batch, torch.arange(T) == T - 1))
    assert ((new - old).abs().amax(dim=(0, 2)) > 1e-5).all()


@every(READ)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_cannot_change_what_is_said_of_real_tokens(config: TransformerConfig, side: str) -> None:
    model = model_of(config)
    real = torch.arange(T) >= 7 if side == "left" else torch.arange(T) < T - 7
    batch = dataclasses.replace(windows(config), mask=real.expand(B, T))
    (old, said), (new, again) = (tokens_of(model, x) for x in (batch, moved(config, batch, ~real)))
    torch.testing.assert_close(new[:, real], old[:, real], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(again.embedding, said.embedding, rtol=1e-5, atol=1e-5)
    if not config.predicts_symbols:
        torch.testing.assert_close(only(again), only(said), rtol=1e-5, atol=1e-5)
    touched, _ = tokens_of(model, moved(config, batch, real))
    assert not torch.allclose(touched[:, real], old[:, real])
    assert old.isfinite().all()


@every(READ)
def test_the_order_of_a_batch_does_not_matter(config: TransformerConfig) -> None:
    model, batch, order = model_of(config), windows(config), torch.tensor([2, 0, 3, 1])
    fields = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    shuffled = Batch(**{name: x[order] for name, x in fields.items() if x is not None})
    with torch.no_grad():
        torch.testing.assert_close(only(model(shuffled)), only(model(batch))[order], rtol=1e-5, atol=1e-5)


@every(STREAMED)
@pytest.mark.parametrize("chunk", [1, 7, T])
@pytest.mark.parametrize("padded", [False, True])
def test_decoding_by_chunks_equals_the_full_forward(
    config: TransformerConfig, chunk: int, padded: bool
) -> None:
    model, batch = model_of(config), windows(config)
    if padded:
        batch = dataclasses.replace(batch, mask=(torch.arange(T) >= 5).expand(B, T))
    full, said = tokens_of(model, batch)
    state, parts = model.start(), []
    for first in range(0, T, chunk):
        out, output = tokens_of(model, part(batch, slice(first, first + chunk)), state)
        assert output.state is not None
        state = output.state
        parts.append(out)
    real = slice(5 if padded else 0, None)
    torch.testing.assert_close(torch.cat(parts, dim=1)[:, real], full[:, real], rtol=0, atol=1e-5)
    torch.testing.assert_close(output.embedding, said.embedding, rtol=0, atol=1e-5)


@every(STREAMED)
@pytest.mark.parametrize("padded", [False, True])
def test_a_state_holds_what_the_next_token_can_see_and_not_a_byte_more(
    config: TransformerConfig, padded: bool
) -> None:
    model, n_seen = model_of(config), 0
    state = model.start()
    a_token = 2 * 4 * config.kv_heads * 4 * B + 8 + B * padded
    tail = max(config.conv_taps - 1, 0) * 16 * 4 * B
    for length in (3, 12, 1, 8):
        batch, n_seen = windows(config, length=length), n_seen + length
        mask = torch.ones(B, length, dtype=torch.bool) if padded else None
        with torch.no_grad():
            state = model(dataclasses.replace(batch, mask=mask), state).state
        seen = config.n_sinks + (config.window_size or n_seen + 1) - 1
        cache = min(seen, n_seen) * a_token + tail
        held = 0 if config.attractor is None else 4 * B * 4 * 4 * config.attractor.key_width(4)
        expected = [cache + held * (layer in config.injected_layers) for layer in range(config.n_layers)]
        assert [layer.n_bytes for layer in state.layers] == expected
        assert [layer.n_seen for layer in state.layers] == [n_seen] * config.n_layers


def test_a_state_that_cannot_be_carried_is_refused() -> None:
    model = model_of(READ["encoder-bars"])
    with pytest.raises(Fault, match="state must be left out under causal=false"):
        model(windows(READ["encoder-bars"]), State(layers=()))
    with pytest.raises(Fault, match="state must be left out under positions=rope_dynamic"):
        model_of(READ["decoder-positions_rope_dynamic"]).start()
