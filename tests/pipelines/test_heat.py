"""A GPU that runs hot: the search waits, then stops with its trials saved, and the same command goes on."""

import threading
import time

import pandas as pd

HPO = ("run", "--env", "test", "--pipelines", "hpo", "--params", "hpo.n_trials=2,hpo.n_random=0")
PLANTED_DRIVER = """
from pathlib import Path

NVMLError, NVML_TEMPERATURE_GPU = OSError, 0

def nvmlInit(): pass
def nvmlShutdown(): pass
def nvmlDeviceGetCount(): return 1
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetTemperature(gpu, sensor): return int(Path(__file__).with_name("celsius").read_text())
"""


def test_a_search_on_a_hot_gpu_waits_then_stops_and_goes_on_when_it_is_cool(project, monkeypatch):
    driver = project.folder / "driver"
    driver.mkdir()
    (driver / "pynvml.py").write_text(PLANTED_DRIVER)
    (driver / "celsius").write_text("90")
    monkeypatch.setenv("PYTHONPATH", str(driver), prepend=":")
    trials = project.folder / "data/test/06_models/hpo/sp500_test/5K_h1/trials"
    waited = []

    def heat_up() -> None:
        while not (trials / "trial_0000" / ".lock").exists():
            time.sleep(0.1)
        time.sleep(3)
        waited.append(not list(trials.glob("*/outcome.json")))
        (driver / "celsius").write_text("97")

    threading.Thread(target=heat_up, daemon=True).start()
    hot = project.kedro(*HPO)
    assert waited == [True]
    assert hot.code == 0, hot.out
    assert "The GPU is at 90 C: training pauses for 60 s" in hot.out
    assert "The GPU is at 97 C (limit 95): training stops with a checkpoint" in hot.out
    assert "Continue with the same command: kedro run --env test" in hot.out
    assert not list(trials.glob("*/outcome.json"))
    hardware = project.folder / "data/test/07_model_output/hardware.csv"
    assert {"pause", "stop"} <= set(pd.read_csv(hardware)["state"])

    (driver / "celsius").write_text("61")
    cool = project.kedro(*HPO)
    assert cool.code == 0, cool.out
    log = pd.read_csv(project.folder / "data/test/07_model_output/sp500_test/experiment_results.csv")
    assert log["number"].tolist() == [0, 1]
    assert (log["status"] == "complete").all()
    assert float(log["max_temperature_c"][0]) == 97.0
