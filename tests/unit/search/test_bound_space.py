"""Counts and combinations of random spaces, against a count by brute force."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spaces import SPACES, Settings, settings_by_brute_force

from finscale.search.bound_space import BoundSpace
from finscale.search.dimensions import values_of
from finscale.search.space import SearchSpace

ROWS = ({"pooling": "mean"}, {"pooling": "last"})


def bound(space: dict[str, Any]) -> BoundSpace:
    return SearchSpace.read(space, subject="hpo.space").bind("patchtst")


def settings_of(space: BoundSpace, row: dict[str, Any]) -> Iterator[Settings]:
    for drawn in space.combinations(row):
        yield frozenset(space.training(row, drawn).items())


@settings(deadline=None)
@given(SPACES, st.sampled_from(ROWS))
def test_combinations_are_those_of_brute_force_each_once(space: dict[str, Any], row: dict[str, Any]) -> None:
    found, every = bound(space), settings_by_brute_force(space, row)
    listed = list(settings_of(found, row))
    assert len(listed) == len(set(listed)) == found.n_combinations(row)
    assert set(listed) == every


@settings(deadline=None)
@given(SPACES, st.sampled_from(ROWS), st.integers(0, 2**32))
def test_what_is_drawn_and_what_is_typical_are_combinations(
    space: dict[str, Any], row: dict[str, Any], seed: int
) -> None:
    found, every = bound(space), settings_by_brute_force(space, row)
    for drawn in (found.draw(row, np.random.default_rng(seed)), found.center(row)):
        training = found.training(row, drawn)
        assert frozenset(training.items()) in every
        assert set(training) <= set(found.distributions())
        tied = {name: drawn[name] for name in found.training_groups}
        assert found.indices(training) == tied


@settings(deadline=None)
@given(SPACES, st.sampled_from(ROWS))
def test_of_a_point_only_the_active_part_is_kept(space: dict[str, Any], row: dict[str, Any]) -> None:
    found = bound(space)
    whole = {name: (values_of(distribution) or (None,))[0] for name, distribution in found.free.items()}
    training = found.training(row, found.active(row, whole))
    assert frozenset(training.items()) in settings_by_brute_force(space, row)


def test_a_continuous_dimension_makes_the_space_endless_only_where_it_is_active() -> None:
    one = {name: {"choices": [1]} for name in ("epochs", "learning_rate", "weight_decay", "warmup_steps")}
    found = bound(
        {
            **one,
            "dropout": {"low": 0.1, "high": 0.2, "when": {"pooling": "mean"}},
            "pooling": {"choices": ["mean", "last"]},
        }
    )
    assert [found.n_combinations(row) for row in ROWS] == [math.inf, 1]


def test_a_chain_of_conditions_is_inactive_from_its_first_broken_link_on() -> None:
    found = bound(
        {
            "optimizer": {"choices": ["adamw", "sgd"]},
            "momentum": {"choices": [0.5, 0.9], "when": {"optimizer": "sgd"}},
            "nesterov": {"choices": [True, False], "when": {"momentum": [0.9]}},
        }
    )
    known = {"optimizer": "adamw", "momentum": 0.9}
    assert not found.is_active("momentum", known)
    names = {frozenset(found.active({}, {**found.center({}), **point})) for point in _points()}
    base = {"learning_rate", "epochs", "weight_decay", "warmup_steps", "dropout", "optimizer"}
    assert names == {
        frozenset(base),
        frozenset(base | {"momentum"}),
        frozenset(base | {"momentum", "nesterov"}),
    }


def _points() -> Iterator[dict[str, Any]]:
    for optimizer, momentum in itertools.product(("adamw", "sgd"), (0.5, 0.9)):
        yield {"optimizer": optimizer, "momentum": momentum, "nesterov": True}


def test_a_group_with_a_row_dimension_follows_the_row() -> None:
    linked = [{"d_model": [64, 128], "learning_rate": [1e-3, 1e-4], "betas": [[0.9, 0.95], None]}]
    found = bound({"linked": linked})
    row = {"d_model": 128, "linked_0": 1}
    training = found.training(row, found.center(row))
    assert (training["learning_rate"], training["betas"]) == (1e-4, None)
    assert "linked_0" not in found.free
    assert found.training({"linked_0": 0}, {})["betas"] == "0.9 0.95"


def test_row_combinations_leave_out_what_is_inactive() -> None:
    space = {
        "attention": {"choices": ["mha", "gqa"]},
        "n_kv_heads": {"choices": [2, 4], "when": {"attention": "gqa"}},
        "linked": [{"norm": ["layer_norm", "rms_norm"], "bias": [True, False]}],
    }
    found = SearchSpace.read(space).bind("transformer")
    options = [{"attention": "mha"}, *({"attention": "gqa", "n_kv_heads": n} for n in (2, 4))]
    expected = [{"linked_0": index, **option} for index in (0, 1) for option in options]
    assert list(found.row_combinations()) == expected


def test_an_inactive_row_dimension_switches_on_nothing() -> None:
    space = {
        "attention": {"choices": ["mha", "gqa"]},
        "n_kv_heads": {"choices": [2, 4], "when": {"attention": "gqa"}},
        "patience": {"choices": [5, 10], "when": {"n_kv_heads": 2}},
    }
    found = SearchSpace.read(space).bind("transformer")
    assert "patience" in found.center({"attention": "gqa", "n_kv_heads": 2})
    assert "patience" not in found.center({"attention": "mha", "n_kv_heads": 2})


@pytest.mark.parametrize(("wanted", "is_meant"), [("rope", True), ("alibi", False), ({"base": 500}, True)])
def test_a_word_means_every_setting_of_its_kind(wanted: object, is_meant: bool) -> None:
    space = {
        "positions": {"choices": ["rope", "alibi", {"base": 500}]},
        "patience": {"choices": [5, 10], "when": {"positions": [wanted]}},
    }
    found = SearchSpace.read(space).bind("transformer")
    assert ("patience" in found.center({"positions": {"kind": "rope", "base": 500}})) is is_meant
