"""What a position config refuses, and what it costs."""

import sys
from subprocess import run
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from finscale.core.errors import Fault, FinscaleError
from finscale.models.layers.positions import build_positions
from finscale.models.position_config import (
    POSITION_CONFIGS,
    AlibiConfig,
    HybridConfig,
    PiSpiralConfig,
    parse_position_config,
)
from finscale.models.position_counts import position_faults, position_flops


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "roep"}, "positions.kind must name a known encoding, got 'roep'; did you mean 'rope'?"),
        ({"kind": "rope", "factor": 2}, "positions.factor must be a known key"),
        ({"kind": "rope_linear"}, "positions.factor must be given"),
        (
            {"kind": "yarn", "factor": 0.5, "original_length": 9},
            "positions.factor must be greater than or equal",
        ),
        ({"kind": "rope_dynamic", "factor": 2}, "positions.original_length must be given"),
        ({"kind": "rope_ntk", "factor": 2, "original_length": 9}, "original_length must be a known key"),
        ({"kind": "pi_spiral", "constant": "tau"}, "positions.constant must be 'pi'"),
        (
            {"kind": "pi_spiral", "form": "additive", "rotated_fraction": 0.5},
            "rotated_fraction must be left out unless form=rotary, got 0.5; remove it",
        ),
        ({"kind": "pi_spiral", "rotated_fraction": 0}, "positions.rotated_fraction must be greater than 0"),
        ({"kind": "hybrid", "gate": "soft"}, "positions.gate must be 'absolute_sigmoid'"),
        ({"kind": "calendar"}, "positions.session_bars must be given"),
        (
            {"kind": "calendar", "session_bars": 7},
            "harmonics must be at most half of session_bars, got harmonics=16, session_bars=7; try",
        ),
        ({"kind": "calendar", "session_bars": 20, "harmonics": 11}, "try harmonics=10"),
        (
            {"kind": "time2vec", "session_bars": 78, "month_harmonics": 16},
            "month_harmonics must be less than",
        ),
        ({"kind": "calendar", "session_bars": 78, "year_harmonics": 184}, "year_harmonics must be less than"),
        ({"kind": "rope", "base": 1.0}, "positions.base must be greater than 1"),
    ],
)
def test_a_faulty_config_is_refused_in_words(values: dict[str, Any], message: str) -> None:
    with pytest.raises(FinscaleError) as caught:
        parse_position_config(values)
    assert message in str(caught.value)


DEFAULTS: dict[str, dict[str, Any]] = {
    **{kind: {"base": 10_000.0} for kind in ("sinusoidal", "rope", "rope_linear", "rope_ntk")},
    **{kind: {"base": 10_000.0} for kind in ("rope_dynamic", "yarn")},
    "pi_spiral": {"form": "rotary", "constant": "pi", "constants": "single", "rotated_fraction": 0.5},
    "hybrid": {
        **{"base": 10_000.0, "constant": "pi", "constants": "single", "rotated_fraction": 0.5},
        **{"K": 16_000, "width": 1_000, "gate": "absolute_hard"},
    },
    "calendar": {"harmonics": 16, "month_harmonics": 8, "year_harmonics": 16, "d_weekday": 16},
    "time2vec": {"harmonics": 16, "month_harmonics": 8, "year_harmonics": 16, "d_weekday": 16},
}


@pytest.mark.parametrize("kind", POSITION_CONFIGS)
def test_what_is_not_said_is_as_specified(kind: str) -> None:
    asked = {"factor": 4.0, "original_length": 64, "session_bars": 78}
    given = {name: asked[name] for name in asked if name in POSITION_CONFIGS[kind].model_fields}
    config = parse_position_config({"kind": kind, **given})
    assert config.model_dump(exclude={"kind", *given}) == DEFAULTS.get(kind, {})


def test_the_share_of_turning_pairs_is_one_half_unless_said() -> None:
    assert PiSpiralConfig().rotated_fraction == PiSpiralConfig(rotated_fraction=0.5).rotated_fraction == 0.5
    assert PiSpiralConfig() == PiSpiralConfig(rotated_fraction=0.5)
    assert PiSpiralConfig(form="additive").rotated_fraction is None


@pytest.mark.parametrize(
    ("kind", "d_model", "n_heads", "message"),
    [
        ({"kind": "rope"}, 15, 3, "d_head must be even under positions=rope, got d_model=15, n_heads=3"),
        ({"kind": "hybrid"}, 15, 3, "d_head must be even under positions=hybrid"),
        ({"kind": "pi_spiral"}, 15, 3, "d_head must be even under positions=pi_spiral"),
        ({"kind": "rope_ntk", "factor": 2}, 8, 4, "d_head must be at least 4 under positions=rope_ntk"),
        (
            {"kind": "rope_dynamic", "factor": 2, "original_length": 9},
            *(8, 4, "d_head must be at least 4 under positions=rope_dynamic"),
        ),
        (
            {"kind": "yarn", "factor": 2, "original_length": 9},
            *(6, 2, "d_head must be even under positions=yarn, got d_model=6, n_heads=2"),
        ),
        ({"kind": "sinusoidal"}, 15, 3, "d_model must be even under positions=sinusoidal, got 15"),
        ({"kind": "pi_spiral", "form": "additive"}, 15, 3, "d_model must be even under positions=pi_spiral"),
    ],
)
def test_widths_that_cannot_carry_a_kind_are_refused(
    kind: dict[str, Any], d_model: int, n_heads: int, message: str
) -> None:
    config = parse_position_config(kind)
    (fault,) = position_faults(config, d_model=d_model, n_heads=n_heads)
    assert message in str(fault)
    with pytest.raises(Fault, match="d_"):
        build_positions(config, d_model=d_model, d_head=d_model // n_heads, n_heads=n_heads, max_length=4)
    assert position_faults(config, d_model=16, n_heads=4) == []


def test_a_head_width_that_contradicts_the_heads_is_refused() -> None:
    with pytest.raises(Fault, match="d_head must be d_model / n_heads, got d_head=8"):
        build_positions(AlibiConfig(), d_model=16, d_head=8, n_heads=4, max_length=4)


@pytest.mark.parametrize(
    ("config", "d_head"), [(AlibiConfig(), 16), (AlibiConfig(), 20), (HybridConfig(K=4, gate="distance"), 16)]
)
def test_the_operations_added_to_the_scores_are_counted(
    config: AlibiConfig | HybridConfig, d_head: int
) -> None:
    n_heads, n_tokens = 4, 30
    sizes = {"d_model": n_heads * d_head, "n_heads": n_heads}
    positions = build_positions(config, **sizes, d_head=d_head, max_length=1)
    q = torch.zeros(1, n_heads, n_tokens, d_head)
    with FlopCounterMode(display=False) as counter:
        queries, keys, _ = positions.relate(q, q, causal=True)
        queries @ keys.mT
    plain = 2 * n_tokens**2 * n_heads * d_head
    added = position_flops(config, **sizes, n_tokens=n_tokens)
    assert counter.get_total_flops() == plain + added


def test_penalties_without_a_causal_mask_are_added_and_cost_no_product() -> None:
    sizes = {"d_model": 64, "n_heads": 4, "n_tokens": 30}
    assert position_flops(AlibiConfig(), **sizes, causal=False) == 0
    assert position_flops(AlibiConfig(), **sizes) > 0


def test_configs_and_counts_do_not_import_torch() -> None:
    script = "import sys, finscale.models.position_counts; sys.exit('torch' in sys.modules)"
    assert run([sys.executable, "-c", script], check=False).returncode == 0
