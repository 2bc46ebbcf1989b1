"""A model reads every categorical column that its windows show, or the windows are refused."""

from typing import Any

import pytest

from finscale.models.config import PatchTSTConfig, TransformerConfig
from finscale.training.inputs import columns_fault
from finscale.windows.spec import WindowSpec

SIZES = {"d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 16}
PATCHTST = PatchTSTConfig(**SIZES, patch_length=4)
SYMBOLS = TransformerConfig(**SIZES, vocab_size=3)
COLUMNS = TransformerConfig(
    **SIZES, categories=(3, 2), feature_embedding_dims=(2, 2), initial_embedding_dim=8
)


def _spec(features: tuple[str, ...], *categories: str) -> WindowSpec:
    return WindowSpec(
        experiment="tiny",
        task="classes",
        touch="high",
        horizon=1,
        context_length=8,
        features=features,
        data_hash="none",
        title="No windows",
        categories=categories,
        vocabularies={"x": ("a", "b", "c"), "y": (0, 1)},
    )


@pytest.mark.parametrize(
    ("model", "spec"),
    [
        (PATCHTST, _spec(("v",))),
        (SYMBOLS, _spec((), "x")),
        (COLUMNS, _spec(("v",), "x", "y")),
        (COLUMNS, _spec((), "x", "y")),
    ],
)
def test_a_model_that_reads_all_that_its_windows_show_is_taken(model: Any, spec: WindowSpec) -> None:
    assert columns_fault(model, spec) is None


@pytest.mark.parametrize(
    ("model", "spec", "message"),
    [
        (
            PATCHTST,
            _spec(("v",), "y"),
            "model.categories must be (2,), the labels of the windows'",
        ),
        (PATCHTST, _spec((), "x"), "model.vocab_size must be 3, the symbols of the windows, got None"),
        (SYMBOLS, _spec((), "y"), "model.vocab_size must be 2, the symbols of the windows, got 3"),
        (
            SYMBOLS,
            _spec(("v",), "x"),
            "model.vocab_size must be left out where windows",
        ),
        (COLUMNS, _spec(("v",), "y", "x"), "model.categories must be (2, 3), the labels"),
        (
            COLUMNS,
            _spec(("v",)),
            "model.categories must be (), the labels of the windows'",
        ),
    ],
)
def test_a_column_that_a_model_misses_or_expects_in_vain_is_named(
    model: Any, spec: WindowSpec, message: str
) -> None:
    assert message in str(columns_fault(model, spec))
