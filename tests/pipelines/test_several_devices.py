"""Trials and final trainings of two processes each, as a user asks for them."""

import json

import pandas as pd
import yaml

RUN = ("run", "--env", "test", "--pipelines", "hpo,training", "--params")


def test_a_search_and_its_final_trainings_are_shared_out_among_two_processes(project):
    path = project.folder / "conf/test/parameters.yml"
    settings = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**settings, "execution": {"strategy": "ddp"}}))
    wanted = "hpo.n_trials=1,hpo.n_random=0,training.n_seeds=1,hpo.n_workers=1"

    refused = project.kedro(*RUN, wanted)
    assert refused.code == 1
    assert "execution.strategy must be one where hpo.n_processes is 1, got 'ddp'" in refused.out
    assert not list(project.folder.glob("data/test/06_models/**/study.db"))

    done = project.kedro(*RUN, f"{wanted},hpo.n_processes=2")
    assert done.code == 0, done.out
    models = project.folder / "data/test/06_models"
    trials = pd.read_parquet(models / "hpo/sp500_test/5K_h1/trials.parquet")
    assert (trials["strategy"].tolist(), trials["n_processes"].tolist()) == (["ddp"], [2])
    [seed] = models.glob("training/sp500_test/5K_h1/seed_*")
    executed = json.loads((seed / "result.json").read_text())["executed"]
    assert (executed["strategy"], executed["n_processes"]) == ("ddp", 2)
    assert "Finished" in (seed / "events.jsonl").read_text()
