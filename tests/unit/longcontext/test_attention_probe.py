"""Attention weights are those that attention used, and the rows say how much of them the needle got."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from finscale.longcontext import attention_probe
from finscale.longcontext.attention_probe import (
    N_PARTS,
    attention_rows,
    attention_table,
    last_weights,
    probed_lengths,
)
from finscale.longcontext.config import LongContextConfig
from finscale.longcontext.evaluate import evaluation_samples
from finscale.longcontext.train import build_decoder, train_decoder
from finscale.models.contract import Batch
from finscale.models.layers.attention import Attention, Place
from finscale.models.layers.positions import build_positions
from finscale.models.position_config import parse_position_config

D, HEADS, T = 32, 4, 24
KINDS: dict[str, dict[str, Any]] = {
    "none": {"kind": "none"},
    "rope": {"kind": "rope"},
    "rope_linear": {"kind": "rope_linear", "factor": 16},
    "rope_ntk": {"kind": "rope_ntk", "factor": 16},
    "yarn": {"kind": "yarn", "factor": 16, "original_length": 8},
    "alibi": {"kind": "alibi"},
    "prng": {"kind": "pi_spiral", "constant": "prng"},
    "pi_spiral": {"kind": "pi_spiral", "constants": "per_pair"},
    "hybrid": {"kind": "hybrid", "K": 8, "width": 4},
    "hybrid by distance": {"kind": "hybrid", "K": 8, "width": 4, "gate": "distance"},
}
VIEWS = [(None, 0), (6, 0), (6, 2), (40, 0)]
LOOKS = [(None, 0), (8, 0), (8, 2)]


def placed(kind: str, x: Tensor) -> Place:
    widths = {"d_model": D, "d_head": D // HEADS, "n_heads": HEADS, "max_length": T}
    return Place.of(build_positions(parse_position_config(KINDS[kind]), **widths), None, like=x)


@pytest.mark.parametrize(("window_size", "n_sinks"), VIEWS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_kv_heads", [HEADS, 2])
def test_weights_times_values_are_what_the_layer_says_at_the_last_token(
    kind: str, window_size: int | None, n_sinks: int, n_kv_heads: int
) -> None:
    torch.manual_seed(5)
    attention, x = Attention(D, HEADS, n_kv_heads=n_kv_heads), 3 * torch.randn(2, T, D)
    seen: dict[str, Any] = {"window_size": window_size, "n_sinks": n_sinks, "place": placed(kind, x)}
    with torch.no_grad():
        said = attention(x, causal=True, **seen)[:, -1]
        weights = last_weights(attention, x, **seen)
        values = attention.heads(attention.query_key_value(x), None)[2]
        mixed = weights[:, :, None] @ values.repeat_interleave(HEADS // n_kv_heads, dim=1)
    torch.testing.assert_close(attention.output(mixed[:, :, 0].flatten(1)), said, atol=1e-5, rtol=0)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, HEADS))
    if window_size == 6:
        assert (weights[:, :, n_sinks : T - window_size] == 0).all()
        assert (weights[:, :, :n_sinks] > 0).all()


def test_every_position_of_a_prefix_gets_the_softmax_of_its_scaled_product() -> None:
    torch.manual_seed(5)
    attention, x = Attention(D, HEADS), torch.randn(1, T, D)
    queries, keys, _ = attention.heads(attention.query_key_value(x), None)
    scores = (queries[:, :, -1:] * keys).sum(dim=-1) / math.sqrt(D // HEADS)
    found = last_weights(attention, x, window_size=None, n_sinks=0, place=placed("none", x))
    torch.testing.assert_close(found, scores.softmax(dim=-1))


class Planted(nn.Module):
    """Carries one attention layer, and remembers the tokens that it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.shown = Attention(3, 3), torch.zeros(0)

    def forward(self, batch: Batch) -> None:
        self.shown = batch.tokens
        x = torch.zeros(*batch.tokens.shape, 3)
        self.attention(x, causal=True, window_size=None, n_sinks=0, place=placed("none", x))


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Planted:
    """A decoder whose heads look at the value last written under the key, at the first of that key, at it."""
    model = Planted()

    def looks(attention: Attention, x_BTD: Tensor, **seen: Any) -> Tensor:
        weights = torch.zeros(len(x_BTD), 3, x_BTD.shape[1])
        for row, tokens in zip(weights, model.shown.tolist(), strict=True):
            written = [i for i in range(0, len(tokens) - 1, 2) if tokens[i] == tokens[-1]]
            row[0, written[-1] + 1] = row[1, written[0]] = row[2, -1] = 1
        return weights

    monkeypatch.setattr(attention_probe, "last_weights", looks)
    return model


def test_a_head_on_the_last_write_has_all_weight_at_the_needle(
    planted: Planted, smoke: LongContextConfig
) -> None:
    table = attention_table(list(attention_rows(planted, smoke, mode="rope", seed=0)))
    assert set(table["n"]) == {4}
    last, first, itself = (table[table["head"] == head] for head in range(3))
    assert (last[["weight", "earlier", "stderr"]] == [1, 0, 0]).all(axis=None)
    needle = first["task"] == "needle"
    assert (first.loc[needle, "weight"] == 1).all()
    assert (first.loc[~needle, ["weight", "earlier"]] == [0, 1]).all(axis=None)
    assert (itself["weight"] == 0).all()
    assert all(profile[-1] == 1 and len(profile) == N_PARTS + 1 for profile in itself["profile"])
    for row in last.itertuples():
        assert abs(row.profile.index(1.0) / N_PARTS - row.depth) < 0.11


def test_the_probe_asks_what_the_evaluation_asks_and_never_shows_the_answer(
    planted: Planted, smoke: LongContextConfig
) -> None:
    list(attention_rows(planted, smoke, mode="rope", seed=3))
    task, length, depth = [place for place in smoke.evaluation.places() if place[2] is not None][-1]
    asked = evaluation_samples(smoke, task=task, length=length, depth=depth, seed=3)
    np.testing.assert_array_equal(planted.shown.numpy(), asked.tokens[: len(planted.shown), :-1])


@pytest.mark.parametrize(("window_size", "n_sinks"), LOOKS)
def test_a_trained_decoder_looks_at_what_it_finds_and_is_left_as_it_was(
    blocks: dict[str, Any], window_size: int | None, n_sinks: int
) -> None:
    view = {"window_size": window_size, "n_sinks": n_sinks}
    settings = blocks["cpu_smoke"] | {"variants": {"none": {"positions": "none"} | view}, "read_as": {}}
    n_steps = 60 if window_size is None else 2
    config = LongContextConfig.read(settings | {"training": settings["training"] | {"n_steps": n_steps}})
    model = train_decoder(config, mode="none", seed=0).model
    table = attention_table(list(attention_rows(model, config, mode="none", seed=0)))
    assert len(table) == 2 * 2 * 2 * 2 * 2
    np.testing.assert_allclose([sum(profile) for profile in table["profile"]], 1, rtol=1e-5)
    assert not any(layer._forward_pre_hooks for layer in model.modules())
    if window_size is None:
        needle = table[table["task"] == "needle"]
        assert needle.groupby(["layer", "head"])["weight"].mean().max() > 0.4
    else:
        outside = table[(table["depth"] == 0.2) & (table["task"] == "needle")]
        assert (outside["weight"] == 0).all()


def test_hooks_go_even_when_the_model_fails(
    smoke: LongContextConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_decoder(smoke, mode="rope", seed=0).eval()
    monkeypatch.setattr(attention_probe, "last_weights", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(attention_rows(model, smoke, mode="rope", seed=0))
    assert not any(layer._forward_pre_hooks for layer in model.modules())


def test_lengths_are_the_longest_within_training_and_the_longest_of_all(demo: LongContextConfig) -> None:
    assert probed_lengths(demo, "needle") == (256, 4096)
    assert probed_lengths(demo, "far") == (256, 2048)
    shorter = demo.evaluation.model_copy(update={"lengths": (64, 128, 256, 512)})
    assert probed_lengths(demo.model_copy(update={"evaluation": shorter}), "needle") == (256, 512)
    longer = demo.evaluation.model_copy(update={"lengths": (512, 1024)})
    assert probed_lengths(demo.model_copy(update={"evaluation": longer}), "latest") == (512, 1024)
