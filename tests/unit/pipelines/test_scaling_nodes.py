import pandas as pd

from finscale.models.config import PatchTSTConfig
from finscale.pipelines.scaling_analysis.nodes import _checklist
from finscale.runtime.definition import TrainingSettings

MODEL = PatchTSTConfig(d_model=8, n_layers=1, n_heads=2, d_ff=16)


def _runs(optimizer: str, schedule: str, warmup_steps: int) -> pd.DataFrame:
    row = {"optimizer": optimizer, "schedule": schedule, "warmup_steps": warmup_steps, "n_params": 9}
    return pd.DataFrame([row, row])


def test_the_checklist_says_which_optimizers_and_schedules_were_executed_whatever_conf_asks_now() -> None:
    runs = {
        "5K_h1": _runs("SGD", "onecycle", 100),
        "5K_h2": _runs("AdamW", "cosine after a linear warm-up", 300),
        "5K_h3": _runs("AdamW", "cosine after a linear warm-up", 200),
    }
    said = _checklist(MODEL, TrainingSettings(optimizer="adam"), runs).optimiser
    assert said == "AdamW, cosine after a linear warm-up; SGD, onecycle; 100 to 300 steps of warm-up"


def test_runs_that_did_not_record_an_optimizer_are_not_given_one() -> None:
    old = {"5K_h1": pd.DataFrame({"warmup_steps": [100]})}
    assert _checklist(MODEL, TrainingSettings(), old).optimiser == "not recorded"
