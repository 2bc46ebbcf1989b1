"""Several cells at once leave what they leave one after another, and stop as one does."""

import json
import os

from finscale.search.study import load_study

CELLS = ("5K_h1", "20K_h1")
AT_ONCE = ("sweep", "--env", "test", "--at-once", "2")


def studies(project):
    return [project.folder / "data/test/06_models/hpo/sp500_test" / cell for cell in CELLS]


def consoles(project):
    folder = project.folder / "data/test/07_model_output/sp500_test"
    return {cell: folder / cell / "console.log" for cell in CELLS}


def records(project):
    """All that two searches of the same cells share; instants and durations are apart."""
    best = [json.loads((study / "best_params.json").read_text()) for study in studies(project)]
    trials = [
        [(trial.params, trial.value, trial.user_attrs["arch_id"]) for trial in load_study(study).trials]
        for study in studies(project)
    ]
    return [{**found, "timestamp": None} for found in best], trials


def processes_in(folder):
    """Processes that stand in a folder."""
    places = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            places[pid] = os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            continue
    return [pid for pid, place in places.items() if place == str(folder)]


def test_two_cells_at_once_leave_equal_records_and_make_what_they_share_once(project, swept):
    done = project.kedro(*AT_ONCE, "-p", "hpo", "--params", "hpo.n_workers=1")
    assert done.code == 0, done.out
    assert records(project) == records(swept)
    said = {cell: path.read_text() for cell, path in consoles(project).items()}
    for node in ("compute_feature_set", "make_windows", "score_baseline_losses"):
        skipped = [f"{node}: unchanged, skipped" in text for text in said.values()]
        assert sorted(skipped) == [False, True], node
    for cell, path in consoles(project).items():
        assert f"{cell} began" in done.out
        assert f"{cell} done after" in done.out
        assert str(path) in done.out
        assert f"Search of {cell}" in said[cell]
        assert f"Search of {cell}" not in done.out


def test_a_first_ctrl_c_stops_all_cells_with_their_work_saved_and_none_is_left(project):
    longer = "hpo.n_workers=1,hpo.space.epochs.choices=200,training.max_steps=null,training.patience=200"

    def both_train():
        return all(list(study.glob("trials/trial_*/events.jsonl")) for study in studies(project))

    ended = project.interrupt(*AT_ONCE, "-p", "hpo", "--params", longer, when=both_train, timeout=200)
    assert ended.code == 130, ended.out
    assert "Continue with the same command: kedro sweep --env test --at-once 2" in ended.out
    assert "Traceback" not in ended.out
    for study, (cell, console) in zip(studies(project), consoles(project).items(), strict=True):
        assert f"{cell} stopped after" in ended.out
        assert "Traceback" not in console.read_text()
        assert list(study.glob("trials/trial_*/checkpoints/*"))
    assert processes_in(project.folder) == []


def test_more_than_the_machine_has_is_refused_before_anything_is_written(project):
    done = project.kedro(*AT_ONCE, "--params", "hpo.n_workers=1000")
    assert done.code == 1
    assert "sweep.at_once x hpo.n_workers must be at most" in done.out
    assert "got 2 x 1000 = 2000" in done.out
    assert not (project.folder / "data/test").exists()
