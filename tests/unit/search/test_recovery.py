"""Trials from logs and old tables: right, or refused with a reason."""

import json
from collections.abc import Sequence
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState
from search_toys import IDENTITY, drive

from finscale.search.best import best_of
from finscale.search.config import SearchConfig
from finscale.search.proposals import Proposer
from finscale.search.recovery import Finding, enter, findings_table, recover
from finscale.search.space import SearchSpace
from finscale.search.study import open_study
from finscale.search.traces import read_traces
from finscale.search.trials import describe_trial

SPACE = SearchSpace().bind("patchtst")
CONFIG = SearchConfig(n_trials=4, n_random=2, sampler="sample", executor="inline")
HASHES = {"config_hash": IDENTITY.config_hash, "data_hash": IDENTITY.data}
FIXED = {"effective_batch_size": 128, "patience": 10}
TOLD = "lr=0.0005 epochs=75 batch=128 dropout=0.15 wd=0.001 warmup=200 val_loss=0.6123"


@pytest.fixture(scope="module")
def proposer(grid: pd.DataFrame) -> Proposer:
    return Proposer(grid, CONFIG, SPACE, seed=7)


def recovered_from(path: Path, grid: pd.DataFrame, proposer: Proposer) -> list[Finding]:
    return recover(
        read_traces(path),
        table=grid,
        space=SPACE,
        proposer=proposer,
        fixed=FIXED,
        config_hash=IDENTITY.config_hash,
    )


def line_of(trial: optuna.trial.FrozenTrial) -> str:
    return describe_trial(trial, SPACE.training_names)


def old_log(path: Path, *told: str) -> Path:
    path.write_text("\n".join(f"Trial {k}: arch_id={k} {line} {TOLD}" for k, line in enumerate(told)))
    return path


def shape_of(row: pd.Series, *names: str) -> str:
    return " ".join(f"{name}={row[name]}" for name in names)


def empty_study(directory: Path) -> optuna.Study:
    return open_study(directory, name="s", identity=IDENTITY, attributes={"baselines": {}})


def statuses(findings: Sequence[Finding]) -> list[str]:
    return [finding.status for finding in findings]


def of_one_shape(grid: pd.DataFrame, n_heads: int) -> pd.Series:
    """A row whose shape has as many rows, one per number of heads."""
    sizes = grid.groupby(["d_model", "n_layers", "d_ff"])["n_heads"].transform("size")
    return grid[sizes == n_heads].iloc[0] if n_heads == 1 else grid[sizes >= n_heads].iloc[0]


def test_a_lost_study_is_rebuilt_from_its_log_trial_by_trial(
    tmp_path: Path, grid: pd.DataFrame, proposer: Proposer
) -> None:
    _, lost = drive(tmp_path / "lost", config=CONFIG, behaviours={1: "raise"})
    log = tmp_path / "trials.log"
    log.write_text("\n".join(map(line_of, lost.trials)))
    study = empty_study(tmp_path / "study")
    findings = enter(study, recovered_from(log, grid, proposer), proposer, HASHES)
    assert statuses(findings) == ["recovered", "not complete", "recovered", "recovered", "recovered"]
    whole = [trial for trial in lost.trials if trial.state == TrialState.COMPLETE]
    assert [trial.number for trial in study.trials] == [0, 1, 2, 3]
    for found, original in zip(study.trials, whole, strict=True):
        assert (found.value, found.params) == (original.value, original.params)
        same = ("proposal_id", "kind", "arch_id", "n_params", "seed", "config_hash", "micro_batch_size")
        assert [found.user_attrs[name] for name in same] == [original.user_attrs[name] for name in same]
        assert found.user_attrs["recovered"] is True
        assert found.user_attrs["source"] == f"trials.log:{original.number + 1}"
        assert found.user_attrs["recovered_number"] == original.number
    best, original_best = best_of(study), best_of(lost)
    assert best is not None
    assert original_best is not None
    assert best.architecture == original_best.architecture


def test_an_old_log_without_heads_is_ambiguous_where_several_heads_fit_and_says_which(
    tmp_path: Path, grid: pd.DataFrame, proposer: Proposer
) -> None:
    row = of_one_shape(grid, 2)
    log = old_log(
        tmp_path / "old.log",
        shape_of(row, "d_model", "n_layers", "d_ff"),
        shape_of(row, "d_model", "n_layers", "d_ff", "n_heads"),
    )
    without, with_heads = recovered_from(log, grid, proposer)
    assert without.status == "ambiguous"
    assert " or " in without.reason.partition("n_heads ")[2]
    assert without.proposal is None
    assert with_heads.status == "recovered"
    assert with_heads.row["arch_id"] == row["arch_id"]


def test_an_old_log_without_heads_is_right_where_one_architecture_fits(
    tmp_path: Path, grid: pd.DataFrame, proposer: Proposer
) -> None:
    alone = grid.drop_duplicates(["d_model", "n_layers", "d_ff"])
    row = alone.iloc[3]
    log = old_log(tmp_path / "old.log", f"{shape_of(row, 'd_model', 'n_layers', 'd_ff')} params=20.0K")
    log.write_text(log.read_text().replace("params=20.0K", f"params={row['n_params'] / 1000:.1f}K"))
    (found,) = recovered_from(log, alone, proposer)
    assert (found.status, found.row["arch_id"]) == ("recovered", row["arch_id"])
    assert found.proposal is not None
    assert found.proposal.training == {
        "learning_rate": 0.0005,
        "epochs": 75,
        "weight_decay": 0.001,
        "warmup_steps": 200,
        "dropout": 0.15,
    }


def test_the_count_tells_two_widths_apart_that_the_log_does_not_name(
    tmp_path: Path, grid: pd.DataFrame, proposer: Proposer
) -> None:
    alone = grid.drop_duplicates(["d_model", "n_layers", "d_ff"])
    twins = alone[alone.duplicated(["d_model", "n_layers"], keep=False)]
    row = twins.iloc[0]
    told = shape_of(row, "d_model", "n_layers")
    log = old_log(tmp_path / "old.log", told, f"{told} params={row['n_params'] / 1000:.1f}K")
    bare, counted = recovered_from(log, alone, proposer)
    assert (bare.status, counted.status) == ("ambiguous", "recovered")
    assert counted.row["d_ff"] == row["d_ff"]


PARAMS = {
    "learning_rate": 5e-4,
    "epochs": 75,
    "weight_decay": 1e-3,
    "warmup_steps": 200,
    "dropout": 0.15,
}


def test_positions_in_an_older_grid_are_right_whatever_its_order(
    tmp_path: Path, grid: pd.DataFrame, proposer: Proposer
) -> None:
    older = grid[["d_model", "n_layers", "n_heads", "d_ff"]].sample(frac=1, random_state=3)
    older.to_csv(tmp_path / "grid.csv", index=False)
    trials = [
        {"number": k, "params": {**PARAMS, "arch_idx": 5 * k}, "value": 0.6 + 0.01 * k} for k in range(4)
    ]
    (tmp_path / "old.json").write_text(json.dumps({"grid": "grid.csv", "trials": trials}))
    findings = recovered_from(tmp_path / "old.json", grid, proposer)
    assert statuses(findings) == ["recovered"] * 4
    expected = [grid.loc[older.index[5 * k], "arch_id"] for k in range(4)]
    assert [finding.row["arch_id"] for finding in findings] == expected
    (tmp_path / "old.json").write_text(json.dumps(trials))
    assert statuses(recovered_from(tmp_path / "old.json", grid, proposer)) == ["ambiguous"] * 4


def test_an_older_grid_without_heads_leaves_its_positions_ambiguous(
    tmp_path: Path, grid: pd.DataFrame, proposer: Proposer
) -> None:
    row = of_one_shape(grid, 2)
    older = [{name: int(row[name]) for name in ("d_model", "n_layers", "d_ff")}]
    trial = {"number": 0, "params": {**PARAMS, "arch_idx": 0}, "value": 0.6}
    (tmp_path / "old.json").write_text(json.dumps({"grid": older, "trials": [trial]}))
    (found,) = recovered_from(tmp_path / "old.json", grid, proposer)
    assert found.status == "ambiguous"


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        (("lr=0.0005", "lr=0.5"), "foreign", "learning_rate=0.5 lies outside"),
        (("epochs=75", "epochs=60"), "foreign", "epochs=60 lies outside"),
        (("batch=128", "batch=64"), "foreign", "effective_batch_size=64, here 128"),
        (("wd=0.001", ""), "incomplete", "weight_decay is not told"),
        (("val_loss=0.6123", "val_loss=nan"), "not complete", "diverged"),
        (("d_model=", "d_model=7"), "unknown", "no architecture of this cell has d_model=7"),
    ],
)
def test_what_is_no_trial_of_this_search_is_refused_with_a_reason(
    tmp_path: Path,
    grid: pd.DataFrame,
    proposer: Proposer,
    change: tuple[str, str],
    status: str,
    reason: str,
) -> None:
    shape = shape_of(grid.iloc[0], "d_model", "n_layers", "n_heads", "d_ff")
    log = old_log(tmp_path / "old.log", shape)
    log.write_text(log.read_text().replace(*change))
    (found,) = recovered_from(log, grid, proposer)
    assert found.status == status
    assert reason in found.reason
    assert found.proposal is None


def test_a_line_of_another_study_is_foreign(tmp_path: Path, grid: pd.DataFrame, proposer: Proposer) -> None:
    _, lost = drive(tmp_path / "lost", config=CONFIG)
    line = line_of(lost.trials[0]).replace(IDENTITY.config_hash, "0" * 12)
    (tmp_path / "a.log").write_text(line)
    (found,) = recovered_from(tmp_path / "a.log", grid, proposer)
    assert (found.status, found.reason) == ("foreign", "of a study with config_hash 000000000000")


def test_recovering_twice_enters_nothing_twice(
    tmp_path: Path, grid: pd.DataFrame, proposer: Proposer
) -> None:
    shapes = [shape_of(grid.iloc[k], "d_model", "n_layers", "n_heads", "d_ff") for k in (0, 4)]
    study = empty_study(tmp_path / "study")
    findings = recovered_from(old_log(tmp_path / "old.log", *shapes), grid, proposer)
    enter(study, findings[:1], proposer, HASHES)
    assert statuses(enter(study, findings, proposer, HASHES)) == ["already there", "recovered"]
    assert [trial.number for trial in study.trials] == [0, 1]
    assert statuses(enter(study, findings, proposer, HASHES)) == ["already there", "already there"]
    assert {trial.user_attrs["kind"] for trial in study.trials} == {"recovered"}


def test_a_source_without_a_hash_enters_no_study_that_has_trials_of_its_own(
    tmp_path: Path, grid: pd.DataFrame, proposer: Proposer
) -> None:
    _, study = drive(tmp_path / "study", config=CONFIG)
    shape = shape_of(grid.iloc[0], "d_model", "n_layers", "n_heads", "d_ff")
    findings = recovered_from(old_log(tmp_path / "old.log", shape), grid, proposer)
    (found,) = enter(study, findings, proposer, HASHES)
    assert (found.status, len(study.trials)) == ("foreign", 4)
    assert "the source names no config_hash" in found.reason


def test_recovered_trials_count_and_the_search_goes_on_to_its_total(
    tmp_path: Path, grid: pd.DataFrame, proposer: Proposer
) -> None:
    _, lost = drive(tmp_path / "lost", config=CONFIG.model_copy(update={"n_trials": 3}))
    log = tmp_path / "trials.log"
    log.write_text("\n".join(map(line_of, lost.trials)))
    study = open_study(tmp_path / "other", name="toy", identity=IDENTITY, attributes={"baselines": {}})
    enter(study, recovered_from(log, grid, proposer), proposer, HASHES)
    _, study = drive(tmp_path / "other", config=CONFIG)
    assert [trial.number for trial in study.trials] == [0, 1, 2, 3]
    assert [bool(trial.user_attrs.get("recovered")) for trial in study.trials] == [True, True, True, False]
    assert len({trial.user_attrs["proposal_id"] for trial in study.trials}) == 4


def test_the_table_tells_every_trial_with_its_status(
    tmp_path: Path, grid: pd.DataFrame, proposer: Proposer
) -> None:
    row = of_one_shape(grid, 2)
    log = old_log(
        tmp_path / "old.log",
        shape_of(row, "d_model", "n_layers", "n_heads", "d_ff"),
        shape_of(row, "d_model", "n_layers"),
        "d_model=7",
    )
    table = findings_table(recovered_from(log, grid, proposer))
    assert table["status"].tolist() == ["recovered", "ambiguous", "unknown"]
    assert table["number"].tolist() == [0, 1, 2]
    assert table["source"].tolist() == ["old.log:1", "old.log:2", "old.log:3"]
    assert table["learning_rate"].tolist() == [0.0005] * 3
    assert table["arch_id"].notna().tolist() == [True, False, False]
    table.to_parquet(tmp_path / "table.parquet")
