import json
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from finscale.core.errors import FinscaleError
from finscale.reporting.cautions import cautions
from finscale.reporting.page import page
from finscale.reporting.report import render_report
from finscale.reporting.study import ReportInput
from finscale.reporting.summary import compose, scaling_summary, summary_markdown
from finscale.scalinglaws.sentences import headline, sentences
from finscale.scalinglaws.verdict import scaling_verdict

Make = Callable[..., ReportInput]


def own_part(document: str) -> str:
    """Return a report without plotly.js."""
    library = page("", "").split("<script>")[1].split("</script>")[0]
    assert document.count(library) == 1
    return document.replace(library, "")


def text_of(document: str) -> str:
    joined = re.sub(r"</?span[^>]*>", "", own_part(document))
    return re.sub(r"<[^>]+>", " ", joined).replace("&nbsp;", " ")


def test_the_verdict_comes_first_then_figures_tables_checklist(make_study: Make, report: str) -> None:
    study = make_study()
    text = text_of(report)
    spoken = [headline(study.verdict), *sentences(study.verdict)]
    marks = [
        *spoken,
        "Figures ",
        "Excess loss against model size",
        "Tables ",
        "Excess loss by cell",
        "Checklist ",
    ]
    places = [text.rindex(mark) for mark in marks]
    assert places == sorted(places)


def test_nothing_is_fetched_from_the_network(report: str) -> None:
    document = own_part(report)
    assert "http" not in document
    assert not re.search(r"<link|<iframe|<img|@import|url\(|\bsrc=", document)


def test_equal_studies_give_equal_reports(make_study: Make, report: str) -> None:
    assert render_report(compose(make_study())) == report


def test_every_plot_has_its_data_and_every_figure_its_provenance(report: str) -> None:
    document = own_part(report)
    plots = re.findall(r'class="plot" id="([^"]+)"', document)
    script = document.split("const figures = {")[1]
    bodies, searches = [1, 2, 2, 1, 1, 1, 1, 2, 2, 1], 8 * [3]
    assert len(plots) == len(set(plots)) == sum(bodies) + sum(searches)
    assert all(f'"{plot}": {{' in script for plot in plots)
    sources = re.findall(r'<span class="source">commit <span [^>]*>8426252<', document)
    assert document.count("<figure>") == len(sources) == len(bodies) + sum(searches)


def test_titles_and_names_cannot_inject_markup(make_study: Make) -> None:
    study = make_study()
    evil = "</script><script>alert(1)</script>"
    study = replace(study, title=evil, data_card=evil, warnings=(evil,))
    study = replace(study, baselines=study.baselines.replace("garch", evil))
    document = own_part(render_report(compose(study)))
    assert "<script>alert" not in document
    assert document.count("</script>") == document.count("<script>") == 2


def test_missing_cells_are_named(make_study: Make) -> None:
    study = make_study(planned=("20K_h1", "2M_h5"))
    assert study.missing == ("2M_h5",)
    assert "Missing cells: 2M_h5." in text_of(render_report(compose(study)))
    assert re.search(r"\| 2M_h5 \|( - \|)+ missing \|", summary_markdown(compose(study)))


def test_a_cell_whose_runs_all_failed_is_missing(make_study: Make) -> None:
    study = make_study()
    failed = (study.cells["budget"] == "60K") & (study.cells["horizon"] == 5)
    cells = study.cells.assign(outcome=study.cells["outcome"].mask(failed, "diverged"))
    study = replace(study, cells=cells, verdict=scaling_verdict(cells))
    assert study.missing == ("60K_h5",)
    assert "Runs that diverged: 60K_h5 (3 of 3 runs)." in cautions(study)


def test_warnings_are_shown_with_their_cells(make_study: Make) -> None:
    study = make_study(n_random=6, warnings=("Few positives: 12 in the test period.",))
    flags = study.cells["flags"].to_list()
    flags[0], flags[1] = ("collapsed",), ("allow_defaults", "odd_new_flag")
    study = replace(study, cells=study.cells.assign(flags=flags))
    name = f"{study.cells['budget'][0]}_h{study.cells['horizon'][0]} (1 of 3 runs)"
    found = cautions(study)
    assert found[0] == "Few positives: 12 in the test period."
    assert f"Predictions collapsed to a constant that is not the base rate: {name}." in found
    assert any(caution.startswith("The cell was not searched") for caution in found)
    assert f"odd new flag: {name}." in found
    assert any(c.startswith("Fewer than 10 random trials") and "20K_h1, 20K_h5, 60K_h1" in c for c in found)
    text = text_of(render_report(compose(study)))
    assert all(caution in text for caution in found)


def test_a_clean_study_has_no_warnings(make_study: Make, report: str) -> None:
    assert cautions(make_study()) == ()
    assert "No warnings" in text_of(report)


def test_without_random_trials_there_is_nothing_to_say_of_equal_effort(make_study: Make) -> None:
    study = make_study()
    tuned = replace(study, trials=study.trials.query("kind != 'random'"))
    text = text_of(render_report(compose(tuned)))
    assert "Tuning curves" not in text
    assert "Equal search effort" not in text
    assert "The trend at equal search effort" not in text


def test_the_summary_is_plain_json(make_study: Make) -> None:
    study = make_study()
    read = json.loads(json.dumps(scaling_summary(compose(study)), allow_nan=False))
    assert read["verdict"] == study.verdict.overall.verdict == "scaling"
    assert read["val_score"]["overall"]["drop"] == study.verdict.overall.drop
    assert read["checklist"]["which N"] == study.checklist.which_n
    assert read["provenance"]["data_hash"] == "3f2a91c0d4e7"


def test_the_markdown_says_the_same(make_study: Make) -> None:
    study = make_study()
    text = summary_markdown(compose(study))
    assert all(sentence in text for sentence in sentences(study.verdict))
    assert study.data_card in text
    assert "### Checklist" in text


@pytest.mark.parametrize("name", ["trials", "grid", "baselines", "date_losses", "baselines_by_date"])
def test_a_report_is_made_without(make_study: Make, name: str) -> None:
    study = make_study(**{name: pd.DataFrame()})
    assert headline(study.verdict) in text_of(render_report(compose(study)))


def test_a_study_of_failures_still_reports(make_study: Make) -> None:
    study = make_study()
    cells = study.cells.assign(outcome="diverged", log_loss=np.nan, excess_loss=np.nan)
    study = replace(study, cells=cells, verdict=scaling_verdict(cells), test_verdict=None)
    text = text_of(render_report(compose(study)))
    assert "There is not enough data for a verdict yet." in text
    assert not re.search(r"\bnan\b", text.split("const figures")[0].lower())


def test_tables_without_their_columns_are_all_named_at_once(make_study: Make) -> None:
    study = make_study()
    with pytest.raises(FinscaleError) as caught:
        replace(study, cells=study.cells.drop(columns="auc"), grid=study.grid.drop(columns="n_layers"))
    assert "auc" in str(caught.value)
    assert "n_layers" in str(caught.value)
