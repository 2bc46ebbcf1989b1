"""What is wrong with quantiles shows in the numbers of the figures, the table and the sentences."""

import dataclasses
import json
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from scipy.stats import norm
from simulated_quantiles import LEVELS, quantile_tables
from simulated_study import build_study
from test_report_records import unsourced

from finscale.reporting.quantile_evidence import STRETCH, QuantileEvidence, gather_evidence
from finscale.reporting.quantile_figures import quantile_figures
from finscale.reporting.quantile_section import (
    QuantileSection,
    quantile_sections,
    quantile_sentences,
)
from finscale.reporting.report import render_report
from finscale.reporting.study import ReportInput
from finscale.reporting.summary import Report, all_tables, compose, scaling_summary, summary_markdown
from finscale.windows.measures import MEASURES

NARROW, CELL = 0.6, "600K_h1"


def evidence_of(**planted: Any) -> QuantileEvidence:
    return gather_evidence(*quantile_tables(**planted), seed=1, n_draws=200)


@pytest.fixture(scope="module")
def narrow() -> QuantileEvidence:
    """Raw quantiles are too narrow, calibrated ones the truth, climatologies too wide."""
    return evidence_of(spread=NARROW)


@pytest.fixture(scope="module")
def drawn(narrow: QuantileEvidence) -> dict[str, go.Figure]:
    return quantile_figures(narrow, name=CELL)


def trace(figure: go.Figure, name: str, mode: str = "markers") -> Any:
    (found,) = [trace for trace in figure.data if trace.name == name and trace.mode == mode]
    return found


def test_too_narrow_quantiles_show_in_reliability_and_its_bars_exclude_zero(
    drawn: dict[str, go.Figure],
) -> None:
    figure = drawn[f"reliability_{CELL}_h1"]
    less = np.array(trace(figure, "raw").y)
    expected = 100 * (norm.cdf(1.005 * NARROW * norm.ppf(LEVELS)) - LEVELS)
    assert less == pytest.approx(expected, abs=6)
    assert less[0] > trace(figure, "raw").error_y.arrayminus[0] > 0
    assert less[-1] < -trace(figure, "raw").error_y.array[-1] < 0
    calibrated = trace(figure, "calibrated")
    assert all(abs(y) <= max(low, high) for y, low, high in bars(calibrated))


def bars(points: Any) -> list[tuple[float, float, float]]:
    return list(zip(points.y, points.error_y.arrayminus, points.error_y.array, strict=True))


def test_the_shares_of_the_figures_are_those_of_the_scores(narrow: QuantileEvidence) -> None:
    for measure, column in (("share", "below_q05"), ("coverage", "coverage_80")):
        table = narrow.of(measure, horizon=3)
        own = table[table["at"] == (0.05 if measure == "share" else 80)].set_index("label")["value"]
        scores = narrow.scores.query("regime == 'all' and horizon == 3").groupby("label")[column].mean()
        assert own.to_dict() == pytest.approx(scores.to_dict())
    skill = narrow.of("skill", horizon=3).set_index("label")["value"]
    recorded = narrow.scores.query("regime == 'all' and horizon == 3").groupby("label")["skill"].mean()
    assert skill.to_dict() == pytest.approx(recorded.drop("scaled climatology").to_dict())


def test_coverage_by_horizon_falls_short_of_the_nominal_where_intervals_are_narrow(
    drawn: dict[str, go.Figure],
) -> None:
    figure = drawn[f"coverage_{CELL}"]
    assert sorted(shape.y0 for shape in figure.layout.shapes) == [50, 80, 90]
    assert list(figure.layout.xaxis.ticktext) == ["1", "3"]
    raw, good = trace(figure, "raw"), trace(figure, "calibrated")
    by_place = {(round(x), at): y for x, at, y in zip(raw.x + 0.14, raw.customdata, raw.y, strict=True)}
    for place in (0, 1):
        for at in (50, 80, 90):
            due = 100 * (1 - 2 * norm.cdf(-1.005 * NARROW * norm.ppf(0.5 + at / 200)))
            assert by_place[place, at] == pytest.approx(due, abs=6)
    assert all(
        y - low <= at <= y + high for (y, low, high), at in zip(bars(good), good.customdata, strict=True)
    )


def test_width_is_in_sigma_over_the_root_of_the_horizon(drawn: dict[str, go.Figure]) -> None:
    figure = drawn[f"width_{CELL}"]
    widths = [trace.y for trace in figure.data if trace.name == "calibrated"]
    due = [2 * norm.ppf(0.5 + percent / 200) for percent in (50, 80, 90)]
    assert [y[0] for y in widths] == pytest.approx(due)
    assert [y[1] for y in widths] == pytest.approx(due)


def test_quantiles_that_ignore_volatility_miss_by_regime_though_right_on_average() -> None:
    blind = evidence_of(spread=lambda volatility: 0.01 / volatility, calibrated=False, n_dates=1000)
    figure = quantile_figures(blind, name=CELL)[f"regimes_{CELL}_h1"]
    raw = trace(figure, "raw")
    covered = {(round(x), at): y for x, at, y in zip(raw.x + 0.14, raw.customdata, raw.y, strict=True)}
    assert list(figure.layout.xaxis.ticktext) == ["low", "middle", "high"]
    assert covered[0, 80] > 88
    assert covered[2, 80] < 70
    coverage = quantile_figures(blind, name=CELL)[f"coverage_{CELL}"]
    assert trace(coverage, "raw").y[1] == pytest.approx(80, abs=5)


def test_the_histogram_is_a_u_where_quantiles_are_narrow_and_flat_inside_its_band_where_they_are_right(
    drawn: dict[str, go.Figure],
) -> None:
    figure = drawn[f"pit_{CELL}_h1"]
    (band,) = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert band.y1 - 1 == pytest.approx(1.96 * 3 / np.sqrt(400))
    raw, good = (np.array(trace(figure, name, "lines").y) for name in ("raw", "calibrated"))
    assert min(raw[0], raw[-1]) > band.y1
    assert raw[4] < 1
    assert np.mean((band.y0 <= good) & (good <= band.y1)) >= 0.9
    under, over = trace(figure, "raw").y
    assert under == pytest.approx(norm.cdf(1.005 * NARROW * norm.ppf(0.05)) / 0.05, abs=1)
    assert over == pytest.approx(under, abs=1.5)


def test_a_forecast_that_is_too_high_has_its_outcomes_under_it() -> None:
    high = quantile_figures(evidence_of(shift=0.5, calibrated=False), name=CELL)
    under, over = trace(high[f"pit_{CELL}_h1"], "raw").y
    assert (under, over) == pytest.approx(
        (norm.cdf(-1.645 + 0.5) / 0.05, norm.sf(1.645 + 0.5) / 0.05), abs=0.6
    )
    steps = trace(high[f"pit_{CELL}_h1"], "raw", "lines").y
    assert steps[0] > 1.5
    assert steps[-1] < 0.7
    assert min(trace(high[f"reliability_{CELL}_h1"], "raw").y) > 0


def test_the_band_widens_where_windows_overlap(drawn: dict[str, go.Figure]) -> None:
    heights = {}
    for horizon in (1, 3):
        (band,) = [s for s in drawn[f"pit_{CELL}_h{horizon}"].layout.shapes if s.type == "rect"]
        heights[horizon] = band.y1 - 1
    assert heights[3] == pytest.approx(heights[1] * np.sqrt(400 / 134))


def test_the_fan_is_the_last_stretch_in_per_cent_of_return_and_counts_what_lies_inside(
    narrow: QuantileEvidence, drawn: dict[str, go.Figure]
) -> None:
    rows, _ = quantile_tables(spread=NARROW)
    own = rows.query("calibrated and seed == 0 and horizon == 3").iloc[-STRETCH:]
    figure = drawn[f"quantile_fan_{CELL}_h3"]
    assert list(figure.data[0].x) == list(own["date"].dt.strftime("%Y-%m-%d"))
    low, high, *_ = figure.data
    assert np.array(low.y) == pytest.approx(100 * (own["q05"] * own["volatility"]).to_numpy())
    assert np.array(high.y) == pytest.approx(100 * (own["q95"] * own["volatility"]).to_numpy())
    inside, outside = trace(figure, "inside 90 %").y, trace(figure, "outside 90 %").y
    n_inside = int(np.isfinite(inside).sum())
    assert n_inside + np.isfinite(outside).sum() == STRETCH
    assert n_inside == own["target"].between(own["q05"], own["q95"]).sum()
    assert figure.layout.meta["note"].startswith(f"{n_inside} of {STRETCH} outcomes of SPX")
    raw = [trace for trace in figure.data if trace.name == "raw 90 %"]
    assert np.array(raw[1].y) == pytest.approx(NARROW * np.array(high.y))
    assert "calibrated quantiles" in figure.layout.meta["caption"]


@pytest.mark.parametrize(
    ("planted", "words"),
    [
        ({}, "have a lower pinball loss than volatility-scaled climatology (skill +"),
        ({"climate": 1.0}, "do not beat volatility-scaled climatology"),
        ({"spread": 3.0, "calibrated": False}, "have a higher pinball loss than volatility-scaled"),
        ({"n_dates": 7}, "cannot be told from volatility-scaled climatology"),
    ],
)
def test_the_sentence_on_climatology_follows_the_interval(planted: dict[str, Any], words: str) -> None:
    evidence = evidence_of(**planted)
    said, _ = quantile_sentences(evidence, CELL)
    assert words in said
    assert evidence.judged in said
    assert ("95 % interval" in said) == ("n_dates" not in planted)


def test_coverage_that_is_off_is_named_with_its_size(narrow: QuantileEvidence) -> None:
    off = evidence_of(spread=NARROW, calibrated=False)
    _, said = quantile_sentences(off, CELL)
    covered = 100 * off.of("coverage", horizon=1).query("label == 'raw' and at == 90")["value"].item()
    assert f"90 % at horizon 1 cover {covered:.1f} %" in said
    assert "6 central intervals, 6 cover more than 3 points off what they name, 6 of them by more" in said
    held = evidence_of(n_dates=3000, calibrated=True)
    assert quantile_sentences(held, CELL)[1].endswith("each covers within 3 points of what it names.")


def test_blocks_count_dates_where_a_date_has_many_origins() -> None:
    rows, scores = quantile_tables(horizons=(48,), n_seeds=1, n_dates=2400)
    days = rows.assign(date=rows["date"].rank(method="dense").sub(1).floordiv(24).map(int))
    assert gather_evidence(days, scores, seed=1, n_draws=50).of("coverage")["low"].notna().all()
    daily, scores = quantile_tables(horizons=(48,), n_seeds=1, n_dates=100)
    assert gather_evidence(daily, scores, seed=1, n_draws=50).of("coverage")["low"].isna().all()


def test_levels_without_partners_leave_out_what_needs_an_interval() -> None:
    evidence = evidence_of(levels=(0.2, 0.5))
    names = quantile_figures(evidence, name=CELL)
    assert {name.partition("_")[0] for name in names} == {"reliability", "pit"}
    assert "no intervals" in quantile_sentences(evidence, CELL)[1]
    single = quantile_figures(evidence_of(levels=(0.5,)), name=CELL)
    assert {name.partition("_")[0] for name in single} == {"reliability"}


@pytest.fixture(scope="module")
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    return quantile_tables(spread=NARROW)


@pytest.fixture(scope="module")
def study() -> ReportInput:
    return build_study(budgets=("20K", "600K"), horizons=(1,), n_dates=60, n_draws=50)


@pytest.fixture(scope="module")
def sections(study: ReportInput, tables: tuple[pd.DataFrame, pd.DataFrame]) -> dict[str, QuantileSection]:
    """Of two cells, one of whose runs collapsed; a third is no part of the study."""
    hit = (study.cells["budget"] == "600K") & (study.cells["seed"] == 0)
    flags = [("collapsed",) if is_hit else () for is_hit in hit]
    measure = MEASURES["quantile"]
    cells = study.cells.assign(flags=flags, **dict.fromkeys(measure.scores, 0.0))
    flagged = dataclasses.replace(study, measure=measure, cells=cells)
    (rows, scores), found = tables, ("20K_h1", CELL, "5K_h1")
    return quantile_sections(flagged, {cell: lambda: rows for cell in found}, dict.fromkeys(found, scores))


@pytest.fixture(scope="module")
def whole(study: ReportInput, sections: dict[str, QuantileSection]) -> Report:
    return compose(study, quantiles=sections)


@pytest.fixture(scope="module")
def page(whole: Report) -> str:
    return render_report(whole)


def test_the_report_shows_every_cell_largest_first_and_each_number_has_its_record(
    whole: Report, page: str, sections: dict[str, QuantileSection]
) -> None:
    assert list(sections) == [CELL, "20K_h1"]
    record = json.loads(json.dumps(scaling_summary(whole), allow_nan=False))
    assert list(unsourced(page, record)) == []
    assert '<a href="#quantiles">Quantiles</a>' in page
    assert page.count("<details open>") == 1
    assert (
        page.index(f'id="pit_{CELL}_h3"') < page.index('id="pit_20K_h1_h3"') < page.index("const figures = ")
    )
    titles = [table.key for table in all_tables(whole)]
    assert len(titles) == len(set(titles))
    assert f"Quantiles of {CELL} on the test period" in summary_markdown(whole)


def test_the_table_has_the_mean_and_the_range_over_seeds_and_leaves_the_reference_without_skill(
    sections: dict[str, QuantileSection], tables: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    rows = {(str(row[0]), str(row[1])): row for row in sections[CELL].table.rows}
    assert [label for horizon, label in rows if horizon == "1"] == [
        *("raw", "calibrated", "climatology", "scaled climatology")
    ]
    own = tables[1].query("forecast == 'model' and not calibrated and horizon == 3 and regime == 'all'")
    raw = rows["3", "raw"]
    assert raw[2].value == pytest.approx(own["pinball_loss"].mean())
    assert str(raw[3]) == f"{own['pinball_loss'].min():.4f} to {own['pinball_loss'].max():.4f}"
    assert raw[5].value == pytest.approx(own["skill"].mean())
    assert raw[6].value[0] < raw[5].value < raw[6].value[1]
    assert [str(cell) for cell in rows["3", "scaled climatology"][5:7]] == ["", ""]
    assert raw[7].value == pytest.approx(100 * own["coverage_50"].mean())


def test_a_run_that_collapsed_is_shown_loudly(
    whole: Report, page: str, sections: dict[str, QuantileSection]
) -> None:
    words = "Intervals collapsed: they cover far less than they name, or say nothing"
    assert sections[CELL].cautions == (f"{words}: {CELL} (1 of 3 runs).",)
    assert sections["20K_h1"].cautions == ()
    own = page[page.index('id="quantiles"') :]
    assert (
        own.index('<section class="cautions">') < own.index("Intervals collapsed") < own.index("test dates")
    )
    assert "**Intervals collapsed" in summary_markdown(whole)


def test_a_task_without_quantiles_has_no_section_and_its_rows_are_not_read(
    study: ReportInput, tables: tuple[pd.DataFrame, pd.DataFrame], composed: Report, report: str
) -> None:
    def unread() -> pd.DataFrame:
        raise AssertionError

    climatologies = tables[1].query("forecast != 'model'")
    for scores in (tables[1].iloc[:0], climatologies):
        assert quantile_sections(study, {CELL: unread}, {CELL: scores}) == {}
    assert 'id="quantiles"' not in report
    assert not composed.quantiles
