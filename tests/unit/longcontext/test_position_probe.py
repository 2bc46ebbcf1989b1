"""The table of codes says what is known of them."""

import math
from typing import Any

import pandas as pd
import pytest

from finscale.longcontext.config import LongContextConfig
from finscale.longcontext.position_probe import block_codes, position_rows, position_table


def block(blocks: dict[str, Any], **variants: Any) -> LongContextConfig:
    modes = {mode: {"positions": positions} for mode, positions in variants.items()}
    return LongContextConfig.read(blocks["cpu_demo"] | {"variants": modes, "read_as": {}, "streaming": None})


@pytest.fixture(scope="module")
def table(blocks: dict[str, Any]) -> pd.DataFrame:
    spiral = {"kind": "pi_spiral", "form": "additive"}
    full = {"kind": "pi_spiral", "form": "rotary", "constants": "per_pair", "rotated_fraction": 1.0}
    config = block(blocks, none="none", pi=spiral, phi=spiral | {"constant": "phi"}, full=full, rope="rope")
    return position_table(list(position_rows(config)))


def of(table: pd.DataFrame, measure: str, name: str) -> pd.Series:
    return table[(table["measure"] == measure) & (table["of"] == name)].set_index("at")["value"]


def test_pi_comes_back_at_113_and_phi_never_comes_nearer_than_it_must(table: pd.DataFrame) -> None:
    pi, phi = of(table, "return", "pi"), of(table, "return", "phi")
    assert pi.index.tolist() == [1, 7, 106, 113, 4095]
    assert pi[106] > 1e-3
    assert 1e-7 > pi[113] == pi[4095] > 1e-9
    # n |n phi - m| > 0.38 for all whole n and m: no number is worse approximated (Hurwitz 1891)
    assert all(value > 1 - math.cos(2 * math.pi * 0.38 / n) for n, value in phi.items())


def test_the_spiral_of_one_constant_has_rank_2_and_the_full_one_its_width(table: pd.DataFrame) -> None:
    ranks = table[table["measure"] == "rank"].set_index("of")
    assert (ranks.loc["pi", "value"], ranks.loc["pi", "at"]) == (2, 64)
    assert (ranks.loc["full", "value"], ranks.loc["full", "at"]) == (16, 16)
    assert of(table, "singular_value", "pi").iloc[0] == 1


def test_fixed_point_is_the_most_exact_and_bfloat16_the_least(table: pd.DataFrame) -> None:
    errors = table[table["measure"] == "phase_error"].pivot(index="at", columns="of", values="value")
    far = errors[errors.index >= 2**6]
    assert (far["fixed_point"] < far["float64"]).all()
    assert (far["float64"] < far["float32"]).all()
    assert errors.loc[2**29, "fixed_point"] < 1e-9
    assert errors.loc[2**8, "bfloat16"] > 0.4


def test_phi_fills_the_turn_more_evenly_than_pi_and_pi_than_its_hash(table: pd.DataFrame) -> None:
    found = table[table["measure"] == "discrepancy"].pivot(index="of", columns="at", values="value")
    assert found.columns.tolist() == [64, 256, 512, 1024, 2048, 4096]
    assert found.loc["phi", 4096] < found.loc["pi", 4096] < found.loc["prng", 4096]
    # log n / n, and no slower
    assert found.loc["phi", 64] > 20 * found.loc["phi", 4096]


def test_modes_that_share_a_code_share_an_entry_and_those_without_one_have_none(
    blocks: dict[str, Any],
) -> None:
    config = LongContextConfig.read(blocks["cpu_demo_attractor"])
    codes = block_codes(config)
    assert list(codes) == [
        "rope, window, window_position_keys, window_content_keys",
        "pi_spiral_sound",
        "hybrid_sound",
    ]
    by_distance = {"kind": "hybrid", "K": 128, "width": 8, "gate": "distance"}
    added = {"kind": "pi_spiral", "form": "additive"}
    config = block(
        blocks, none="none", alibi="alibi", by_distance=by_distance, sinusoidal="sinusoidal", added=added
    )
    assert {name: width for name, (_, width) in block_codes(config).items()} == {
        "sinusoidal": 64,
        "added": 64,
    }


def test_phases_are_measured_only_where_there_is_a_spiral(blocks: dict[str, Any]) -> None:
    found = position_table(list(position_rows(block(blocks, none="none", rope="rope"))))
    assert set(found["measure"]) == {"return", "singular_value", "rank"}
    assert found["of"].unique().tolist() == ["rope"]
    only_hash = block(blocks, none="none", prng={"kind": "pi_spiral", "constant": "prng"})
    assert set(position_table(list(position_rows(only_hash)))["measure"]) == set(found["measure"])


def test_a_checkpoint_has_no_rows_before_it_is_read(blocks: dict[str, Any]) -> None:
    config = LongContextConfig.read(blocks["baseline_rope"])
    assert position_table(list(position_rows(config))).empty
