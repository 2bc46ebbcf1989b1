"""The page of an evaluation marks what was tuned, and the main report shows its headline with records."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from test_report_records import unsourced

from finscale.core.errors import FinscaleError
from finscale.longcontext.config import LongContextConfig
from finscale.longcontext.gates import Gate
from finscale.longcontext.rows import RetrievalRow, accuracy, rows_table
from finscale.longcontext.verdict import Verdict
from finscale.reporting.long_context_report import long_context_figures, render_long_context
from finscale.reporting.long_context_results import LongContextResults
from finscale.reporting.long_context_section import LongContextSection
from finscale.reporting.report import render_report
from finscale.reporting.summary import all_tables, compose, scaling_summary, summary_markdown

CONF = Path(__file__).parents[3] / "conf" / "base" / "parameters_long_context_eval.yml"
LINE = "commit abc1 · environment test · block b 0f3a"
EMPTY = {name: pd.DataFrame({"measure": []}) for name in ("system", "attention", "losses", "positions")}
TUNING = {"n_steps": 7, "length": 128}


def results_of(config: LongContextConfig) -> LongContextResults:
    rows = [
        RetrievalRow(
            task=task, length=length, depth=depth, mode=mode, seed=0, **accuracy([1.0, 0.0]), runtime_s=0.1
        )
        for mode in config.modes
        for length in (4096, 8192)
        for task, depth in (("needle", 0.5), ("latest", 0.5), ("common_words", None))
    ]
    gate = Gate(name="memory_growth", mode=config.modes[0], outcome="not_measurable", reason="not streamed")
    said = ("Nothing <yet> at 0.5 of 100 %.",)
    verdict = Verdict(experiment_name=config.experiment_name, gates=(gate,), sentences=said)
    return LongContextResults.of(config, verdict=verdict, rows=rows_table(rows), **EMPTY)


@pytest.fixture(scope="module")
def block() -> dict[str, Any]:
    return yaml.safe_load(CONF.read_text(encoding="utf-8"))["long_context_blocks"]["base"]


@pytest.fixture(scope="module")
def tuned(block: dict[str, Any]) -> LongContextResults:
    return results_of(LongContextConfig.read(block | {"tuning": TUNING}))


@pytest.fixture(scope="module")
def section(block: dict[str, Any]) -> dict[str, Any]:
    """What one block leaves for the main report, as it stands in its file."""
    config = LongContextConfig.read(block)
    results = results_of(config)
    figures = long_context_figures(results, config, provenance=LINE)
    found = LongContextSection.of(results, figures, provenance=LINE)
    return json.loads(json.dumps(found.model_dump(mode="json"), allow_nan=False))


def test_tuned_rows_are_marked_in_tables_figures_and_gates_and_a_note_says_how(
    block: dict[str, Any], tuned: LongContextResults
) -> None:
    config = LongContextConfig.read(block | {"tuning": TUNING})
    figures = long_context_figures(tuned, config, provenance=LINE)
    assert {trace.name for trace in figures["retrieval"].data} == {"rope (tuned)", "none (tuned)"}
    page = render_long_context(tuned, figures, provenance=LINE)
    assert page.count(">rope (tuned)</td>") == 3 + 1
    assert ">rope</td>" not in page
    assert "7 steps of 1 x 128 tokens" in page


def test_the_values_of_a_tuned_ablation_are_found_under_their_marks(block: dict[str, Any]) -> None:
    ablation = {"of": {}, "setting": "positions", "values": {"a": {"kind": "rope"}, "b": {"kind": "none"}}}
    config = LongContextConfig.read(block | {"tuning": TUNING, "variants": {}, "ablation": ablation})
    figure = long_context_figures(results_of(config), config, provenance=LINE)["ablation"]
    assert list(figure.data[0].y) == ["a (tuned)", "b (tuned)"]
    assert figure.data[0].z[0][0] == 0.5


def test_rows_that_were_not_tuned_are_not_marked(block: dict[str, Any]) -> None:
    results = results_of(LongContextConfig.read(block))
    assert set(results.rows["mode"]) == {"rope", "none"}
    assert results.note == ""


def test_the_main_report_shows_every_finished_block_and_each_number_has_its_record(
    make_study: Any, section: dict[str, Any]
) -> None:
    found = {"base": section, "qwen_1.5b": section | {"note": "Rows marked 3 were tuned."}}
    report = compose(make_study(), long_context=found)
    page, record = render_report(report), json.loads(json.dumps(scaling_summary(report), allow_nan=False))
    assert list(unsourced(page, record)) == []
    assert "Nothing &lt;yet&gt; at 0.5 of 100 %." in page
    assert page.count("Accuracy: needle (base)") == page.count("Accuracy: latest (qwen_1.5b)") == 1
    assert "common_words (base)" not in page
    assert '<a href="#long-context">Long context</a>' in page
    assert page.index('id="qwen_1.5b_retrieval"') < page.index("const figures = ")
    assert page.count("const figures = ") == 1
    assert "Rows marked 3 were tuned." in page
    titles = [table.key for table in all_tables(report)]
    assert len(titles) == len(set(titles))
    assert "Accuracy: needle (base)" in summary_markdown(report)


def test_without_evaluations_the_main_report_is_as_it_was(make_study: Any, report: str) -> None:
    assert render_report(compose(make_study(), long_context={})) == report
    assert "long-context" not in report.split("</nav>", maxsplit=1)[0]


def test_a_section_of_another_version_is_refused_by_the_name_of_its_block(
    make_study: Any, section: dict[str, Any]
) -> None:
    with pytest.raises(FinscaleError, match=r"section.json of base\.surplus"):
        compose(make_study(), long_context={"base": section | {"surplus": 1}})
