"""Named architectures run beside a search, and its winner outlives its file."""

import json

import pandas as pd

SEARCH = "hpo.n_trials=1,hpo.n_random=0,training.max_steps=2"
PLAN = """
- {budgets: [5K], d_model: 8, n_layers: 6, n_heads: 4, d_ff: 16}
- {budgets: [5K], horizons: [1], d_model: 12, n_layers: 2, n_heads: 3, d_ff: 24}
- {budgets: [20K], d_model: 32, n_layers: 160, n_heads: 8}
"""


def test_a_plan_runs_beside_its_cells_search_once_and_a_cut_winner_is_rebuilt_for_training(project):
    (project.folder / "plan.yml").write_text(PLAN)
    command = ("run", "--env", "test", "--pipelines", "hpo", "--params")
    for _ in range(2):
        done = project.kedro(*command, f"{SEARCH},hpo.supplemental=plan.yml")
        assert done.code == 0, done.out
    folder = project.folder / "data/test/06_models/hpo/sp500_test/5K_h1"
    trials = pd.read_parquet(folder / "trials.parquet")
    assert trials["kind"].tolist()[1:] == ["supplemental", "supplemental"]
    assert trials["n_heads"].tolist()[1:] == [4, 3]
    assert (trials["n_steps"] == 2).all()
    summary = json.loads((folder / "search_summary.json").read_text())
    covered = {row["dimension"]: row["tried"] for row in summary["coverage"]}
    assert {2, 6} <= set(covered["n_layers"])
    assert "n_layers: tried" in done.out
    winner = folder / "best_params.json"
    before = winner.read_bytes()
    winner.write_bytes(before[:100])
    trained = project.kedro(
        "run", "--env", "test", "--pipelines", "training", "--params", "training.n_seeds=1"
    )
    assert trained.code == 0, trained.out
    assert winner.read_bytes() == before
    assert "rebuilt from its study" in " ".join(trained.out.split())
