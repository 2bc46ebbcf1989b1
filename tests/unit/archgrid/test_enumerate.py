"""The grid holds exactly the architectures whose true N lies within the band."""

import itertools
import json
from fractions import Fraction

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finscale.archgrid.base import BASE, D_FF_RATIOS, N_HEADS, N_LAYERS, SMALL_WIDTHS, WIDTHS, GridConfig
from finscale.archgrid.enumerate import (
    GRID_COLUMNS,
    SPACE_COLUMNS,
    enumerate_grid,
    enumerate_space,
    require_admissible,
)
from finscale.archgrid.memory import predict_memory
from finscale.core.budgets import parse_budget
from finscale.core.errors import Fault
from finscale.models.config import MigtTvdtConfig, PatchTSTConfig, TransformerConfig, parse_model_config
from finscale.models.counting import arch_id, count_params, flops
from finscale.models.registry import build_meta_model

SIZES = {"n_features": 25, "context_length": 60}
SHAPE = ["d_model", "n_layers", "d_ff"]
budgets = st.sampled_from([5_000, 50_000, 500_000, 750_000, 1_000_000, 2_000_000, 20_000_000, 2_000_000_000])


def grid_of(budget: str, **options: object) -> pd.DataFrame:
    return enumerate_grid(parse_budget(budget), **{**SIZES, **options})


def shapes(grid: pd.DataFrame) -> set[tuple[int, ...]]:
    return set(grid[SHAPE].itertuples(index=False, name=None))


@pytest.mark.parametrize(
    ("budget", "n_shapes", "n_rows"),
    [
        ("5K", 6, 18),
        ("50K", 15, 58),
        ("500K", 22, 97),
        ("2M", 16, 80),
        ("20M", 15, 75),
        ("200M", 25, 125),
        ("2B", 15, 75),
    ],
)
def test_the_published_ladders_have_their_distinct_shapes(budget: str, n_shapes: int, n_rows: int) -> None:
    grid = grid_of(budget)
    assert (len(shapes(grid)), len(grid)) == (n_shapes, n_rows)


def test_the_space_has_1700_combinations_before_the_small_widths() -> None:
    combinations = set(itertools.product(WIDTHS, N_LAYERS, N_HEADS, D_FF_RATIOS))
    space = enumerate_space(**SIZES)
    rows = zip(space.d_model, space.n_layers, space.n_heads, space.d_ff // space.d_model, strict=True)
    assert (len(space), set(rows)) == (1700, combinations)
    assert list(space.columns) == SPACE_COLUMNS
    assert space["n_params"].is_monotonic_increasing


DECODER = TransformerConfig(vocab_size=80, d_model=64, n_layers=2, n_heads=2, d_ff=128)
GROUPED = DECODER.model_copy(update={"attention": "gqa", "n_kv_heads": 2, "activation": "swiglu"})
BASES = {
    "default": BASE,
    "flatten": BASE.model_copy(update={"pooling": "flatten", "dropout": 0.0}),
    "grouped": GROUPED,
    "two-stages": MigtTvdtConfig(session_bars=78),
}


@pytest.mark.parametrize("base", BASES.values(), ids=BASES.keys())
def test_every_row_of_the_space_has_the_costs_of_the_scalar_formulas(
    base: GridConfig,
) -> None:
    sizes = {**SIZES, "n_outputs": 3 if base.family == "patchtst" else 1}
    for row in enumerate_space(**sizes, base=base).itertuples():
        dimensions = {name: getattr(row, name) for name in ("d_model", "n_layers", "n_heads", "d_ff")}
        config = base.model_copy(update=dimensions)
        count, work = count_params(config, **sizes), flops(config, **sizes)
        groups = (row.n_embedding, row.n_positions, row.n_body, row.n_head)
        assert (row.n_params, *groups) == (count.total, *count.model_dump().values())
        assert (row.flops_forward, row.flops_training) == (work.forward, work.training)
        assert row.memory_bytes == predict_memory(config, **sizes, micro_batch_size=128).total
        assert row.arch_id == arch_id(config, **SIZES)


def numel(text: str) -> int:
    model = build_meta_model(parse_model_config(json.loads(text)), **SIZES)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("budget", ["5K", "50K"])
def test_n_is_that_of_the_built_model_in_every_row_of_a_small_budget(budget: str) -> None:
    grid = grid_of(budget)
    assert grid["config"].map(numel).tolist() == grid["n_params"].tolist()


@pytest.mark.parametrize("budget", ["20M", "200M", "2B"])
def test_n_is_that_of_the_built_model_in_the_shallowest_rows_of_a_large_one(budget: str) -> None:
    rows = grid_of(budget).nsmallest(3, "n_layers")
    assert rows["config"].map(numel).tolist() == rows["n_params"].tolist()


def test_a_grid_of_decoders_counts_the_heads_that_share_keys() -> None:
    grid = enumerate_grid(2_000_000, **SIZES, base=GROUPED)
    assert set(grid["model_family"]) == {"transformer"}
    assert len(grid[[*SHAPE, "n_params"]].drop_duplicates()) > len(shapes(grid))
    shallow = grid.nsmallest(4, "n_layers")
    assert shallow["config"].map(numel).tolist() == shallow["n_params"].tolist()


def test_a_grid_of_two_stages_counts_the_blocks_over_variables_at_every_depth() -> None:
    grid = enumerate_grid(200_000, **SIZES, base=BASES["two-stages"])
    assert {2, 3, 4} < set(grid["n_layers"])
    assert grid["config"].map(numel).tolist() == grid["n_params"].tolist()


def test_heads_that_the_base_forbids_at_a_width_are_left_out() -> None:
    turning = PatchTSTConfig.read({**BASE.model_dump(), "positions": {"kind": "rope"}})
    narrow = {base: grid_of("5K", base=base).query("d_model == 8")["n_heads"] for base in (BASE, turning)}
    assert {base: set(heads) for base, heads in narrow.items()} == {BASE: {2, 4, 8}, turning: {2, 4}}


def test_a_base_that_no_width_suits_is_refused() -> None:
    columns = {"vocab_size": None, "initial_embedding_dim": 40, "joint_embedding_dim": 40, "d_model": 40}
    base = TransformerConfig.read({**DECODER.model_dump(), **columns})
    with pytest.raises(Fault, match="base must accept one of d_model="):
        grid_of("2M", base=base)


@settings(max_examples=12, deadline=None)
@given(budget=budgets, tolerance=st.floats(0.15, 0.9), n_features=st.integers(1, 60), T=st.integers(10, 200))
def test_a_grid_is_every_admissible_combination_once(
    budget: int, tolerance: float, n_features: int, T: int
) -> None:
    sizes = {"n_features": n_features, "context_length": T}
    widths = WIDTHS + SMALL_WIDTHS if budget < 1_000_000 else WIDTHS
    expected = set()
    for d, n_layers, n_heads, ratio in itertools.product(widths, N_LAYERS, N_HEADS, D_FF_RATIOS):
        config = BASE.model_copy(update={"d_model": d, "n_layers": n_layers, "d_ff": ratio * d})
        n_params = count_params(config, **sizes).total
        if d % n_heads == 0 and (1 - tolerance) * budget <= n_params <= (1 + tolerance) * budget:
            expected.add((d, n_layers, n_heads, ratio * d))
    if not expected:
        with pytest.raises(Fault, match="budget must have an architecture"):
            enumerate_grid(budget, **sizes, tolerance=tolerance)
        return
    grid = enumerate_grid(budget, **sizes, tolerance=tolerance)
    rows = list(grid[["d_model", "n_layers", "n_heads", "d_ff"]].itertuples(index=False, name=None))
    assert len(rows) == len(set(rows)) == grid["arch_id"].nunique()
    assert set(rows) == expected
    assert grid["n_params"].is_monotonic_increasing


@pytest.mark.parametrize(("end", "step_out"), [(Fraction(3, 4), 1), (Fraction(5, 4), -1)])
def test_both_ends_of_the_band_are_inside(end: Fraction, step_out: int) -> None:
    wanted = (64, 48, 256)
    config = BASE.model_copy(update=dict(zip(SHAPE, wanted, strict=True)))
    n_params = {T: count_params(config, n_features=25, context_length=T).total for T in range(60, 90)}
    T = next(T for T, n in n_params.items() if n % end.numerator == 0)
    n_budget = int(n_params[T] / end)
    assert wanted in shapes(enumerate_grid(n_budget, n_features=25, context_length=T))
    assert wanted not in shapes(enumerate_grid(n_budget + step_out, n_features=25, context_length=T))


def test_a_row_says_what_its_config_says() -> None:
    grid = grid_of("50K", base=PatchTSTConfig(**{**BASE.model_dump(), "pooling": "flatten", "dropout": 0.3}))
    assert list(grid.columns) == GRID_COLUMNS
    for row in grid.itertuples():
        config = parse_model_config(json.loads(row.config))
        count, work = count_params(config, **SIZES), flops(config, **SIZES)
        assert (config.pooling, config.dropout, config.family) == ("flatten", 0.3, row.model_family)
        assert (config.d_model, config.n_layers, config.n_heads, config.d_ff) == row[4:8]
        assert row[8:13] == (count.total, count.embedding, count.positions, count.body, count.head)
        assert (row.flops_forward, row.flops_training) == (work.forward, work.training)
        assert row.arch_id == arch_id(config, **SIZES)
        assert (row.aspect_ratio, row.budget) == (config.d_model / config.n_layers, "50K")


def test_widths_below_64_take_part_under_a_million_only() -> None:
    assert (grid_of("999K")["d_model"] < 64).any()
    assert (grid_of("1M")["d_model"] >= 64).all()


def test_the_grid_hash_is_of_the_rows_alone() -> None:
    base = grid_of("50K")["grid_hash"].unique().tolist()
    assert len(base) == 1
    assert (
        grid_of("50K", base=BASE.model_copy(update={"dropout": 0.5}))["grid_hash"].unique().tolist() == base
    )
    others = [
        grid_of("50K", n_features=24),
        grid_of("50K", context_length=61),
        grid_of("50K", n_outputs=2),
        grid_of("50K", tolerance=0.2),
        grid_of("51K"),
        grid_of("50K", base=BASE.model_copy(update={"pooling": "last"})),
    ]
    assert len({grid["grid_hash"].iloc[0] for grid in others} | set(base)) == len(others) + 1


def test_a_budget_without_architectures_names_the_smallest_n_and_a_budget_that_works() -> None:
    rule = (
        "budget must have an architecture within 25% at F=500, T=60, got '5K'; "
        "the smallest admissible N is 41,321, the nearest budgets with architectures: 41K"
    )
    with pytest.raises(Fault) as raised:
        grid_of("5K", n_features=500)
    assert str(raised.value) == rule
    assert grid_of("41K", n_features=500)["n_params"].min() == 41_321


def test_a_budget_in_a_gap_names_a_neighbour_on_either_side() -> None:
    with pytest.raises(Fault, match="nearest budgets with architectures: ") as raised:
        grid_of("25B")
    (largest,) = raised.value.remedy.rpartition(": ")[2].split(" and ")
    assert len(grid_of(largest)) > 0
    with pytest.raises(Fault) as raised:
        grid_of("3M", tolerance=0.01)
    for neighbour in raised.value.remedy.rpartition(": ")[2].split(" and "):
        assert len(grid_of(neighbour, tolerance=0.01)) > 0
    assert " and " in raised.value.remedy


@pytest.mark.parametrize("tolerance", [-0.1, 1.0])
def test_a_band_that_is_none_is_refused(tolerance: float) -> None:
    with pytest.raises(Fault, match="tolerance must be at least 0 and below 1"):
        grid_of("2M", tolerance=tolerance)


def test_a_context_shorter_than_a_patch_is_refused() -> None:
    with pytest.raises(Fault, match="got context_length=9, patch_length=10"):
        grid_of("2M", context_length=9)


def test_the_misnamed_20m_architecture_is_refused_with_its_true_count_and_near_shapes() -> None:
    with pytest.raises(Fault) as raised:
        require_admissible(d_model=128, n_layers=160, n_heads=8, d_ff=512, budget=20_000_000, **SIZES)
    message = str(raised.value)
    assert "must have N within 25% of 20M, got N = 31,757,441 (31.8M)" in message
    for near in raised.value.remedy.removeprefix("nearest admissible shapes: ").split("; "):
        shape = tuple(int(part.split("=")[1]) for part in near.split(", "))
        assert shape in shapes(grid_of("20M"))
        assert shape[0] == 128


def test_d_64_l_64_is_a_2m_architecture_with_the_narrow_feed_forward_alone() -> None:
    shape = {"d_model": 64, "n_layers": 64, "n_heads": 4, "budget": 2_000_000, **SIZES}
    assert require_admissible(**shape, d_ff=128).d_ff == 128
    with pytest.raises(Fault, match="architecture"):
        require_admissible(**shape, d_ff=256)


def test_an_admissible_architecture_keeps_the_base_and_its_heads_are_checked() -> None:
    base = BASE.model_copy(update={"pooling": "last", "dropout": 0.4})
    shape = {"d_model": 128, "n_layers": 10, "d_ff": 512, "budget": 2_000_000, **SIZES}
    config = require_admissible(**shape, n_heads=4, base=base)
    assert (config.pooling, config.dropout, config.n_heads) == ("last", 0.4, 4)
    with pytest.raises(Fault, match="n_heads must divide d_model, got n_heads=3, d_model=128"):
        require_admissible(**shape, n_heads=3)
