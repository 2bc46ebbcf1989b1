"""The nodes of the context sweep, for a model that reads masks and for one that cannot."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from finscale.core.budgets import Cell
from finscale.core.errors import FinscaleError, Interrupted
from finscale.longcontext.context_sweep import ContextSweepConfig, plan_contexts
from finscale.models.config import AnyConfig, DLinearConfig
from finscale.pipelines.context_sweep.nodes import (
    draw_contexts,
    judge_contexts,
    score_contexts,
    train_contexts,
)
from finscale.reporting.long_context_section import read_sections
from finscale.runtime.definition import Paths, ScalingSettings, check_runtime_params, group, resolve
from finscale.runtime.stopping import STOP
from finscale.search.config import SearchConfig
from finscale.training.config import ExecutionConfig
from finscale.windows.baselines import baseline_scores, baseline_table

CPU = ExecutionConfig(device="cpu")
HPO = SearchConfig(executor="inline", batch_provider="table")
PATHS = Paths(data="data")
SWEEP = ContextSweepConfig(context_lengths=(10,), seeds=(0,))


def swept(run: Any, folder: Path, *, sweep: ContextSweepConfig = SWEEP) -> dict[str, Any]:
    specs = plan_contexts([run.spec], run.data, sweep)
    losses = baseline_table(run.data, run.prepared)
    execution, defaults = CPU, {"best_params": None, "run_spec": None}
    runs = train_contexts(specs, run.data, [], folder, folder, run.prepared, execution, HPO, PATHS, None)
    scores, dates = score_contexts(
        runs, run.data, [], baseline_scores(losses), folder, execution, sweep, **defaults
    )
    asked = run.spec.experiment
    verdict = judge_contexts(
        specs, dates, losses, sweep, asked, Cell.parse("5K", 1), ScalingSettings(n_bootstrap=100)
    )
    provenance = {"commit": "abc123", "dirty": True, "environment": "test"}
    card = {"simulated": True, "line": "700 bars"}
    _, page, section = draw_contexts(verdict, scores, card, asked, provenance)
    return {"scores": scores, "dates": dates, "verdict": verdict, "page": page, "section": section}


@pytest.fixture
def dlinear_run(finish_run: Callable[..., Any], daily_bars: pd.DataFrame) -> Any:
    model: AnyConfig = DLinearConfig(average_bars=5)
    return finish_run(daily_bars, model=model)


def test_table_verdict_page_and_section_tell_the_same_story(daily_run: Any, tmp_path: Path) -> None:
    found = swept(daily_run, tmp_path)
    assert set(zip(found["scores"]["kind"], found["scores"]["context_length"], strict=True)) == {
        *(("trained", 10), ("trained", 20), ("hidden", 10)),
    }
    assert (tmp_path / "bars_10/seed_0/inputs.json").exists()
    assert all("allow_defaults" in flags for flags in found["scores"]["flags"])
    means = found["dates"].groupby(["kind", "context_length", "split"])["log_loss"].mean()
    for place, of_place in found["scores"].groupby(["kind", "context_length", "split"]):
        assert of_place["log_loss"].to_numpy() == pytest.approx(means[place])
    section = read_sections({"context_5K_h1": found["section"]})["context_5K_h1"]
    assert all(sentence in found["page"] for sentence in section.sentences)
    assert "SIMULATED data" in found["page"]
    assert "commit abc123 (modified)" in section.provenance
    assert set(section.drawn) == {"context_5K_h1_loss_against_context"}


def test_a_model_that_cannot_read_masks_has_no_hidden_rows_and_the_page_says_so(
    dlinear_run: Any, tmp_path: Path
) -> None:
    found = swept(dlinear_run, tmp_path)
    assert set(found["scores"]["kind"]) == {"trained"}
    assert found["verdict"]["hidden"] == "this dlinear cannot read masks"
    assert "No bars were hidden: this dlinear cannot read masks." in found["page"]
    assert found["section"]["note"] == "No bars were hidden: this dlinear cannot read masks."


def test_bars_are_hidden_only_where_that_is_asked_for(daily_run: Any, tmp_path: Path) -> None:
    found = swept(daily_run, tmp_path, sweep=SWEEP.model_copy(update={"hidden": False}))
    assert set(found["scores"]["kind"]) == {"trained"}
    assert found["verdict"]["hidden"] == "context_sweep.hidden is false"


def test_a_stop_between_two_trainings_keeps_what_was_trained_and_goes_on_from_there(
    daily_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tmp_path / "bars_10/seed_0/result.json"
    with monkeypatch.context() as stopping:
        stopping.setattr(STOP, "requested", first.exists)
        with pytest.raises(Interrupted, match="its checkpoint holds"):
            swept(daily_run, tmp_path)
    before = first.stat().st_mtime_ns
    found = swept(daily_run, tmp_path)
    assert first.stat().st_mtime_ns == before
    assert set(found["scores"]["outcome"]) == {"complete"}


def test_settings_of_the_sweep_are_legal_on_the_command_line_and_an_unknown_one_is_refused() -> None:
    check_runtime_params({"context_sweep": {"seeds": 1}})
    parameters = {
        "experiment": "asked",
        "budget": "20K",
        "horizon": 1,
        "long_context": "small",
        "long_context_blocks": {"small": {}},
        "experiments": {"asked": {"title": "t"}},
        "feature_sets": {"a25": ["close"]},
        "paths": {"data": "data"},
        "sweep": {"budgets": ["20K"], "horizons": [1]},
        "context_sweep": {"seed": 1, "context_lengths": "10 x"},
    }
    with pytest.raises(FinscaleError) as caught:
        resolve(parameters, sources=None)
    said = str(caught.value)
    assert "context_sweep.seed must be a known key, got 1; did you mean 'seeds'?" in said
    assert "context_sweep.context_lengths.1 must" in said
    typed = {"context_sweep": {"context_lengths": [5], "seeds": (7,)}}
    assert group(typed, "context_sweep") == ContextSweepConfig(context_lengths=(5,), seeds=(7,))
