"""Transferred, supplemental and recovered trials of one study."""

from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.trial import FrozenTrial
from search_toys import IDENTITY

from finscale.archgrid.base import BASE
from finscale.core.budgets import Cell
from finscale.search.additions import RECOVERED_FILE, Additions, add_to, named_rows
from finscale.search.config import SearchConfig
from finscale.search.proposals import Proposal, Proposer
from finscale.search.space import SearchSpace
from finscale.search.study import open_study
from finscale.search.supplemental import Bounds
from finscale.search.trials import describe_trial

SPACE = SearchSpace().bind("patchtst")
CELL = Cell.parse("20K", 1)
RATES = {"5K_h1": 8e-4, "10K_h1": 4e-4}
CONFIG = SearchConfig(n_trials=12, n_random=2, executor="inline", transfer=True)


def trial_of(proposal: Proposal, proposer: Proposer, value: float = 0.6) -> FrozenTrial:
    return optuna.trial.create_trial(
        params=proposal.params,
        distributions={name: proposer.distributions[name] for name in proposal.params},
        value=value,
        user_attrs={**proposal.attributes, "outcome": "complete", "config_hash": IDENTITY.config_hash},
    )


def finished_cells(folder: Path, grid: pd.DataFrame) -> None:
    """Two smaller cells whose winners halve the learning rate as N doubles."""
    proposer = Proposer(grid, CONFIG, SPACE, seed=1)
    for name, rate in RATES.items():
        attributes = {"ended": "complete", "dimensions": list(SPACE.training_names)}
        study = open_study(folder / name, name="s", identity=IDENTITY, attributes=attributes)
        typical = proposer.typical()
        training = {**typical.training, "learning_rate": rate}
        trial = trial_of(proposer.named("sampler", typical.row, training, {}), proposer)
        trial.user_attrs["n_params"] = Cell.from_id(name).n_budget
        study.add_trial(trial)


def added(folder: Path, grid: pd.DataFrame, config: SearchConfig = CONFIG) -> tuple[optuna.Study, Additions]:
    directory = folder / CELL.id
    attributes: dict[str, Any] = {"baselines": {}, "fixed": {"effective_batch_size": 128}}
    study = open_study(directory, name="s", identity=IDENTITY, attributes=attributes)
    bounds = Bounds(grid, SPACE, BASE, n_features=25, context_length=60, tolerance=0.25)
    named = named_rows(config.supplemental, CELL, bounds)
    where = {"directory": directory, "cell": CELL, "identity": IDENTITY}
    return study, add_to(study, config, **where, bounds=bounds, named=named, seed=7)


def asked(proposer: Proposer, n_trials: int) -> list[Proposal]:
    proposals: list[Proposal] = []
    trials: list[FrozenTrial] = []
    for _ in range(n_trials):
        proposal = proposer.next(trials)
        assert proposal is not None
        proposals.append(proposal)
        trials.append(trial_of(proposal, proposer, value=0.5 + 0.01 * len(trials)))
    return proposals


def test_transferred_trials_come_after_corners_and_random_stratum_and_continue_the_law(
    tmp_path: Path, grid: pd.DataFrame
) -> None:
    finished_cells(tmp_path, grid)
    _, additions = added(tmp_path, grid)
    proposals = asked(additions.proposer, 12)
    kinds = [proposal.kind for proposal in proposals]
    first = kinds.index("transfer")
    assert set(kinds[:first]) == {"extreme", "random"}
    assert kinds[first:] == ["transfer"] * 3 + ["sampler"] * (9 - first)
    rates = [proposal.training["learning_rate"] for proposal in proposals[first : first + 3]]
    assert rates == pytest.approx([2e-4, 1e-4, 4e-4])
    assert {proposal.marks["source"] for proposal in proposals[first : first + 3]} == {"5K_h1 10K_h1"}
    typical = additions.proposer.typical()
    transferred = proposals[first]
    assert abs(transferred.point["shape"] - typical.point["shape"]) < 0.03
    assert transferred.training["epochs"] == typical.training["epochs"]


def test_what_was_transferred_once_stays_though_the_other_cells_go_on(
    tmp_path: Path, grid: pd.DataFrame
) -> None:
    finished_cells(tmp_path, grid)
    _, first = added(tmp_path, grid)
    smaller = open_study(tmp_path / "5K_h1", name="s", identity=IDENTITY, attributes={})
    better = smaller.trials[0]
    better.params["learning_rate"], better.value = 1e-4, 0.1
    smaller.add_trial(better)
    _, again = added(tmp_path, grid)
    assert again.prediction == first.prediction
    assert [p.id for p in asked(again.proposer, 12)] == [p.id for p in asked(first.proposer, 12)]


def test_fewer_than_two_smaller_cells_transfer_nothing_and_bind_no_later_session(
    tmp_path: Path, grid: pd.DataFrame
) -> None:
    _, additions = added(tmp_path, grid)
    assert additions.prediction.cells == ()
    assert "transfer" not in [proposal.kind for proposal in asked(additions.proposer, 12)]
    finished_cells(tmp_path, grid)
    assert added(tmp_path, grid)[1].prediction.cells == ("5K_h1", "10K_h1")


def test_nothing_is_transferred_unasked(tmp_path: Path, grid: pd.DataFrame) -> None:
    finished_cells(tmp_path, grid)
    _, additions = added(tmp_path, grid, CONFIG.model_copy(update={"transfer": False}))
    assert "transfer" not in [proposal.kind for proposal in asked(additions.proposer, 12)]


def test_a_named_row_outside_the_grid_is_known_to_sessions_without_the_plan(
    tmp_path: Path, grid: pd.DataFrame
) -> None:
    plan = tmp_path / "plan.yml"
    plan.write_text("- {d_model: 20, n_layers: 3, n_heads: 5, d_ff: 60}")
    config = CONFIG.model_copy(update={"supplemental": str(plan), "transfer": False})
    study, additions = added(tmp_path, grid, config)
    proposal = additions.supplements.next([])
    assert proposal is not None
    study.add_trial(trial_of(proposal, additions.proposer))
    _, later = added(tmp_path, grid, CONFIG)
    found = later.proposer.read(study.trials[0])
    assert (found.id, dict(found.training), found.row["d_model"]) == (proposal.id, proposal.training, 20)


def test_recovered_trials_enter_and_all_that_was_found_is_written(tmp_path: Path, grid: pd.DataFrame) -> None:
    proposer = Proposer(grid, CONFIG, SPACE, seed=7)
    trials = [trial_of(proposal, proposer) for proposal in asked(proposer, 3)]
    for number, trial in enumerate(trials):
        trial.number = number
    lines = [describe_trial(trial) for trial in trials]
    lost = lines[0].replace("trial 0", "trial 9").replace("arch_id=", "arch_id=x")
    log = tmp_path / "trials.log"
    log.write_text("\n".join([*lines, lost]))
    config = CONFIG.model_copy(update={"recover": str(log), "transfer": False})
    study, additions = added(tmp_path, grid, config)
    assert [finding.status for finding in additions.findings] == ["recovered"] * 3 + ["unknown"]
    assert [trial.number for trial in study.trials] == [0, 1, 2]
    table = pd.read_parquet(tmp_path / CELL.id / RECOVERED_FILE)
    assert table["status"].tolist() == ["recovered"] * 3 + ["unknown"]
