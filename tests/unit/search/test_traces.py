import json
from pathlib import Path

import pandas as pd
import pytest
from search_toys import drive

from finscale.core.errors import Fault
from finscale.search.config import SearchConfig
from finscale.search.traces import Trace, read_traces
from finscale.search.trials import describe_trial

OLD = "Trial 7: arch_id=12 d_model=128 n_layers=12 params=2.0M lr=0.0005 epochs=75 batch=128 dropout=0.15"


def traces_in(path: Path, *lines: str) -> list[Trace]:
    path.write_text("\n".join(lines) + "\n")
    return read_traces(path)


def test_our_own_log_lines_are_read_back_to_the_last_digit(tmp_path: Path) -> None:
    _, study = drive(tmp_path / "study", config=SearchConfig(n_trials=4, executor="inline"))
    lines = [f"2026-11-21 09:00:00,000 {describe_trial(trial)}" for trial in study.trials]
    found = traces_in(tmp_path / "trials.log", *lines)
    assert [trace.value for trace in found] == [trial.value for trial in study.trials]
    for trace, trial in zip(found, study.trials, strict=True):
        training = ("learning_rate", "weight_decay", "warmup_steps", "dropout")
        assert {name: trace.known[name] for name in training} == {
            name: trial.params[name] for name in training
        }
        for name in ("arch_id", "kind", "n_params", "config_hash", "effective_batch_size"):
            assert trace.known[name] == trial.user_attrs[name]
        assert trace.source == f"trials.log:{trial.number + 1}"


def test_a_failed_trial_keeps_its_outcome_and_its_reason_is_no_setting(tmp_path: Path) -> None:
    (trace,) = traces_in(tmp_path / "a.log", "trial 3 failed kind=random d_model=64 reason='lr=3 is bad'")
    assert (trace.outcome, trace.value, dict(trace.known)) == (
        "failed",
        None,
        {"kind": "random", "d_model": 64},
    )


def test_an_old_line_is_read_with_present_names_and_without_its_position_in_a_grid(tmp_path: Path) -> None:
    (trace,) = traces_in(tmp_path / "old.log", f"[09:00] INFO {OLD} val_loss=0.6123")
    assert (trace.number, trace.value, trace.outcome) == (7, 0.6123, "complete")
    assert trace.known == {
        "d_model": 128,
        "n_layers": 12,
        "n_params": (1.95e6, 2.05e6),
        "learning_rate": 0.0005,
        "epochs": 75,
        "effective_batch_size": 128,
        "dropout": 0.15,
    }


def test_an_old_line_whose_loss_is_no_number_has_diverged(tmp_path: Path) -> None:
    (trace,) = traces_in(tmp_path / "old.log", f"{OLD} val_loss=nan")
    assert (trace.outcome, trace.value) == ("diverged", None)


def test_a_line_that_a_terminal_wrapped_is_read_whole(tmp_path: Path) -> None:
    (trace,) = traces_in(
        tmp_path / "old.log", f"INFO {OLD[:60]}", f"     {OLD[60:].strip()}", "   val_loss=0.5"
    )
    assert (trace.value, trace.known["dropout"]) == (0.5, 0.15)


def test_the_last_line_about_a_trial_of_a_study_counts(tmp_path: Path) -> None:
    lines = ["trial 0 complete value=0.7 config_hash=aa", "trial 0 complete value=0.6 config_hash=aa"]
    found = traces_in(tmp_path / "a.log", *lines, "trial 0 complete value=0.5 config_hash=bb")
    assert [trace.value for trace in found] == [0.6, 0.5]


ENTRY = {"number": 4, "params": {"arch_idx": 1, "learning_rate": 5e-4}, "value": 0.6}
ROWS = [
    {"d_model": 64, "n_layers": 2, "n_heads": 2, "d_ff": 128},
    {"d_model": 32, "n_layers": 8, "n_heads": 4, "d_ff": 64},
]


@pytest.mark.parametrize("form", ["rows", "json", "csv", "parquet"])
def test_a_position_is_looked_up_in_the_older_grid(tmp_path: Path, form: str) -> None:
    frame = pd.DataFrame(ROWS)
    frame.to_json(tmp_path / "grid.json", orient="records")
    frame.to_csv(tmp_path / "grid.csv", index=False)
    frame.to_parquet(tmp_path / "grid.parquet")
    grid = ROWS if form == "rows" else f"grid.{form}"
    (trace,) = traces_in(tmp_path / "old.json", json.dumps({"grid": grid, "trials": [ENTRY]}))
    assert (trace.number, trace.value, trace.ambiguity) == (4, 0.6, "")
    assert trace.known == {**ROWS[1], "learning_rate": 5e-4}


def test_a_position_without_its_grid_or_beyond_it_is_ambiguous(tmp_path: Path) -> None:
    (alone,) = traces_in(tmp_path / "old.json", json.dumps([ENTRY]))
    assert alone.ambiguity == "position 1 of a grid that is not at hand"
    (beyond,) = traces_in(tmp_path / "old.json", json.dumps({"grid": ROWS[:1], "trials": [ENTRY]}))
    assert beyond.ambiguity == "position 1 of a grid of 1 rows"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.log", "nothing here", "tell of at least one trial"),
        ("a.json", "[", "be valid JSON"),
        ("a.json", '{"trials": 3}', "hold a list of trials"),
        ("a.json", '{"trials": [{"value": 1}], "grid": "gone.csv"}', "name a grid"),
    ],
)
def test_a_source_that_tells_nothing_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(Fault, match=message):
        traces_in(tmp_path / name, text)


def test_a_missing_source_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Fault, match=r"hpo\.recover must name a readable file, .*gone\.log"):
        read_traces(tmp_path / "gone.log")
