"""Irrational phases against 100-digit arithmetic; the hash against its published output."""

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from finscale.models.layers.positions.phases import multipliers, spiral_table, spiral_turns, splitmix64

CONSTANTS = ("pi", "e", "sqrt2", "phi")
PRIMES = (2, 3, 5, 7, 11, 13, 17)
TOLERANCE = 1e-9
every_constant = pytest.mark.parametrize("constant", CONSTANTS)


def exact(constant: str, n: int, factor: int = 1) -> float:
    """frac(n c sqrt(factor)) to 100 digits."""
    with mpmath.workdps(100):
        value = {"pi": mpmath.pi, "e": mpmath.e, "sqrt2": mpmath.sqrt(2), "phi": mpmath.phi}[constant]
        return float(mpmath.frac(n * value * mpmath.sqrt(factor)))


def apart(a: float, b: float) -> float:
    """Turns between two phases, the short way round."""
    return abs((a - b + 0.5) % 1 - 0.5)


@every_constant
@pytest.mark.parametrize("n", [0, 1, 113, 10**6, 10**6 + 1, 10**9, 10**9 - 1])
def test_phases_equal_hundred_digit_arithmetic(constant: str, n: int) -> None:
    (turns,) = spiral_turns(torch.tensor([n]), 1, constant=constant, constants="single")[0].tolist()
    assert apart(turns, exact(constant, n)) < TOLERANCE


@every_constant
@pytest.mark.parametrize("n", [10**6, 10**9])
def test_phases_of_every_pair_equal_hundred_digit_arithmetic(constant: str, n: int) -> None:
    primes = PRIMES[1:] if constant == "sqrt2" else PRIMES[:-1]
    turns = spiral_turns(torch.tensor([n]), 6, constant=constant, constants="per_pair")[0].tolist()
    assert max(apart(t, exact(constant, n, p)) for t, p in zip(turns, primes, strict=True)) < TOLERANCE


@settings(max_examples=40, deadline=None)
@given(constant=st.sampled_from(CONSTANTS), n=st.integers(0, 10**9))
def test_phases_are_exact_at_any_position(constant: str, n: int) -> None:
    cos, sin = spiral_table(torch.tensor([n]), 3, constant=constant, constants="single")
    radians = 2 * mpmath.pi * exact(constant, n)
    assert cos.tolist() == [[pytest.approx(float(mpmath.cos(radians)), abs=7e-9)] * 3]
    assert sin.tolist() == [[pytest.approx(float(mpmath.sin(radians)), abs=7e-9)] * 3]


def test_turns_lie_between_none_and_one() -> None:
    for constant in (*CONSTANTS, "prng"):
        turns = spiral_turns(torch.arange(2000), 3, constant=constant, constants="per_pair")
        assert turns.min() >= 0
        assert 0.9 < turns.max() <= 1


@every_constant
def test_no_pair_of_a_full_rank_spiral_stands_still(constant: str) -> None:
    held = multipliers(constant, 512)
    assert len(set(held)) == 512
    assert min(held) > 2**40


def test_pi_nearly_repeats_after_113_positions_and_phi_does_not() -> None:
    def cosine(constant: str) -> float:
        cos, _ = spiral_table(torch.tensor([113]), 1, constant=constant, constants="single")
        return cos.item()

    assert cosine("pi") == pytest.approx(0.99999998, abs=5e-9)
    assert cosine("phi") < 0.9


def test_splitmix64_gives_its_published_first_outputs() -> None:
    step = 0x9E3779B97F4A7C15
    outputs = [splitmix64(i * step % 2**64) for i in range(3)]
    assert outputs == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


@pytest.mark.parametrize("n", [0, 1, 10**6, 10**9, 2**62])
def test_prng_is_splitmix64_of_the_position(n: int) -> None:
    turns = spiral_turns(torch.tensor([n]), 1, constant="prng", constants="single").item()
    assert turns == (splitmix64(n) >> 11) / 2**53


def test_prng_phases_are_uniform_and_unrelated_between_neighbours_and_pairs() -> None:
    turns = spiral_turns(torch.arange(20_000), 2, constant="prng", constants="per_pair")
    counts = torch.histc(turns[:, 0], bins=20, min=0, max=1)
    assert (counts - 1000).abs().max() < 5 * 1000**0.5
    first, second = turns[:, 0] - 0.5, turns[:, 1] - 0.5
    for product in (first[1:] * first[:-1], first * second, second[1:] * first[:-1]):
        assert abs(product.mean().item() * 12) < 5 / 20_000**0.5


def test_a_single_prng_phase_does_not_depend_on_how_many_pairs_there_are() -> None:
    positions = torch.arange(50)
    few, many = (spiral_turns(positions, n, constant="prng", constants="per_pair") for n in (2, 9))
    assert torch.equal(few, many[:, :2])
