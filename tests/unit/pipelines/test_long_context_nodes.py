"""The nodes of the long-context evaluation, one after the other on a miniature block."""

import json
from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from finscale.core.errors import FinscaleError
from finscale.pipelines.long_context_eval.nodes import draw_retrieval, evaluate_retrieval, train_decoders

CONF = Path(__file__).parents[3] / "conf" / "base" / "parameters_long_context_eval.yml"
NAME = "cpu_smoke"


@pytest.fixture(scope="module")
def blocks() -> dict:
    loaded = yaml.safe_load(CONF.read_text(encoding="utf-8"))["long_context_blocks"]
    loaded[NAME]["training"]["n_steps"] = 3
    return loaded


def test_rows_metrics_and_figures_tell_the_same_story(blocks: dict) -> None:
    before = deepcopy(blocks)
    weights, curves, record = train_decoders(NAME, blocks)
    rows, metrics = evaluate_retrieval(weights, record, NAME, blocks)
    provenance = {"commit": "abc123", "dirty": True, "environment": "test"}
    figures = draw_retrieval(rows, record, provenance, NAME, blocks)
    assert blocks == before
    assert len(curves) == 2 * 3
    assert len(rows) == len(metrics.splitlines()) == 2 * 2 * 2 * 2
    assert [json.loads(line)["acc"] for line in metrics.splitlines()] == rows["acc"].tolist()
    assert {figure.layout.meta["provenance"] for figure in figures} == {
        f"commit abc123 (modified) · environment test · block {NAME} {record['training_hash']}"
    }


def test_a_block_that_is_not_in_conf_is_refused_before_anything_is_trained(blocks: dict) -> None:
    with pytest.raises(FinscaleError, match=r"long_context must name a block, got '\.\./x'"):
        train_decoders("../x", blocks)
