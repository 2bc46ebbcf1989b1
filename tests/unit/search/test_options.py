from typing import Any

import pytest

from finscale.core.errors import FinscaleError
from finscale.models.config import PatchTSTConfig, TransformerConfig
from finscale.search.options import read_config, same_model, values_in, view_of
from finscale.windows.view import WindowView

DECODER = TransformerConfig(d_model=16, n_layers=1, n_heads=4, d_ff=32)


def test_a_config_is_read_with_row_dimensions_and_without_what_belongs_to_others() -> None:
    base = PatchTSTConfig(d_model=16, n_layers=1, n_heads=2, d_ff=32)
    values = {"d_model": 32, "norm": "rms_norm", "epochs": 3, "features": ("a",), "context_length": 8}
    assert read_config(base, values) == base.model_copy(update={"d_model": 32, "norm": "rms_norm"})


def test_a_base_of_rotations_replaces_that_of_the_positions() -> None:
    read = read_config(DECODER, {"rope_base": 500.0})
    assert read.positions.model_dump() == {**DECODER.positions.model_dump(), "base": 500.0}
    assert values_in(read)["rope_base"] == 500.0
    with pytest.raises(FinscaleError, match="rope_base must be left out unless positions=rope"):
        read_config(DECODER, {"rope_base": 500.0, "positions": "alibi"})


@pytest.mark.parametrize(("n_heads", "asked", "read"), [(4, 3, 4), (4, 2, 2), (8, 3, 8), (2, 4, 2)])
def test_keys_are_shared_evenly_or_not_at_all(n_heads: int, asked: int, read: int) -> None:
    values = {"n_heads": n_heads, "attention": "gqa", "n_kv_heads": asked}
    assert read_config(DECODER, values).n_kv_heads == read


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({"attention": "gqa", "n_kv_heads": 4}, {"attention": "mha"}),
        ({"attention": "gqa", "n_kv_heads": 1}, {"attention": "mqa"}),
        ({"attention": "gqa", "n_kv_heads": 2}, {"attention": "gqa", "n_kv_heads": 2}),
        ({"attention": "mha"}, {"attention": "mha"}),
    ],
)
def test_two_names_of_one_attention_are_one_model(options: dict[str, Any], same: dict[str, Any]) -> None:
    assert same_model(read_config(DECODER, options)) == read_config(DECODER, same)


def test_a_view_of_everything_is_no_view() -> None:
    windows: dict[str, Any] = {"features": ("a", "b", "c"), "context_length": 9}
    assert view_of({}, **windows) is None
    assert view_of({"features": ["c", "b", "a"], "context_length": 9}, **windows) is None
    assert view_of({"features": ["c", "a"]}, **windows) == WindowView(features=("a", "c"))
    assert view_of({"context_length": 4}, **windows) == WindowView(context_length=4)
