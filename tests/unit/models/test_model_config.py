"""Model configs say what is wrong, with the numbers."""

import subprocess
import sys
from typing import Any

import pytest

from finscale.core.errors import Fault, FinscaleError
from finscale.models.config import PatchTSTConfig, TransformerConfig, parse_model_config

SHAPE = {"d_model": 64, "n_layers": 2, "n_heads": 4, "d_ff": 128}


def test_heads_that_do_not_divide_the_width_are_refused_with_both_numbers() -> None:
    rule = r"n_heads must divide d_model, got n_heads=5, d_model=64; try n_heads=4"
    with pytest.raises(Fault, match=rule):
        PatchTSTConfig.read({**SHAPE, "n_heads": 5})
    with pytest.raises(Fault, match=rule):
        TransformerConfig.read({**SHAPE, "n_heads": 5, "vocab_size": 8})


def test_an_odd_head_is_refused_under_rope_alone() -> None:
    odd = {**SHAPE, "d_model": 6, "n_heads": 2, "vocab_size": 8}
    with pytest.raises(Fault, match=r"d_head must be even under positions=rope, got d_model=6, n_heads=2"):
        TransformerConfig.read(odd)
    assert TransformerConfig.read({**odd, "positions": "none"}).d_model == 6


def test_a_rope_base_that_nothing_would_read_is_refused() -> None:
    with pytest.raises(Fault, match="rope_base must be left out unless positions=rope, got 500"):
        TransformerConfig.read({**SHAPE, "vocab_size": 8, "positions": "none", "rope_base": 500.0})


@pytest.mark.parametrize(
    "field", [{"dropout": 1.0}, {"dropout": -0.1}, {"stride": 0}, {"patch_length": 0}, {"n_layers": 0}]
)
def test_numbers_out_of_range_are_refused(field: dict[str, float]) -> None:
    (name,) = field
    with pytest.raises(Fault, match=f"model.{name} must be"):
        parse_model_config({"family": "patchtst", **SHAPE, **field})


def test_an_unknown_family_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(
        Fault, match=r"model.family must name a known model, got 'patchtts'; did you mean 'patchtst'"
    ):
        parse_model_config({"family": "patchtts", **SHAPE})


def test_every_fault_is_shown_at_once() -> None:
    with pytest.raises(FinscaleError) as raised:
        parse_model_config({"family": "patchtst", **SHAPE, "n_layers": 0, "poolng": "mean"})
    assert "model.n_layers must be greater than 0" in str(raised.value)
    assert "did you mean 'pooling'?" in str(raised.value)


FORECAST = {"kind": "forecast", "horizon": 6, "n_channels": 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"head_per_channel": True},
            "head_per_channel must be left out unless channels=independent and head",
        ),
        ({"head_per_channel": True, "head": FORECAST}, "got channels=mixed, head.kind=forecast"),
        ({"head_per_channel": True, "channels": "independent"}, "got channels=independent, head.kind=logits"),
        (
            {"head": {**FORECAST, "columns": [0, 1]}},
            r"head.columns must be left out unless .* or instance_norm is set, got \[0, 1\]",
        ),
        ({"positions": {"kind": "learned", "base": 3}}, "base"),
        ({"head": {"kind": "logits", "horizon": 3}}, "horizon"),
        (
            {"d_model": 6, "n_heads": 2, "positions": {"kind": "rope"}},
            "d_head must be even under positions=rope",
        ),
        ({"instance_norm": "revinn"}, "instance_norm"),
        ({"head_dropout": 1.0}, "model.head_dropout must be"),
    ],
)
def test_an_option_that_the_others_leave_without_effect_is_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(FinscaleError, match=message):
        parse_model_config({"family": "patchtst", **SHAPE, **options})


def test_every_fault_of_a_patchtst_is_shown_at_once() -> None:
    head = {**FORECAST, "columns": [0, 1]}
    with pytest.raises(FinscaleError) as raised:
        PatchTSTConfig.read({**SHAPE, "n_heads": 5, "head": head, "head_per_channel": True})
    for name in ("n_heads must divide", "head.columns must", "head_per_channel must"):
        assert name in str(raised.value)


def test_configs_counts_and_grids_are_read_without_torch() -> None:
    modules = ["models.registry", "models.counting", "archgrid.enumerate", "archgrid.batching"]
    imports = ", ".join(f"finscale.{module}" for module in modules)
    code = f"import sys, {imports}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
