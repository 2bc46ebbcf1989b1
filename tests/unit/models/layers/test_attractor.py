"""The decayed state against its recursion, and what enters and leaves it."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from finscale.models.attractor_config import AttractorConfig
from finscale.models.layers.attention import Place
from finscale.models.layers.attractor import Attractor, decayed_scan
from finscale.models.layers.positions import build_positions
from finscale.models.position_config import RopeConfig

B, H, T, K, D_HEAD = 2, 3, 200, 5, 4
D = H * D_HEAD
KINDS: dict[str, dict[str, Any]] = {
    "content": {},
    "content-residual": {"injection": "residual", "alpha": "fixed"},
    "content-rotated": {"keys": {"kind": "content", "rotated": True}},
    "position": {"keys": "position", "alpha": {"kind": "exp_c_over_N", "N": 50}},
    "position-residual": {"keys": {"kind": "position", "constant": "phi"}, "injection": "residual"},
}
every_kind = pytest.mark.parametrize("values", KINDS.values(), ids=KINDS.keys())


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.to(dtype)


def heads(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    q, k, v = (normal(B, H, T, n, seed=n, dtype=dtype) for n in (K, K + 1, D_HEAD))
    return q, k[..., :K], v, torch.tensor([0.5, 0.99, 0.9999], dtype=dtype).log()


def recursion(q: Tensor, k: Tensor, v: Tensor, log_alpha: Tensor) -> tuple[Tensor, Tensor]:
    """C_t = alpha C_{t-1} + e_t (x) h_t, read at every t."""
    state, read = torch.zeros(B, H, K, D_HEAD, dtype=q.dtype), []
    for t in range(T):
        state = log_alpha.exp()[:, None, None] * state + k[:, :, t, :, None] * v[:, :, t, None, :]
        read.append(torch.einsum("bhk,bhkd->bhd", q[:, :, t], state))
    return torch.stack(read, dim=2), state


def attractor(values: dict[str, Any], dtype: torch.dtype = torch.float64) -> Attractor:
    """One that adds something, as after the first step of a training."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = Attractor(D, H, AttractorConfig.read(values)).to(dtype)
        torch.nn.init.normal_(layer.output.weight)
    return layer


def place(steps: Tensor | None, like: Tensor) -> Place:
    rope = build_positions(RopeConfig(), d_model=D, d_head=D_HEAD, n_heads=H, max_length=1)
    return Place.of(rope, steps, like=like)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("chunk_length", [1, 7, 64, T, 1000])
def test_a_scan_by_chunks_equals_the_recursion(
    dtype: torch.dtype, tolerance: float, chunk_length: int
) -> None:
    tensors = heads(dtype)
    read, state = decayed_scan(*tensors, chunk_length=chunk_length)
    expected, last = recursion(*heads())
    scale = expected.abs().max()
    torch.testing.assert_close(read.double() / scale, expected / scale, rtol=0, atol=tolerance)
    torch.testing.assert_close(state.double() / scale, last / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("cut", [1, 63, 64, 65, 130])
def test_a_scan_goes_on_from_its_state(cut: int) -> None:
    q, k, v, log_alpha = heads()
    whole, last = decayed_scan(q, k, v, log_alpha)
    first, state = decayed_scan(q[:, :, :cut], k[:, :, :cut], v[:, :, :cut], log_alpha)
    second, after = decayed_scan(q[:, :, cut:], k[:, :, cut:], v[:, :, cut:], log_alpha, state)
    torch.testing.assert_close(torch.cat((first, second), dim=2), whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(after, last, rtol=0, atol=1e-12)


def test_gradients_of_a_scan_are_those_of_the_recursion() -> None:
    outer = normal(B, H, T, D_HEAD, seed=9)
    found = []
    for way in (decayed_scan, recursion):
        tensors = [x.requires_grad_() for x in heads()]
        found.append(torch.autograd.grad((way(*tensors)[0] * outer).sum(), tensors))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_a_fast_decay_neither_overflows_nor_loses_its_gradient() -> None:
    q, k, v, _ = heads(torch.float32)
    log_alpha = torch.tensor([-60.0, -1e-9, 0.0], requires_grad=True)
    read, state = decayed_scan(q, k, v, log_alpha)
    read.square().mean().backward()
    assert read.isfinite().all()
    assert state.isfinite().all()
    assert log_alpha.grad.isfinite().all()
    torch.testing.assert_close(read[:, 0], (q[:, 0] * k[:, 0]).sum(-1, keepdim=True) * v[:, 0])


@every_kind
def test_nothing_is_added_before_training(values: dict[str, Any]) -> None:
    layer = Attractor(D, H, AttractorConfig.read(values))
    x = normal(B, 9, D, seed=0, dtype=torch.float32)
    assert torch.equal(layer(x, place=place(None, x)), torch.zeros_like(x))


@every_kind
@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_reading_on_equals_reading_at_once(values: dict[str, Any], chunk: int) -> None:
    layer, x, steps = attractor(values), normal(B, 150, D, seed=0), torch.arange(150)
    whole = layer(x, place=place(None, x))
    state, parts = None, []
    for at in steps.split(chunk):
        added, state = layer.resume(x[:, at], state, place=place(at, x[:, at]))
        parts.append(added)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-12)


@every_kind
@pytest.mark.parametrize("at", [0, 70, 149])
def test_a_token_changes_its_own_and_later_readings_only(values: dict[str, Any], at: int) -> None:
    layer, x = attractor(values), normal(B, 150, D, seed=0)
    other = x.clone()
    other[:, at] += 1.0
    old, new = (layer(tokens, place=place(None, tokens)) for tokens in (x, other))
    assert torch.equal(old[:, :at], new[:, :at])
    assert (new[:, at:] - old[:, at:]).abs().amax(dim=(0, 2)).min() > 1e-9


@every_kind
def test_padding_is_not_remembered(values: dict[str, Any]) -> None:
    layer, x = attractor(values), normal(B, 30, D, seed=0)
    mask = torch.ones(B, 30, dtype=torch.bool)
    mask[0, 10:15], mask[1, :4] = False, False
    other = torch.where(mask[:, :, None], x, 7.0)
    old, new = (layer(tokens, place=place(None, tokens), mask=mask) for tokens in (x, other))
    torch.testing.assert_close(new[mask], old[mask], rtol=0, atol=1e-12)
    unmasked = layer(other, place=place(None, other))
    assert (unmasked[mask] - new[mask]).abs().max() > 1e-3


def test_position_keys_hold_a_state_of_two_rows_per_head() -> None:
    layer, x = attractor(KINDS["position"]), normal(B, 9, D, seed=0)
    assert layer.resume(x, None)[1].shape == (B, H, 2, D_HEAD)
    assert attractor({}).resume(x, None)[1].shape == (B, H, D_HEAD, D_HEAD)


def test_a_token_read_back_by_its_position_counts_as_the_cosine_of_the_turns_between() -> None:
    """With the projection as the identity, o_n is the sum of alpha^(n-m) cos(2 pi c (n-m)) h_m, made calm."""
    layer = attractor({**KINDS["position-residual"], "alpha": {"kind": "fixed", "alpha": 0.999}})
    with torch.no_grad():
        layer.projection.weight.copy_(torch.eye(D)), layer.projection.bias.zero_()
        layer.output.weight.copy_(torch.eye(D)), layer.output.bias.zero_()
    x, n = normal(1, 40, D, seed=0), torch.arange(40.0, dtype=torch.float64)
    apart = n[:, None] - n
    phi = (1 + math.sqrt(5)) / 2
    weights = (0.999**apart * torch.cos(2 * math.pi * phi * apart)).tril()
    read = (weights @ x[0]).unflatten(1, (H, D_HEAD))
    expected = read / (read.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(layer(x)[0], expected.flatten(1), rtol=0, atol=1e-9)


def test_rotated_keys_turn_by_their_positions_and_read_by_the_distance_alone() -> None:
    layer, plain = attractor(KINDS["content-rotated"]), attractor(KINDS["content"])
    x = normal(B, 60, D, seed=0)
    near, far = (layer(x, place=place(torch.arange(60) + first, x)) for first in (0, 100_000))
    torch.testing.assert_close(near, far, rtol=0, atol=1e-6)
    stretched = layer(x, place=place(3 * torch.arange(60), x))
    assert (stretched - near).abs().max() > 1e-2
    unmoved = (plain(x, place=place(n * torch.arange(60), x)) for n in (1, 3))
    assert torch.equal(*unmoved)


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        ({"kind": "exp_c_over_N", "N": 1000}, math.exp(-math.pi / 1000)),
        ({"kind": "exp_c_over_N", "N": 64, "c": 2.0}, math.exp(-2 / 64)),
        ({"kind": "fixed", "alpha": 0.97}, 0.97),
        ("fixed", 0.99),
        ("learned", 0.999),
        ({"kind": "learned", "start": 0.9}, 0.9),
    ],
)
def test_alpha_is_that_of_its_policy(alpha: Any, expected: float) -> None:
    layer = attractor({"alpha": alpha}, torch.float32)
    torch.testing.assert_close(layer.log_alpha().exp(), torch.full((H,), expected))
    assert [name for name, _ in layer.named_parameters() if name == "log_rate"] == (
        ["log_rate"] if layer.config.alpha.kind == "learned" else []
    )


@pytest.mark.parametrize("alpha", ["learned", {"kind": "exp_c_over_N", "N": 4096}])
def test_in_half_precision_the_decay_and_the_state_are_single(alpha: Any) -> None:
    layer = attractor({"alpha": alpha}, torch.bfloat16)
    _, state = layer.resume(normal(B, 9, D, seed=0).bfloat16(), None)
    assert state.dtype == layer.log_alpha().dtype == torch.float32
    assert (layer.log_alpha() < 0).all()


def test_under_autocast_the_state_is_that_of_single_precision() -> None:
    layer, x = attractor({}, torch.float32), normal(B, 300, D, seed=0, dtype=torch.float32)
    seen: list[Tensor] = []
    layer.projection.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        added, state = layer.resume(x, None)
    heads = seen[0].float().unflatten(2, (H, -1)).transpose(1, 2).split(layer.widths, dim=3)
    _, exact = decayed_scan(*heads, layer.log_alpha())
    assert seen[0].dtype == added.dtype == torch.bfloat16
    assert torch.equal(state, exact)
