"""What every positional encoding of the registry promises."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from finscale.core.errors import FinscaleError
from finscale.models.layers.positions import POSITION_BUILDERS, Positions, apply_rotary, build_positions
from finscale.models.position_config import (
    CALENDAR_FIELDS,
    POSITION_CONFIGS,
    AnyPositionConfig,
    parse_position_config,
)
from finscale.models.position_counts import position_params

B, T, H, K, D = 2, 24, 4, 2, 64
d = D // H
SIZES = {"d_model": D, "d_head": d, "n_heads": H}
SPIRAL, HYBRID = {"kind": "pi_spiral"}, {"kind": "hybrid", "K": 8, "width": 4}
CASES: dict[str, dict[str, Any]] = {
    **{kind: {"kind": kind} for kind in ("none", "learned", "sinusoidal", "rope", "alibi")},
    "rope_linear": {"kind": "rope_linear", "factor": 4},
    "rope_ntk": {"kind": "rope_ntk", "factor": 4},
    "rope_dynamic": {"kind": "rope_dynamic", "factor": 4, "original_length": 16},
    "yarn": {"kind": "yarn", "factor": 4, "original_length": 256},
    "spiral-rotary": SPIRAL,
    "spiral-rotary-per_pair": {**SPIRAL, "constant": "phi", "constants": "per_pair"},
    "spiral-rotary-prng": {**SPIRAL, "constant": "prng"},
    "spiral-additive": {**SPIRAL, "form": "additive"},
    "spiral-additive-per_pair": {**SPIRAL, "form": "additive", "constants": "per_pair"},
    **{
        f"hybrid-{gate}": {**HYBRID, "gate": gate}
        for gate in ("absolute_sigmoid", "absolute_hard", "distance")
    },
    "calendar": {"kind": "calendar", "session_bars": 78},
    "time2vec": {"kind": "time2vec", "session_bars": 78},
}
CONFIGS = {name: parse_position_config(values) for name, values in CASES.items()}
RELATIVE = {
    *("none", "rope", "rope_linear", "rope_ntk", "rope_dynamic", "yarn", "alibi"),
    *("spiral-rotary", "spiral-rotary-per_pair", "hybrid-distance"),
}
ROTARY = {name for name in CASES if name.startswith(("rope", "yarn", "spiral-rotary", "hybrid"))}
OF_THE_CALENDAR = {"calendar", "time2vec"}
OTHER = {
    "kind": "",
    "base": 500.0,
    "factor": 9.0,
    "original_length": 100,
    "form": "additive",
    "K": 2,
    "width": 9,
}
OTHER |= {"constant": "e", "constants": "per_pair", "rotated_fraction": 0.25, "gate": "distance"}
OTHER |= {"session_bars": 60, "harmonics": 3, "month_harmonics": 2, "year_harmonics": 5, "d_weekday": 7}
MORE = {"gate": "absolute_sigmoid", "constants": "single", "form": "rotary"}

every_case = pytest.mark.parametrize("name", CASES)
every_case_and_start = pytest.mark.parametrize(
    ("name", "start"), [(name, n) for name in CASES for n in (0, 900_000) if n == 0 or name != "learned"]
)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def build(config: AnyPositionConfig, *, max_length: int = T) -> Positions:
    positions = build_positions(config, **SIZES, max_length=max_length)
    with torch.no_grad():
        for i, (_, parameter) in enumerate(sorted(positions.named_parameters())):
            parameter.copy_(normal(*parameter.shape, seed=i) * 0.1)
    return positions


def dates(name: str, steps: Tensor) -> Tensor | None:
    """The calendar of consecutive bars; None where the kind reads none."""
    if name not in OF_THE_CALENDAR:
        return None
    day = steps // 78
    fields = {"bar_of_session": steps % 78, "day_of_week": day % 7}
    fields |= {"day_of_month": day % 31 + 1, "day_of_year": day % 366 + 1}
    return torch.stack([fields[field] for field in CALENDAR_FIELDS], dim=-1).expand(B, -1, -1)


def projected(x: Tensor, n_heads: int, seed: int) -> Tensor:
    weight = normal(n_heads * d, D, seed=seed).to(x) / D**0.5
    return (x @ weight.mT).unflatten(-1, (n_heads, d)).transpose(1, 2)


def scores(
    positions: Positions, x: Tensor, steps: Tensor, calendar: Tensor | None, *, causal: bool = True
) -> Tensor:
    """Scores (B, H, T, T) of one attention layer over x, before any mask."""
    x = positions.add(x, steps, calendar)
    q, k = positions.rotate(projected(x, H, 1), projected(x, K, 2), steps)
    return _scores(positions, q, k, steps, steps, causal=causal)


def _scores(
    positions: Positions, q: Tensor, k: Tensor, steps: Tensor, key_steps: Tensor, *, causal: bool = True
) -> Tensor:
    q, k, bias = positions.relate(q, k, steps, key_steps, causal=causal)
    plain = q @ k.repeat_interleave(H // K, dim=1).mT * d**-0.5
    return plain if bias is None else plain + bias


def attended(raw: Tensor, values: Tensor, steps: Tensor, key_steps: Tensor) -> Tensor:
    hidden = key_steps > steps[:, None]
    return raw.masked_fill(hidden, -torch.inf).softmax(-1) @ values.repeat_interleave(H // K, dim=1)


def above_diagonal(raw: Tensor) -> Tensor:
    """Scores less those of a token with itself: what softmax sees, whatever is added to a whole row."""
    return raw - raw.diagonal(dim1=-2, dim2=-1)[..., None]


def unevenness(raw: Tensor) -> float:
    """How far scores are from a function of the distance, for tokens that are all the same."""
    seen = above_diagonal(raw)
    return (seen[..., 1:, 1:] - seen[..., :-1, :-1]).abs().max().item()


def test_every_kind_has_a_config_a_builder_and_a_case() -> None:
    kinds = {config.kind for config in CONFIGS.values()}
    assert set(POSITION_BUILDERS) == set(POSITION_CONFIGS) == kinds


@every_case
def test_the_closed_form_counts_the_parameters(name: str) -> None:
    for max_length in (T, 3):
        built = build(CONFIGS[name], max_length=max_length)
        counted = position_params(CONFIGS[name], d_model=D, max_length=max_length)
        assert counted == sum(parameter.numel() for parameter in built.parameters())


@every_case
def test_the_gradient_reaches_every_parameter(name: str) -> None:
    positions, steps = build(CONFIGS[name]), torch.arange(T)
    raw = scores(positions, normal(B, T, D), steps, dates(name, steps + 70))
    if raw.requires_grad:
        (raw.softmax(-1) * normal(*raw.shape, seed=5)).sum().backward()
    named = positions.named_parameters()
    silent = [name for name, p in named if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_are_finite_a_million_positions_out(name: str, dtype: torch.dtype) -> None:
    steps = torch.linspace(0, T - 1 if name == "learned" else 1_000_000, T).long()
    positions = build(CONFIGS[name]).to(dtype)
    raw = scores(positions, normal(B, T, D).to(dtype), steps, dates(name, steps))
    assert raw.dtype == dtype
    assert raw.isfinite().all()


@every_case_and_start
def test_chunks_with_cached_keys_equal_the_whole(name: str, start: int) -> None:
    positions, steps, x = build(CONFIGS[name]).double(), torch.arange(T) + start, normal(B, T, D).double()
    calendar, values = dates(name, steps), normal(B, K, T, d, seed=7).double()
    whole = attended(scores(positions, x, steps, calendar), values, steps, steps)
    keys, rows = [], []
    for chunk in steps.split(9):
        at = chunk - start
        x_chunk = positions.add(x[:, at], chunk, None if calendar is None else calendar[:, at])
        q, k = positions.rotate(projected(x_chunk, H, 1), projected(x_chunk, K, 2), chunk)
        keys.append(k)
        seen = steps[: at[-1] + 1]
        raw = _scores(positions, q, torch.cat(keys, dim=2), chunk, seen)
        rows.append(attended(raw, values[:, :, : len(seen)], chunk, seen))
    difference = (torch.cat(rows, dim=2) - whole).abs().max().item()
    assert (difference > 1e-3) if name == "rope_dynamic" else (difference < 1e-8)


@every_case_and_start
def test_scores_depend_on_the_distance_alone_exactly_where_that_is_promised(name: str, start: int) -> None:
    positions, steps = build(CONFIGS[name]).double(), torch.arange(T) + start
    same = normal(B, 1, D).double().expand(B, T, D)
    raw = scores(positions, same, steps, dates(name, steps))
    beyond = start and name in {"hybrid-absolute_hard", "hybrid-absolute_sigmoid"}
    if name in RELATIVE or beyond:  # far beyond K the hybrids are a pure spiral
        assert unevenness(raw) < 1e-8
    else:
        assert unevenness(raw) > 1e-3


@every_case
def test_every_kind_but_none_tells_positions_apart(name: str) -> None:
    positions, steps = build(CONFIGS[name]).double(), torch.arange(T)
    same = normal(B, 1, D).double().expand(B, T, D)
    spread = above_diagonal(scores(positions, same, steps, dates(name, steps))).abs().max()
    assert (spread > 1e-3) == (name != "none")


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_codes_and_tables_are_cast_only_after_cosine_and_sine(name: str, dtype: torch.dtype) -> None:
    positions, steps = build(CONFIGS[name]), torch.tensor([3, 257, 4097, 1_000_003])
    exact, like = torch.zeros(1, 4, D, dtype=torch.float64), torch.zeros(1, 4, D, dtype=dtype)
    tables = positions.tables(steps, like=like)
    assert (tables is not None) == (name in ROTARY)
    if tables is not None:
        expected = positions.tables(steps, like=exact)
        assert all(torch.equal(a, b.to(dtype)) for a, b in zip(tables, expected, strict=True))
    elif name not in OF_THE_CALENDAR | {"learned"}:
        assert torch.equal(positions.add(like, steps), positions.add(exact, steps).to(dtype))


@every_case
def test_rotating_is_applying_the_tables_and_leaves_position_free_kinds_alone(name: str) -> None:
    positions, q, k = build(CONFIGS[name]), normal(B, H, T, d), normal(B, K, T, d)
    turned_q, turned_k = positions.rotate(q, k)
    tables = positions.tables(like=q)
    assert torch.equal(turned_q, q if tables is None else apply_rotary(q, *tables))
    assert torch.equal(turned_k, k if tables is None else apply_rotary(k, *tables))
    assert torch.equal(turned_q, positions.rotate(q, k, torch.arange(T))[0])


@every_case
def test_only_learned_parameters_are_in_the_state_and_a_meta_build_loads_it(name: str) -> None:
    positions, steps, x = build(CONFIGS[name]), torch.arange(T), normal(B, T, D)
    assert set(positions.state_dict()) == {n for n, _ in positions.named_parameters()}
    with torch.device("meta"):
        other = build_positions(CONFIGS[name], **SIZES, max_length=T)
    other = other.to_empty(device="cpu")
    other.load_state_dict(positions.state_dict())
    before, after = (scores(p, x, steps, dates(name, steps)) for p in (positions, other))
    assert torch.equal(before, after)


@every_case
def test_shapes_alone_are_worked_out_on_the_meta_device(name: str) -> None:
    with torch.device("meta"):
        positions = build_positions(CONFIGS[name], **SIZES, max_length=T)
    x, steps = torch.zeros(B, T, D, device="meta"), torch.arange(T)
    calendar = dates(name, steps)
    x = positions.add(x, None, None if calendar is None else calendar.to("meta"))
    heads = x.unflatten(-1, (H, d)).transpose(1, 2)
    q, k, _ = positions.relate(*positions.rotate(heads, heads[:, :K]), causal=True)
    assert {tensor.device.type for tensor in (x, q, k)} == {"meta"}
    assert q.shape[-1] == k.shape[-1] >= d


@every_case
def test_nothing_is_random_and_nothing_is_kept_between_calls(name: str) -> None:
    positions, steps, x = build(CONFIGS[name]), torch.arange(T), normal(B, T, D)
    before = torch.random.get_rng_state()
    first = scores(positions, x, steps, dates(name, steps))
    scores(positions, x[:, :5], steps[:5] + 3, dates(name, steps[:5]))
    assert torch.equal(scores(positions, x, steps, dates(name, steps)), first)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", sorted(RELATIVE - {"none"}))
def test_attention_both_ways_is_as_strong_towards_the_future_as_towards_the_past(name: str) -> None:
    positions, steps = build(CONFIGS[name]).double(), torch.arange(T)
    x = normal(B, H, 1, d).double().expand(B, H, T, d)
    q, k = positions.rotate(x, x, steps)
    q, k, bias = positions.relate(q, k, steps, steps, causal=False)
    raw = q @ k.mT * d**-0.5 + (0 if bias is None else bias)
    torch.testing.assert_close(raw, raw.mT)


@every_case
def test_a_config_comes_back_from_its_own_record(name: str) -> None:
    record = json.loads(CONFIGS[name].model_dump_json())
    assert parse_position_config(record) == CONFIGS[name]


@every_case
def test_an_option_of_another_kind_is_refused(name: str) -> None:
    foreign = set(OTHER) - set(type(CONFIGS[name]).model_fields)
    assert foreign
    for option in foreign:
        with pytest.raises(FinscaleError, match=f"positions.{option} must be a known key"):
            parse_position_config({**CASES[name], option: OTHER[option]})


@every_case
def test_every_option_changes_the_scores(name: str) -> None:
    steps, x = torch.arange(T) + (60 if name in OF_THE_CALENDAR else 0), normal(B, T, D)
    before = scores(build(CONFIGS[name]), x, steps, dates(name, steps))
    for option, value in CONFIGS[name].model_dump(exclude={"kind"}).items():
        if value is None:  # rotated_fraction of an additive spiral, refused when set
            continue
        other = MORE[option] if value == OTHER[option] else OTHER[option]
        changed = {**CASES[name], option: other}
        after = scores(build(parse_position_config(changed)), x, steps, dates(name, steps))
        assert (after - before).abs().max() > 1e-6, option


@every_case
def test_a_calendar_is_read_or_refused(name: str) -> None:
    positions, x, steps = build(CONFIGS[name]), normal(B, T, D), torch.arange(T)
    if name in OF_THE_CALENDAR:
        for calendar in (None, dates(name, steps)[..., :3]):
            with pytest.raises(FinscaleError, match=r"batch\.calendar must have shape"):
                positions.add(x, steps, calendar)
        return
    with pytest.raises(FinscaleError, match=r"batch\.calendar must be left out"):
        positions.add(x, steps, dates("calendar", steps))
