"""Blocks: what stands in conf is read whole, and what cannot work is refused with its numbers."""

from copy import deepcopy
from typing import Any

import pytest

from finscale.core.errors import FinscaleError
from finscale.longcontext.config import LongContextConfig, SymbolConfig, read_block


def changed(blocks: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    copy = deepcopy(blocks["cpu_demo"])
    *parents, last = path.split(".")
    place = copy
    for name in parents:
        place = place[name]
    place[last] = value
    return {"cpu_demo": copy}


def test_every_block_in_conf_is_valid(blocks: dict[str, Any]) -> None:
    assert set(blocks) == {"cpu_demo", "cpu_smoke"}
    assert all(isinstance(read_block(name, blocks), LongContextConfig) for name in blocks)


def test_the_demo_is_the_published_recipe(demo: LongContextConfig) -> None:
    assert demo.symbols == SymbolConfig(n_keys=32, n_values=32, n_noise=16, n_active=8, n_overwrites=4)
    assert (demo.model.n_layers, demo.model.d_model, demo.model.n_heads, demo.model.d_ff) == (2, 64, 4, 128)
    assert (demo.training.learning_rate, demo.training.tokens_per_step) == (5e-3, 4096)
    assert demo.model.transformer("none", vocab_size=80).positions.kind == "none"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model.positions", ["rope"], r"model\.positions must name each encoding once, none among them"),
        ("model.positions", ["none", "none"], r"model\.positions must name each encoding once"),
        ("model.positions", ["alibi", "none"], r"model\.positions\.0 must be 'rope' or 'none'"),
        ("model.n_heads", 5, r"n_heads must divide d_model, got n_heads=5, d_model=64"),
        ("model.attractor", True, r"model\.attractor must be a known key"),
        ("training.mix", {"dense": 0.9}, r"sum to 1, got \(0\.9, 0\.35, 0\.3\)"),
        ("training.lengths", [64, 54], r"training\.lengths must be even, from 56 .* to 4096 .*got \[54\]"),
        ("training.lengths", [65], r"training\.lengths must be even"),
        ("training.lengths", [8192], r"training\.lengths must be even, from 56"),
        ("training.lengths", [], r"training\.lengths must .*got 'none'"),
        ("evaluation.lengths", [257], r"evaluation\.lengths must be even"),
        ("evaluation.lengths", [22], r"hold 11 writes, 4 of them up to depth 0\.1, got \[22\]"),
        ("evaluation.depths", [0.0], r"4 of them up to depth 0\.0"),
        ("evaluation.depths", [1.5], r"evaluation\.depths"),
        ("symbols.n_values", 19, r"n_values must be at least 20, one per write of a sample, got 19"),
        ("symbols.n_keys", 7, r"n_keys must be at least n_active=8, got 7"),
        ("seeds", [], r"seeds"),
    ],
)
def test_what_cannot_work_is_refused_with_its_numbers(
    blocks: dict[str, Any], path: str, value: Any, message: str
) -> None:
    with pytest.raises(FinscaleError, match=message):
        read_block("cpu_demo", changed(blocks, path, value))


def test_a_mistyped_block_is_answered_with_the_nearest_one(blocks: dict[str, Any]) -> None:
    with pytest.raises(FinscaleError, match=r"long_context must name a block, got 'cpu_dmo'; did you mean"):
        read_block("cpu_dmo", blocks)


def test_the_number_of_rows_is_known_beforehand(demo: LongContextConfig) -> None:
    assert demo.n_rows == 2 * 5 * 5 * 2 * 3
