"""Every environment resolves for sample cells, and all but demo and test ask the same question."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from kedro.config import OmegaConfigLoader

from finscale.core.errors import FinscaleError, user_fault
from finscale.longcontext.config import LongContextConfig, read_block
from finscale.runtime.config_loader import FinscaleConfigLoader
from finscale.runtime.definition import resolve
from finscale.settings import CONFIG_LOADER_ARGS

CONF = Path(__file__).resolve().parents[2] / "conf"
ENVIRONMENTS = ["base", "local", "local_mps", "colab_a100", "cluster", "demo", "test"]
CELLS = [("5K", 1), ("2000K", 3.0), ("2B", 10)]
EXECUTION = {"execution", "device", "provenance"}
EXECUTION_OF_SEARCH = {"executor", "n_workers", "n_processes", "n_gpus", "batch_provider"}


def loader(env: str, **runtime_params: Any) -> FinscaleConfigLoader:
    return FinscaleConfigLoader(str(CONF), env=env, runtime_params=runtime_params, **CONFIG_LOADER_ARGS)


def resolved(env: str, **runtime_params: Any) -> dict[str, Any]:
    return loader(env, **runtime_params)["parameters"]


@pytest.mark.parametrize("env", ENVIRONMENTS)
@pytest.mark.parametrize(("budget", "horizon"), CELLS)
def test_parameters_and_catalog_resolve_for_any_cell(env, budget, horizon):
    found = resolved(env, budget=budget, horizon=horizon)
    catalog = loader(env, budget=budget, horizon=horizon)["catalog"]
    assert found["cell"]["horizon"] == int(horizon)
    assert catalog["study"]["filepath"].endswith(
        f"{ {'5K': '5K', '2000K': '2M', '2B': '2B'}[budget] }_h{int(horizon)}/study.db"
    )
    assert "${" not in str({name: entry for name, entry in catalog.items() if not name.startswith("_")})


def question(env: str) -> dict[str, Any]:
    found = resolved(env, budget="20M", horizon=3)
    asked = {name: value for name, value in found.items() if name not in EXECUTION}
    asked["hpo"] = {name: value for name, value in found["hpo"].items() if name not in EXECUTION_OF_SEARCH}
    return asked


@pytest.mark.parametrize("env", ["local", "local_mps", "colab_a100", "cluster"])
def test_an_environment_changes_only_how_it_runs(env):
    assert question(env) == question("base")


def test_the_environments_do_differ_in_how_they_run():
    devices = {env: resolved(env)["execution"].get("device") for env in ("local_mps", "colab_a100", "base")}
    assert devices == {"local_mps": "mps", "colab_a100": "cuda", "base": "auto"}


def test_on_a_cluster_the_environment_names_the_server_that_tracks_runs(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example:5000")
    servers = {env: loader(env)["mlflow"]["server"]["mlflow_tracking_uri"] for env in ("base", "cluster")}
    assert servers == {"base": f"sqlite:///{CONF.parent}/mlflow.db", "cluster": "https://mlflow.example:5000"}
    kept = loader("cluster")["mlflow"]["tracking"]["experiment"]["create_experiment_kwargs"]
    assert kept == {"artifact_location": None}
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert loader("cluster")["mlflow"] == loader("base")["mlflow"]


def test_a_server_with_a_password_in_its_address_is_refused_without_repeating_it(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:correct-horse@mlflow.example")
    with pytest.raises(Exception, match="MLFLOW_TRACKING_URI must hold no credentials") as told:
        loader("cluster")["mlflow"]
    assert "correct-horse" not in str(told.value)
    assert "MLFLOW_TRACKING_PASSWORD" in (user_fault(told.value) or "")


def test_a_device_named_on_the_command_line_outranks_the_environment():
    assert resolved("colab_a100", device="cpu")["execution"]["device"] == "cpu"


def test_an_environment_adds_to_a_group_without_dropping_its_siblings():
    assert resolved("demo")["training"].keys() == resolved("base")["training"].keys()


def test_demo_and_test_have_an_experiment_and_a_data_folder_of_their_own():
    named = {
        env: (resolved(env)["definition"]["name"], resolved(env)["paths"]["data"]) for env in ENVIRONMENTS
    }
    assert named["demo"] == ("sp500_demo", str(CONF.parent / "data/demo"))
    assert named["test"] == ("sp500_test", str(CONF.parent / "data/test"))
    assert {named[env] for env in ENVIRONMENTS[:5]} == {
        ("spy_daily_threshold_1pct", str(CONF.parent / "data"))
    }


def test_the_title_of_every_experiment_says_what_data_it_is():
    experiments = resolved("base")["experiments"]
    said = {"sp500": "S&P 500", "sp500_vix": "S&P 500", "us_indices": "S&P 500 and Nasdaq"}
    said |= dict.fromkeys(("simulated_intraday", "simulated_futures"), "simulated")
    assert len(experiments) >= 10
    for name in experiments:
        found = resolved("base", experiment=name)["definition"]
        assert said[found["data"]["source"]] in found["title"], name


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_an_unknown_key_in_a_file_is_refused(env):
    parameters = OmegaConfigLoader(str(CONF), env=env, **CONFIG_LOADER_ARGS)["parameters"]
    with pytest.raises(FinscaleError, match="did you mean 'experiment'"):
        resolve({**parameters, "experimnet": 1}, sources=None)


def test_overrides_of_the_data_block_reach_the_definition():
    found = resolved("base", data={"task": "direction", "split": {"fractions": "0.6 0.2 0.2"}})["definition"]
    assert found["data"]["task"] == "direction"
    assert found["data"]["split"]["fractions"] == [0.6, 0.2, 0.2]


def test_a_source_that_the_catalog_does_not_have_is_refused():
    with pytest.raises(FinscaleError, match="did you mean 'sp500'"):
        resolved("base", data={"source": "sp50"})


def test_every_environment_directory_is_kept_by_git_and_is_valid_yaml():
    for env in ENVIRONMENTS[1:]:
        assert (CONF / env / ".gitkeep").exists(), env
        for file in (CONF / env).glob("*.yml"):
            assert yaml.safe_load(file.read_text()) is not None


def test_bars_are_bound_to_the_source_of_the_experiment():
    assert loader("base", data={"source": "nasdaq"})["catalog"]["bars"]["source"]["symbol"] == "nasdaq"
    own = loader("base", data={"source": "file", "path": "my.csv"})["catalog"]["bars"]["source"]
    assert own == {"kind": "file", "path": "my.csv"}


def test_the_experiment_names_the_model_family_and_conf_only_its_settings():
    asked = {"spy_daily_direction": "patchtst", "spy_daily_direction_transformer": "transformer"}
    found = {name: resolved("base", experiment=name)["model"]["family"] for name in asked}
    assert found == asked


def asked(**runtime_params: Any) -> LongContextConfig:
    found = resolved("base", **runtime_params)
    return read_block(found["long_context"], found["long_context_blocks"])


def test_leaves_of_the_long_context_block_that_runs_can_be_set():
    plain, leaves = asked(long_context="cpu_smoke"), {"n_samples": 4, "lengths": "32 48"}
    block = {"cpu_smoke": {"evaluation": leaves, "model": {"d_model": 16}}}
    found = asked(long_context="cpu_smoke", long_context_blocks=block)
    assert (found.evaluation.n_samples, found.evaluation.lengths) == (4, (32, 48))
    assert found.transformer("rope").d_model == 16
    still = {"n_samples": found.evaluation.n_samples, "lengths": found.evaluation.lengths}
    assert found.evaluation == plain.evaluation.model_copy(update=still)
    assert found.training == plain.training
    default = asked(long_context_blocks={"cpu_demo": {"seeds": "7"}})
    assert default.seeds == (7,)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (
            {"long_context_blocks": {"cpu_demo": {"evaluation": {"n_sample": 4}}}},
            r"long_context_blocks\.cpu_demo\.evaluation\.n_sample must be a known key.*'n_samples'",
        ),
        (
            {"long_context_blocks": {"cpu_dmo": {"evaluation": {"n_samples": 4}}}},
            r"long_context_blocks\.cpu_dmo must be of the block that runs, cpu_demo",
        ),
        (
            {"long_context": "cpu_smoke", "long_context_blocks": {"cpu_demo": {"seeds": "1"}}},
            r"must be of the block that runs, cpu_smoke.* or add long_context=cpu_demo",
        ),
        (
            {"long_context": {"evaluation": {"n_samples": 4}}},
            r"long_context must name a block.*; write long_context_blocks\.<block>\.<setting>=<value>",
        ),
        ({"long_context": "cpu_smok"}, r"long_context must name a block.*did you mean 'cpu_smoke'"),
    ],
)
def test_a_leaf_that_nobody_would_read_is_refused(params, said):
    with pytest.raises(FinscaleError, match=said):
        resolved("base", **params)
