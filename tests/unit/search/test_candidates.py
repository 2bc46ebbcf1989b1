"""A grid times what is searched of models and data: every combination once, each counted by itself."""

import itertools
import json
from functools import cache
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finscale.archgrid.base import grid_base
from finscale.archgrid.enumerate import enumerate_grid
from finscale.core.errors import Fault, FinscaleError
from finscale.models.config import parse_model_config
from finscale.models.counting import arch_id, count_params
from finscale.search.candidates import Candidates, expand
from finscale.search.space import SearchSpace
from finscale.windows.experiment import DataConfig, ExperimentConfig
from finscale.windows.view import WindowView

FEATURES = ("a", "b", "c", "d")
SIZES = {"n_features": len(FEATURES), "context_length": 60}
GQA = {"attention": {"choices": ["mha", "gqa"]}}


def experiment(**data: Any) -> ExperimentConfig:
    return ExperimentConfig(name="tiny", title="Tiny", data=DataConfig(context_length=60, **data))


@cache
def grid_of(family: str) -> pd.DataFrame:
    return enumerate_grid(300_000, **SIZES, base=grid_base(family, {}))


@pytest.fixture(scope="module")
def grids() -> dict[str, pd.DataFrame]:
    return {family: grid_of(family) for family in ("patchtst", "transformer")}


@pytest.fixture
def expanded(grids: dict[str, pd.DataFrame]) -> Any:
    def make(
        space: dict[str, Any], *, family: str = "patchtst", tolerance: float = 0.25, rows: slice = slice(None)
    ) -> Candidates:
        bound = SearchSpace.read(space, subject="hpo.space").bind(family)
        grid = grids[family].iloc[rows]
        return expand(grid, bound, experiment=experiment(), features=FEATURES, tolerance=tolerance)

    return make


def test_without_row_dimensions_the_table_is_the_grid_itself(grids: dict[str, pd.DataFrame]) -> None:
    space = SearchSpace.read({"momentum": {"choices": [0.9]}, "optimizer": {"choices": ["sgd"]}})
    found = expand(
        grids["patchtst"], space.bind("patchtst"), experiment=experiment(), features=FEATURES, tolerance=0.25
    )
    assert found.table is grids["patchtst"]
    assert (found.n_product, found.n_duplicates, found.refused) == (len(found.table), 0, ())


@settings(max_examples=8, deadline=None)
@given(
    norms=st.lists(st.sampled_from(["layer_norm", "rms_norm", "batch_norm"]), min_size=1, unique=True),
    first=st.lists(st.booleans(), min_size=1, unique=True),
    poolings=st.lists(st.sampled_from(["mean", "last", "cls", "flatten"]), min_size=1, unique=True),
    widths=st.lists(st.sampled_from([16, 32, 48, 64]), min_size=1, unique=True),
)
def test_every_row_meets_every_option_and_what_is_left_is_counted_by_itself(
    norms: list[str], first: list[bool], poolings: list[str], widths: list[int]
) -> None:
    grid = grid_of("patchtst").iloc[::11]
    lists = {"norm": norms, "norm_first": first, "pooling": poolings, "d_model": widths}
    space = SearchSpace.read({name: {"choices": values} for name, values in lists.items()}).bind("patchtst")
    rows = grid[grid["d_model"].isin(widths)]
    expected = set()
    for config, options in itertools.product(rows["config"], itertools.product(norms, first, poolings)):
        named = dict(zip(("norm", "norm_first", "pooling"), options, strict=True))
        read = parse_model_config({**json.loads(config), **named})
        if abs(count_params(read, **SIZES).total - 300_000) <= 75_000:
            expected.add(arch_id(read, **SIZES))
    if not expected:
        return
    found = expand(grid, space, experiment=experiment(), features=FEATURES, tolerance=0.25)
    missing = [fault for fault in found.refused if fault.subject.startswith("hpo.space")]
    assert found.n_product == len(rows) * len(norms) * len(first) * len(poolings)
    assert set(found.table["arch_id"]) == expected
    assert len(found.table) == len(expected)
    assert found.n_product == len(expected) + len(found.refused) - len(missing)
    assert len(missing) == len(set(widths) - set(grid["d_model"]))
    for row in found.table.to_dict("records"):
        config = parse_model_config(json.loads(row["config"]))
        assert (row["arch_id"], row["n_params"]) == (
            arch_id(config, **SIZES),
            count_params(config, **SIZES).total,
        )
        assert [row[name] for name in lists] == [getattr(config, name) for name in lists]


def test_what_leaves_the_band_is_refused_with_its_true_count(expanded: Any) -> None:
    found = expanded({"pooling": {"choices": ["mean", "flatten"]}}, tolerance=0.02, rows=slice(30, 60))
    assert found.refused
    for fault in found.refused:
        assert fault.rule == "have N within 2% of 300K"
        named = dict(pair.split("=") for pair in fault.subject[len("candidate (") : -1].split(", "))
        sizes = {name: int(named[name]) for name in ("d_model", "n_layers", "n_heads", "d_ff")}
        config = grid_base("patchtst", {"pooling": named["pooling"]}).model_copy(update=sizes)
        assert fault.got == f"N = {count_params(config, **SIZES).total:,}"
    assert (found.table["n_params"].sub(300_000).abs() <= 6000).all()
    assert len(found.table) + len(found.refused) == found.n_product == 60


def test_a_choice_that_no_row_of_the_grid_has_is_said_and_a_range_takes_what_lies_in_it(
    expanded: Any, grids: dict[str, pd.DataFrame]
) -> None:
    found = expanded({"n_heads": {"choices": [2, 5]}, "n_layers": {"low": 2, "high": 9}})
    assert [fault.subject for fault in found.refused] == ["hpo.space.n_heads"]
    grid = grids["patchtst"]
    kept = grid[(grid["n_heads"] == 2) & (grid["n_layers"] <= 9)]
    assert found.table["arch_id"].tolist() == kept["arch_id"].tolist()
    with pytest.raises(Fault, match=r"hpo\.space must leave a candidate.*n_heads must be the value of a row"):
        expanded({"n_heads": {"choices": [5]}})


def test_keys_that_heads_cannot_share_evenly_fall_back_and_are_not_run_twice(expanded: Any) -> None:
    found = expanded(
        {**GQA, "n_kv_heads": {"choices": [1, 3, 5], "when": {"attention": "gqa"}}},
        family="transformer",
        tolerance=0.9,
    )
    table, n_rows = found.table, found.n_product // 4
    assert found.n_product == 4 * n_rows
    assert found.refused == ()
    assert set(table["n_kv_heads"].dropna()) == {1}
    assert set(table["attention"]) == {"mha", "gqa"}
    assert found.n_duplicates == 2 * n_rows == found.n_product - len(table)


def test_grouped_keys_for_every_head_are_kept_where_plain_attention_is_not_searched(expanded: Any) -> None:
    space = {"attention": {"choices": ["gqa"]}, "n_kv_heads": {"choices": [3, 5]}}
    found = expanded(space, family="transformer", rows=slice(5))
    assert found.table["n_kv_heads"].tolist() == found.table["n_heads"].tolist()
    assert (len(found.table), found.n_duplicates) == (5, 5)


def test_a_condition_multiplies_only_where_it_holds_and_elsewhere_the_base_stands(expanded: Any) -> None:
    found = expanded(
        {**GQA, "n_kv_heads": {"choices": [1, 2], "when": {"attention": "gqa"}}},
        family="transformer",
        tolerance=0.9,
        rows=slice(4),
    )
    assert found.n_product == 4 * (1 + 2)
    plain = found.table[found.table["attention"] == "mha"]
    assert plain["n_kv_heads"].tolist() == [None] * 4


def test_a_condition_on_the_grid_chooses_among_its_rows(expanded: Any) -> None:
    space = {"d_model": {"choices": [48, 64]}, "norm": {"choices": ["rms_norm"], "when": {"d_model": 64}}}
    table = expanded(space).table
    assert set(table["d_model"]) == {48, 64}
    assert set(zip(table["d_model"], table["norm"], strict=True)) == {(48, "layer_norm"), (64, "rms_norm")}


def test_features_and_contexts_are_views_with_a_count_of_their_own(expanded: Any) -> None:
    subsets = [list(FEATURES), ["c", "a"], ["a", "c"], ["a", "b"]]
    found = expanded(
        {"features": {"choices": subsets}, "context_length": {"choices": [60, 30]}},
        rows=slice(1),
        tolerance=0.9,
    )
    assert (found.n_product, found.n_duplicates) == (8, 2)
    views = [None if row is None else WindowView.model_validate_json(row) for row in found.table["view"]]
    assert views == [
        None,
        WindowView(features=("a", "c")),
        WindowView(features=("a", "b")),
        WindowView(context_length=30),
        WindowView(features=("a", "c"), context_length=30),
        WindowView(features=("a", "b"), context_length=30),
    ]
    assert found.table["features"].tolist()[1] == ("c", "a")
    for row, view in zip(found.table.to_dict("records"), views, strict=True):
        sizes = (view or WindowView()).sizes(**SIZES)
        config = parse_model_config(json.loads(row["config"]))
        assert (row["arch_id"], row["n_params"]) == (
            arch_id(config, **sizes),
            count_params(config, **sizes).total,
        )


def test_a_context_without_room_for_a_patch_is_refused_and_the_others_stay(expanded: Any) -> None:
    found = expanded({"context_length": {"choices": [60, 6]}}, rows=slice(3))
    assert len(found.table) == 3
    assert {fault.rule for fault in found.refused} == {"hold at least one patch"}


def test_what_the_windows_do_not_hold_is_said_all_at_once(expanded: Any) -> None:
    with pytest.raises(FinscaleError) as caught:
        expanded({"features": {"choices": [["a", "x"], "bc", []]}, "context_length": {"choices": [61]}})
    parts = (
        "got 'x'",
        "lists of features as choices, got 'bc'",
        "data.context_length=61",
        "at least one feature",
    )
    missing = [part for part in parts if part not in str(caught.value)]
    assert not missing, str(caught.value)


def test_features_that_are_forecast_are_not_searched(grids: dict[str, pd.DataFrame]) -> None:
    space = SearchSpace.read({"features": {"choices": [["a"]]}}).bind("patchtst")
    with pytest.raises(Fault, match="the features are what is forecast"):
        expand(
            grids["patchtst"],
            space,
            experiment=experiment(task="forecast"),
            features=FEATURES,
            tolerance=0.25,
        )


def test_linked_lists_go_together_and_an_index_without_a_row_is_said(
    expanded: Any, grids: dict[str, pd.DataFrame]
) -> None:
    linked = {"d_model": [48, 64, 100], "n_heads": [8, 4, 2], "pooling": ["mean", "last", "mean"]}
    found = expanded({"linked": [linked]})
    shapes = set(
        found.table[["linked_0", "d_model", "n_heads", "pooling"]].itertuples(index=False, name=None)
    )
    assert shapes == {(0, 48, 8, "mean"), (1, 64, 4, "last")}
    grid = grids["patchtst"]
    pairs = list(zip(grid["d_model"], grid["n_heads"], strict=True))
    assert found.n_product == pairs.count((48, 8)) + pairs.count((64, 4))
    assert [fault.got for fault in found.refused] == ["d_model=100, n_heads=2"]


def test_one_model_with_two_linked_trainings_is_two_candidates(expanded: Any) -> None:
    linked = {"pooling": ["mean", "mean"], "learning_rate": [1e-4, 1e-3]}
    found = expanded({"linked": [linked]}, rows=slice(3))
    assert found.table["linked_0"].tolist() == [0, 1] * 3
    assert found.n_duplicates == 0


def test_candidates_have_a_hash_of_their_own(expanded: Any, grids: dict[str, pd.DataFrame]) -> None:
    spaces = [
        {"pooling": {"choices": ["mean", "last"]}},
        {"pooling": {"choices": ["mean"]}},
        {"features": {"choices": [["a", "b"]]}},
        {"features": {"choices": [["a", "c"]]}},
    ]
    hashes = [expanded(space).table["grid_hash"].unique().tolist() for space in spaces]
    assert len({*map(tuple, hashes), (grids["patchtst"]["grid_hash"].iloc[0],)}) == 5
    assert all(len(found) == 1 for found in hashes)
    assert expanded(spaces[0]).table["grid_hash"].iloc[0] == hashes[0][0]


def test_a_candidate_that_falls_below_the_band_is_refused_as_well(expanded: Any) -> None:
    with pytest.raises(Fault, match=r"first reasons: candidate .*have N within 1% of 300K, got N = 2"):
        expanded({"features": {"choices": [["a"]]}}, tolerance=0.01, rows=slice(3))
