"""An unreachable tracking server is reported once and replaced by the local file."""

import yaml


def test_a_dead_server_neither_stops_nor_slows_a_run(project):
    local = {"server": {"mlflow_tracking_uri": "http://127.0.0.1:9"}}
    (project.folder / "conf/test/mlflow.yml").write_text(yaml.safe_dump(local))
    done = project.kedro("run", "--env", "test", "--pipelines", "feature_engineering", timeout=120)
    assert done.code == 0, done.out
    assert "did not answer" in done.out
    assert (project.folder / "mlflow.db").exists()
