"""A decoder with an attractor: it starts as the plain one, learns, and reads on in constant memory."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from finscale.core.errors import FinscaleError
from finscale.models.attractor_config import AttractorConfig
from finscale.models.config import TransformerConfig
from finscale.models.contract import Batch
from finscale.models.counting import arch_id, count_params, flops
from finscale.models.generate import generate
from finscale.models.layers.attractor import Attractor
from finscale.models.registry import build_meta_model, build_model
from finscale.models.transformer import Transformer

V = 11
SHAPE = {"vocab_size": V, "d_model": 16, "n_layers": 3, "n_heads": 2, "d_ff": 32, "window_size": 6}
ATTRACTORS: dict[str, dict[str, Any]] = {
    "content": {},
    "content-residual-all": {"injection": "residual", "into": "all", "alpha": "fixed"},
    "rotated-custom": {
        **{"keys": {"kind": "content", "rotated": True}, "into": "custom", "layers": [2, 0]},
        "alpha": {"kind": "exp_c_over_N", "N": 100},
    },
    "position": {"keys": "position", "n_inject": 1},
    "position-residual": {
        **{"keys": {"kind": "position", "constant": "prng"}, "injection": "residual"},
        "alpha": {"kind": "exp_c_over_N", "N": 100},
    },
    "none": {"injection": "none"},
}
every_attractor = pytest.mark.parametrize("attractor", ATTRACTORS.values(), ids=ATTRACTORS.keys())


def config(attractor: dict[str, Any] | None, **fields: Any) -> TransformerConfig:
    return TransformerConfig.read({**SHAPE, "attractor": attractor, **fields})


def decoder(attractor: dict[str, Any] | None, *, woken: bool = True, **fields: Any) -> Transformer:
    model = build_model(config(attractor, **fields), n_features=0, context_length=0, seed=7).eval()
    assert isinstance(model, Transformer)
    for module in model.modules():
        if woken and isinstance(module, Attractor):
            torch.nn.init.normal_(module.output.weight, generator=torch.Generator().manual_seed(1))
    return model


def symbols(length: int = 90, n: int = 2) -> Tensor:
    return torch.randint(V, (n, length), generator=torch.Generator().manual_seed(2))


def logits(model: Transformer, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        return model(Batch(tokens=tokens)).prediction["next_symbol"]


def train_one_step(model: Transformer) -> None:
    loss = model(Batch(tokens=symbols())).prediction["next_symbol"].square().mean()
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.1 * parameter.grad
            parameter.grad = None


@every_attractor
@pytest.mark.parametrize("norm_first", [True, False])
def test_a_decoder_with_an_attractor_starts_bit_equal_to_the_plain_one(
    attractor: dict[str, Any], norm_first: bool
) -> None:
    with_one, plain = (decoder(a, woken=False, norm_first=norm_first) for a in (attractor, None))
    assert torch.equal(logits(with_one, symbols()), logits(plain, symbols()))
    whole = with_one.state_dict()
    assert all(torch.equal(whole[name], weights) for name, weights in plain.state_dict().items())


@every_attractor
def test_after_one_step_the_gradient_reaches_every_parameter(attractor: dict[str, Any]) -> None:
    model = decoder(attractor, woken=False)
    train_one_step(model)
    (model(Batch(tokens=symbols())).prediction["next_symbol"].sin().mean()).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_a_learned_alpha_learns_how_long_to_remember() -> None:
    """A symbol 40 steps back is asked for; heads begin by forgetting within ten."""
    attractor = {"into": "all", "alpha": {"kind": "learned", "start": 0.9}}
    model = decoder(attractor, woken=False, conv_taps=0, n_layers=1, window_size=1).train()
    before = next(m for m in model.modules() if isinstance(m, Attractor)).log_alpha().detach()
    optimizer, generator = torch.optim.AdamW(model.parameters(), 1e-2), torch.Generator().manual_seed(0)
    for _ in range(60):
        tokens = torch.cat((torch.randint(1, V, (64, 1), generator=generator), torch.zeros(64, 40)), dim=1)
        said = model(Batch(tokens=tokens.long())).prediction["next_symbol"][:, -1]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(said, tokens[:, 0].long()).backward()
        optimizer.step()
    after = next(m for m in model.modules() if isinstance(m, Attractor)).log_alpha()
    assert (after > 0.9 * before).any()


@every_attractor
def test_chunks_of_any_size_equal_the_whole(attractor: dict[str, Any]) -> None:
    model, tokens = decoder(attractor, n_sinks=2).double(), symbols()
    whole = logits(model, tokens)
    for chunk in (1, 7, 64):
        state, parts = model.start(), []
        for part in tokens.split(chunk, dim=1):
            with torch.no_grad():
                output = model(Batch(tokens=part), state)
            state = output.state
            parts.append(output.prediction["next_symbol"])
        torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-12)


@every_attractor
def test_a_symbol_beyond_the_window_is_seen_through_the_attractor_alone(attractor: dict[str, Any]) -> None:
    tokens = symbols()
    other = tokens.clone()
    other[:, 3] = (other[:, 3] + 1) % V
    shape = {"conv_taps": 0, "window_size": 2}
    model = decoder(attractor, **shape)
    moved = (logits(model, tokens) - logits(model, other)).abs().amax(dim=(0, 2))
    assert moved[:3].max() == 0
    assert (moved[20:].max() > 1e-6) == (attractor.get("injection") != "none")


@every_attractor
def test_the_state_of_a_thousand_symbols_is_as_large_as_that_of_many_more(attractor: dict[str, Any]) -> None:
    model, state, seen = decoder(attractor, n_sinks=2), None, []
    state = model.start()
    for n in (7, 1017, 1, 3000):
        with torch.no_grad():
            state = model(Batch(tokens=symbols(n, 1)), state).state
        seen.append(state.n_bytes)
    assert len(set(seen[1:])) == 1
    keys = AttractorConfig.read(attractor)
    held = 4 * 2 * keys.key_width(8) * 8 * len(keys.injected(3))
    # keys, values and step of 5 + 2 tokens, the convolution's two, and the attractor's own
    assert seen[-1] == 3 * (7 * (2 * 16 * 4 + 8) + 2 * 16 * 4) + held


@every_attractor
def test_generation_on_the_state_says_what_the_whole_sequence_says(attractor: dict[str, Any]) -> None:
    model, tokens = decoder(attractor), symbols(30)
    new = generate(model, tokens, 12)
    for step in range(12):
        whole = logits(model, torch.cat((tokens, new[:, :step]), dim=1))
        assert torch.equal(whole[:, -1].argmax(dim=1), new[:, step])


@every_attractor
@pytest.mark.parametrize("context_length", [24, 64, 100])
@pytest.mark.parametrize("alpha", ["learned", "fixed"])
def test_parameters_and_operations_are_counted_exactly(
    attractor: dict[str, Any], context_length: int, alpha: str
) -> None:
    assert_counted(config({**attractor, "alpha": alpha}, conv_taps=0, n_sinks=3), context_length)


def test_operations_of_several_bands_with_sinks_are_counted_exactly() -> None:
    assert_counted(config(None, conv_taps=0, n_sinks=3, n_layers=1), 600)


def assert_counted(chosen: TransformerConfig, context_length: int) -> None:
    sizes = {"n_features": 0, "context_length": context_length}
    model = build_meta_model(chosen, **sizes).train()
    assert count_params(chosen, **sizes).total == sum(p.numel() for p in model.parameters())
    tokens = torch.zeros(2, context_length, dtype=torch.int64, device="meta")
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        said = model(Batch(tokens=tokens)).prediction["next_symbol"]
        forward = counter.get_total_flops()
        said.sum().backward()
    counted = flops(chosen, **sizes)
    assert (2 * counted.forward, 2 * counted.training) == (forward, counter.get_total_flops())


def test_an_architecture_without_attractor_and_sinks_has_the_identity_it_had() -> None:
    plain = TransformerConfig.read({name: x for name, x in SHAPE.items() if name != "window_size"})
    off = TransformerConfig.read({**plain.model_dump(), "attractor": None, "n_sinks": 0})
    ids = {arch_id(c, n_features=0, context_length=12) for c in (plain, off)}
    assert ids == {"4a6273837a63"}
    assert arch_id(config({}), n_features=0, context_length=12) not in ids


@pytest.mark.parametrize(
    ("into", "n_layers", "layers"),
    [
        ({}, 6, (2, 3, 4, 5)),
        ({}, 3, (0, 1, 2)),
        ({"n_inject": 1}, 3, (2,)),
        ({"into": "all"}, 3, (0, 1, 2)),
        ({"into": "custom", "layers": "2 0"}, 3, (0, 2)),
        ({"injection": "none"}, 3, ()),
    ],
)
def test_the_layers_that_have_an_attractor_are_those_named(
    into: dict[str, Any], n_layers: int, layers: tuple[int, ...]
) -> None:
    model = decoder(into, n_layers=n_layers)
    assert tuple(i for i, block in enumerate(model.blocks) if block.attractor is not None) == layers


FAULTS: dict[str, dict[str, Any]] = {
    "attractor must be left out under causal=false": {
        **{"attractor": {}, "causal": False, "prediction_length": 1, "window_size": None}
    },
    "attractor.layers must lie below n_layers=3, got [3]": {
        "attractor": {"into": "custom", "layers": (1, 3)}
    },
    "layers must name layers, each once, under into=custom, got 'none'": {"attractor": {"into": "custom"}},
    "layers must be left out unless into=custom": {"attractor": {"into": "all", "layers": (1,)}},
    "n_inject must be left out unless into=last_N, got 2": {"attractor": {"into": "all", "n_inject": 2}},
    "attractor.keys.rotated must be left out unless positions turn pairs, got 'positions=alibi'": {
        **{"attractor": {"keys": {"kind": "content", "rotated": True}}, "positions": "alibi"}
    },
    "alpha.exp_c_over_N.N must be given": {"attractor": {"alpha": "exp_c_over_N"}},
    "must be less than 1": {"attractor": {"alpha": {"kind": "learned", "start": 1.0}}},
    "n_sinks must be left out without window_size": {"n_sinks": 2, "window_size": None},
    "attractor.horizon must be a known key": {"attractor": {"horizon": 3}},
}


@pytest.mark.parametrize("message", FAULTS)
def test_options_that_would_have_no_effect_are_refused(message: str) -> None:
    with pytest.raises(FinscaleError) as caught:
        TransformerConfig.read({**SHAPE, **FAULTS[message]})
    assert message in str(caught.value)
