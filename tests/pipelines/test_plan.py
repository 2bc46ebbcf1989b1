"""``kedro sweep --plan``: what it would cost, nothing trained, nothing kept but what a search reads."""

import sqlite3

PLAN = ("sweep", "--env", "test", "--plan", "--budgets", "5K")


def n_tracked(project):
    database = project.folder / "mlflow.db"
    if not database.exists():
        return 0
    with sqlite3.connect(database) as connection:
        return connection.execute("SELECT count(*) FROM runs").fetchone()[0]


def test_a_plan_prints_cells_and_hours_and_trains_and_records_nothing(project):
    done = project.kedro(*PLAN, "--params", "hpo.n_workers=1")
    assert done.code == 0, done.out
    (row,) = [line for line in done.out.splitlines() if line.startswith("│ 5K_h1")]
    cells = [part.strip() for part in row.split("│")[1:-1]]
    assert cells[0] == "5K_h1"
    assert cells[2:4] == ["3 of 3", "2"]
    assert "MiB" in cells[6]
    assert cells[7].startswith("steps timed on ")
    assert "In all 3 trials and 2 final trainings, 1 cell x 1 = 1 at once" in done.out
    made = {path.name for path in (project.folder / "data/test").iterdir()}
    assert "05_model_input" in made
    assert not list((project.folder / "data/test").rglob("06_models/*/*"))
    assert n_tracked(project) == 0


def test_a_faulty_parameter_is_the_usual_plain_error(project):
    done = project.kedro(*PLAN, "--params", "hpo.n_trails=3")
    assert done.code == 1
    assert "hpo.n_trails must be a known key" in done.out
    assert "did you mean 'n_trials'?" in done.out
    assert "Traceback" not in done.out
