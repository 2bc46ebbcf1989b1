"""A command may only ask: it answers, ends well, and leaves no study behind."""


def test_a_dry_run_answers_and_ends_well_and_a_missing_study_is_no_whole_one(project):
    asked = project.kedro(
        "run", "--env", "test", "--pipelines", "hpo,training", "--params", "hpo.dry_run=true"
    )
    assert asked.code == 0, asked.out
    assert "Search of 5K_h1, not run" in asked.out
    assert "failed" not in asked.out
    assert list(project.folder.rglob("study.db")) == []
    assert "Nothing was trained or written." in asked.out
    verified = project.kedro("run", "--env", "test", "--pipelines", "hpo", "--params", "hpo.verify=true")
    assert verified.code == 1
    assert "study.db must exist" in verified.out
