"""What the diagnostics say of codes whose answers are known."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from finscale.core.errors import Fault
from finscale.longcontext.diagnostics import (
    collision_cosines,
    exact_turns,
    phase_errors,
    position_code,
    spectrum,
    star_discrepancy,
)
from finscale.models.layers.positions import build_positions
from finscale.models.position_config import (
    AlibiConfig,
    HybridConfig,
    LearnedConfig,
    NoPositionsConfig,
    PiSpiralConfig,
    RopeConfig,
    SinusoidalConfig,
)

D = 64
CONSTANTS = ("pi", "e", "sqrt2", "phi")
FAR = [0, 1, 113, 355, 10**6, 10**6 + 1, 10**9 - 1, 10**9]
every_constant = pytest.mark.parametrize("constant", CONSTANTS)


def spiral(form: str = "additive", **fields: object) -> PiSpiralConfig:
    return PiSpiralConfig.read({"form": form, **fields})


@every_constant
def test_exact_turns_are_those_of_hundred_digit_arithmetic(constant: str) -> None:
    with mpmath.workdps(100):
        value = {"pi": mpmath.pi, "e": mpmath.e, "sqrt2": mpmath.sqrt(2), "phi": mpmath.phi}[constant]
        expected = [float(mpmath.frac(n * value)) for n in FAR]
    assert exact_turns(constant, FAR).tolist() == expected


@every_constant
def test_the_models_phases_are_within_a_billionth_of_a_turn_at_a_billion(constant: str) -> None:
    assert phase_errors(constant, FAR).max() < 1e-9


@every_constant
def test_floating_point_phases_lose_their_turn(constant: str) -> None:
    near, million = [3, 40, 77], [999_983, 10**6 - 1, 10**6 + 3]
    assert phase_errors(constant, near, arithmetic="bfloat16").max() > 0.01
    assert phase_errors(constant, range(256, 512), arithmetic="bfloat16").max() > 0.4
    assert phase_errors(constant, million, arithmetic="float32").max() > 0.01
    assert phase_errors(constant, [10**9 - 1], arithmetic="float64").max() > phase_errors(
        constant, [10**9 - 1]
    )
    assert phase_errors(constant, million, arithmetic="float64").max() < 1e-8


def test_an_error_is_taken_the_short_way_round() -> None:
    assert phase_errors("pi", range(5000), arithmetic="bfloat16").max() <= 0.5


def test_a_hash_has_no_exact_phase() -> None:
    with pytest.raises(Fault, match="constant must be one of pi, e, sqrt2, phi, which have a value"):
        phase_errors("prng", [1])


@pytest.mark.parametrize("constant", [*CONSTANTS, "prng"])
@pytest.mark.parametrize(("constants", "rank"), [("single", 2), ("per_pair", D)])
def test_the_plain_spiral_has_rank_two_and_the_sound_one_its_whole_width(
    constant: str, constants: str, rank: int
) -> None:
    code = position_code(spiral(constant=constant, constants=constants), range(4096), width=D)
    found = spectrum(code)
    assert (found.rank, found.width) == (rank, D)


def test_a_spectrum_falls_from_one() -> None:
    found = spectrum(np.diag([3.0, 6.0, 1.5]))
    assert found.singular_values == pytest.approx((1.0, 0.5, 0.25))
    assert spectrum(np.outer(np.arange(1, 9), [1.0, 2.0])).rank == 1
    with pytest.raises(Fault, match="positions must be as many as the numbers of a code, got T=2, D=3"):
        spectrum(np.zeros((2, 3)))


def test_a_code_is_what_a_model_adds_or_turns_by() -> None:
    steps = torch.tensor([0, 5, 70_000])
    for config in (SinusoidalConfig(), spiral(constants="per_pair")):
        built = build_positions(config, d_model=8, d_head=8, n_heads=1, max_length=0)
        added = built.add(torch.zeros(1, 3, 8, dtype=torch.float64), steps)[0]
        np.testing.assert_array_equal(position_code(config, steps.tolist(), width=8), added.numpy())
    for config in (RopeConfig(), spiral("rotary"), HybridConfig(K=3, width=2)):
        built = build_positions(config, d_model=8, d_head=8, n_heads=1, max_length=0)
        tables = built.tables(steps, like=torch.zeros(3, 8, dtype=torch.float64))
        np.testing.assert_array_equal(
            position_code(config, steps.tolist(), width=8), torch.cat(tables, dim=1).numpy()
        )


@pytest.mark.parametrize("config", [NoPositionsConfig(), LearnedConfig(), AlibiConfig()])
def test_positions_without_a_fixed_code_are_refused(config: object) -> None:
    with pytest.raises(Fault, match=r"positions\.kind must add a fixed code or turn pairs"):
        position_code(config, [0], width=8)


def test_pi_collides_at_113_as_no_other_constant_does() -> None:
    cosines = {c: collision_cosines(spiral(constant=c), [113], width=D).item() for c in CONSTANTS}
    assert cosines["pi"] == pytest.approx(0.99999998, abs=5e-9)
    assert max(cosines, key=cosines.__getitem__) == "pi"
    assert max(x for c, x in cosines.items() if c != "pi") < 0.99


@settings(max_examples=30, deadline=None)
@given(offset=st.integers(0, 10**6), start=st.integers(0, 10**6), constant=st.sampled_from(CONSTANTS))
def test_a_spirals_cosine_is_that_of_the_turns_between_wherever_it_starts(
    offset: int, start: int, constant: str
) -> None:
    turns = exact_turns(constant, [offset]).item()
    found = collision_cosines(spiral(constant=constant), [offset], width=8, start=start).item()
    assert found == pytest.approx(math.cos(2 * math.pi * turns), abs=1e-8)


def test_pairs_that_stand_still_share_their_code_at_every_offset() -> None:
    turning, half = (spiral("rotary", rotated_fraction=f, constant="phi") for f in (1.0, 0.5))
    offsets = [1, 7, 1000]
    whole, some = (collision_cosines(config, offsets, width=8) for config in (turning, half))
    np.testing.assert_allclose(some, (1 + whole) / 2, atol=1e-12)


@pytest.mark.parametrize("n", [1, 4, 100])
def test_even_points_have_the_least_discrepancy_and_equal_ones_the_largest(n: int) -> None:
    even = (np.arange(n) + 0.5) / n
    assert star_discrepancy(even[::-1]) == pytest.approx(1 / (2 * n))
    assert star_discrepancy(np.zeros(n)) == pytest.approx(1.0)


@settings(max_examples=30, deadline=None)
@given(points=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20))
def test_discrepancy_is_the_largest_gap_to_the_share_of_points_below(points: list[float]) -> None:
    turns, n = np.array(points), len(points)
    gaps = [max(abs((turns < x).sum() / n - x), abs((turns <= x).sum() / n - x)) for x in [*points, 0.0, 1.0]]
    assert star_discrepancy(turns) == pytest.approx(max(gaps))


def test_phi_is_spread_more_evenly_than_pi_and_both_more_than_a_hash() -> None:
    phi, pi = (star_discrepancy(exact_turns(constant, range(1, 501))) for constant in ("phi", "pi"))
    hashed = star_discrepancy(np.random.default_rng(0).random(500))
    assert phi < pi / 3 < hashed / 3


def test_no_point_has_no_discrepancy() -> None:
    with pytest.raises(Fault, match="turns must hold a point"):
        star_discrepancy(np.array([]))
