import pandas as pd
import pytest

from finscale.models.config import PatchTSTConfig
from finscale.pipelines.scaling_analysis.nodes import _checklist
from finscale.reporting.collect import baseline_table, cost_table, trial_table
from finscale.runtime.definition import TrainingSettings
from finscale.windows.measures import MEASURES
from finscale.windows.tasks import TaskKind

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
    said = _checklist(MODEL, TrainingSettings(optimizer="adam"), MEASURES["binary"], runs).optimiser
    assert said == "AdamW, cosine after a linear warm-up; SGD, onecycle; 100 to 300 steps of warm-up"


def test_runs_that_did_not_record_an_optimizer_are_not_given_one() -> None:
    old = {"5K_h1": pd.DataFrame({"warmup_steps": [100]})}
    assert _checklist(MODEL, TrainingSettings(), MEASURES["binary"], old).optimiser == "not recorded"


@pytest.mark.parametrize(
    ("kind", "asked", "said"),
    [
        ("binary", {}, "binary cross-entropy; search on val_select, verdict on val_score in log loss"),
        ("binary", {"focal_gamma": 2.0}, "binary cross-entropy (focal_gamma 2.0); search"),
        ("regression", {"loss": "huber", "huber_delta": 0.5}, "Huber loss (huber_delta 0.5); search"),
        ("quantile", {}, "pinball loss, mean over the levels and over every trained horizon; search"),
    ],
)
def test_the_checklist_says_the_objective_that_was_trained(
    kind: TaskKind, asked: dict[str, object], said: str
) -> None:
    told = _checklist(
        MODEL, TrainingSettings(**asked), MEASURES[kind], {"5K_h1": _runs("AdamW", "cosine", 1)}
    )
    assert told.objective.startswith(said)


def test_records_named_by_the_task_are_collected_under_one_name() -> None:
    measure = MEASURES["regression"]
    scores = pd.DataFrame(
        {
            "split": ["test", "test"],
            "baseline": ["climatology", "linear"],
            "squared_error": [1.0, 0.75],
            "absolute_error": [0.8, 0.7],
        }
    )
    table = baseline_table({5: scores}, measure).set_index("baseline")
    assert table["loss"].to_dict() == {"climatology": 1.0, "linear": 0.75}
    assert table["excess_loss"].to_dict() == {"climatology": 0.0, "linear": 0.25}


def test_a_cells_cost_is_that_of_its_trials_and_of_each_seed_once() -> None:
    trials = pd.DataFrame({"seconds": [3.0, None], "n_steps": [10, None], "effective_batch_size": [128, 128]})
    finals = {"seed": [1, 1], "seconds": [5.0, 5.0], "n_steps": [20, 20], "effective_batch_size": [128, 128]}
    (row,) = cost_table({"5K_h1": pd.DataFrame(finals)}, {"5K_h1": trials}).to_dict("records")
    assert (row["seconds"], row["windows"]) == (8.0, 30 * 128)
    assert (row["budget"], row["horizon"]) == ("5K", 1)


def test_trials_stand_beside_the_references_loss_on_their_own_rows() -> None:
    trials = pd.DataFrame({"value": [0.5, 0.6, None], "base_rate_loss": [0.7, None, None]})
    table = trial_table({"5K_h1": trials})
    assert table["base_rate_loss"].to_list() == [0.7, 0.7, 0.7]
