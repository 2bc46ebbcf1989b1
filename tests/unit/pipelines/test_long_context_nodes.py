"""The nodes of the long-context evaluation, one after the other on a miniature block."""

import html
import json
from copy import deepcopy
from pathlib import Path

import pandas as pd
import pytest
import yaml

from finscale.core.errors import FinscaleError
from finscale.pipelines.long_context_eval.nodes import (
    draw_retrieval,
    evaluate_retrieval,
    judge_retrieval,
    measure_positions,
    measure_streams,
    probe_decoders,
    train_decoders,
)

CONF = Path(__file__).parents[3] / "conf" / "base" / "parameters_long_context_eval.yml"
NAME = "cpu_smoke"
OURS = (
    *("cpu_demo", "cpu_demo_attractor", "cpu_smoke", "phase2_sanity"),
    *("ablation_irrational", "ablation_attractor", "ablation_alpha_policy", "ablation_hybrid_k"),
)


@pytest.fixture(scope="module")
def blocks() -> dict:
    """Return the blocks that train decoders, each cut to a few steps and two short lengths."""
    loaded = yaml.safe_load(CONF.read_text(encoding="utf-8"))["long_context_blocks"]
    made = {name: deepcopy(loaded[name]) for name in OURS}
    for block in made.values():
        block["seeds"] = [0]
        lengths = [16, 32] if block["symbols"]["n_active"] == 2 else [64]
        block["training"] = {**block["training"], "n_steps": 2, "tokens_per_step": 128, "lengths": lengths}
        block["evaluation"] |= {"lengths": [64, 80], "depths": [0.2, 0.8], "n_samples": 2, "longest": {}}
        block.pop("streaming", None)
    made[NAME]["streaming"] = {"modes": ["window"], "lengths": [64, 128], "chunk_length": 32}
    return made


def test_rows_metrics_streams_verdict_and_page_tell_the_same_story(blocks: dict) -> None:
    before, block = deepcopy(blocks), (NAME, blocks, None)
    weights, curves, record = train_decoders(*block)
    rows, metrics = evaluate_retrieval(weights, record, *block)
    system, csv = measure_streams(*block)
    probed = (*probe_decoders(weights, record, *block), measure_positions(*block))
    verdict = judge_retrieval(rows, system, *block)
    provenance = {"commit": "abc123", "dirty": True, "environment": "test"}
    figures, page, section = draw_retrieval(rows, system, *probed, verdict, record, provenance, *block)
    assert blocks == before
    assert len(curves) == 4 * 2
    assert len(rows) == len(metrics.splitlines()) == 5 * (2 * 2 * 2 + 3 * 2)
    assert [json.loads(line)["acc"] for line in metrics.splitlines()] == rows["acc"].tolist()
    assert system["length"].tolist() == [64, 128]
    assert len(set(system["state_bytes"])) == 1
    assert len(csv.splitlines()) == 1 + len(system)
    line = f"commit abc123 (modified) · environment test · block {NAME} {record['training_hash']}"
    assert {figure.layout.meta["provenance"] for figure in figures.values()} == {line}
    assert all(name in page for name in figures)
    assert html.escape(verdict["sentences"][0]) in page
    assert set(figures) >= {
        *("attention_at_the_needle", "attention_along_the_haystack", "loss_against_distance"),
        *("position_returns", "position_spectrum", "phase_errors"),
    }
    assert section["sentences"] == verdict["sentences"]
    assert set(section["figures"]) == {"retrieval", "attention_at_the_needle", "loss_against_distance"}
    assert section["provenance"] == line
    attention, losses, _ = probed
    assert set(attention["mode"]) == set(losses["mode"]) == set(rows["mode"])


@pytest.mark.parametrize("name", OURS)
def test_every_block_of_decoders_completes_a_miniature_run(blocks: dict, name: str) -> None:
    weights, _, record = train_decoders(name, blocks, None)
    rows, _ = evaluate_retrieval(weights, record, name, blocks, None)
    verdict = judge_retrieval(rows, pd.DataFrame(), name, blocks, None)
    provenance = {"commit": "abc123", "dirty": False, "environment": "test"}
    block = (name, blocks, None)
    probed = (*probe_decoders(weights, record, *block), measure_positions(*block))
    figures, _, _ = draw_retrieval(rows, pd.DataFrame(), *probed, verdict, record, provenance, *block)
    assert ("ablation" in figures) == name.startswith("ablation_")
    assert {gate["outcome"] for gate in verdict["gates"]} >= {"not_measurable"}


def test_one_value_of_an_ablation_runs_alone(blocks: dict) -> None:
    block = ("ablation_irrational", blocks, "pi")
    weights, _, record = train_decoders(*block)
    rows, _ = evaluate_retrieval(weights, record, *block)
    assert set(rows["mode"]) == {"none", "pi"}


def test_a_block_that_is_not_in_conf_is_refused_before_anything_is_trained(blocks: dict) -> None:
    with pytest.raises(FinscaleError, match=r"long_context must name a block, got '\.\./x'"):
        train_decoders("../x", blocks, None)
