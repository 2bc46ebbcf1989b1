"""The winner is retrained with fresh seeds; what has finished under the same specification stands."""

from collections.abc import Callable
from pathlib import Path

import pytest

from finscale.core.budgets import Cell
from finscale.models.config import PatchTSTConfig
from finscale.training.config import ExecutionConfig
from finscale.training.events import Event, Started
from finscale.training.run_spec import RunSpec
from finscale.training.winner import SeedRun, date_loss_rows, run_rows, seeds_of, train_seed, winner_spec
from finscale.windows.data import WindowData
from finscale.windows.view import WindowView

CPU = ExecutionConfig(device="cpu")


def run(spec: RunSpec, data: WindowData, folder: Path, *, stop_after: int = 10**9) -> tuple[SeedRun, bool]:
    """Train, and say whether a training was started at all."""
    events: list[Event] = []
    polls = iter(range(10**9))
    found = train_seed(
        spec,
        data,
        directory=folder,
        execution=CPU,
        on_event=events.append,
        should_stop=lambda: next(polls) >= stop_after,
    )
    return found, any(isinstance(event, Started) for event in events)


def test_a_finished_seed_is_not_trained_again_and_its_record_stands(
    make_data: Callable[..., WindowData], make_spec: Callable[..., RunSpec], tmp_path: Path
) -> None:
    data = make_data()
    spec = make_spec(data)
    first, _ = run(spec, data, tmp_path)
    later = spec.model_copy(update={"provenance": spec.provenance.model_copy(update={"commit": "later"})})
    second, started = run(later, data, tmp_path)
    assert not started
    assert second.result == first.result
    assert second.spec.provenance.commit == "unknown"


def test_a_stopped_seed_goes_on_and_another_cap_counts_as_another_run(
    make_data: Callable[..., WindowData], make_spec: Callable[..., RunSpec], tmp_path: Path
) -> None:
    data = make_data()
    stopped, _ = run(make_spec(data), data, tmp_path, stop_after=7)
    assert stopped.result.outcome == "stopped"
    assert stopped.evaluation is None
    resumed, started = run(make_spec(data), data, tmp_path)
    assert started
    assert resumed.result.outcome == "complete"
    _, started = run(make_spec(data, max_epochs=2), data, tmp_path)
    assert started


def test_other_data_under_the_same_folder_is_trained_anew_or_refused(
    make_data: Callable[..., WindowData], make_spec: Callable[..., RunSpec], tmp_path: Path
) -> None:
    data, other = make_data(), make_data(seed=5)
    run(make_spec(data), data, tmp_path)
    with pytest.raises(ValueError, match="fingerprint"):
        run(make_spec(other), other, tmp_path)


def test_rows_say_what_ran_with_one_row_a_split(
    make_data: Callable[..., WindowData], make_spec: Callable[..., RunSpec], tmp_path: Path
) -> None:
    data = make_data()
    found, _ = run(make_spec(data, max_steps=5), data, tmp_path)
    rows = run_rows([found], flags=["few_positives"], title="t")
    assert set(rows["optimizer"]) == {"AdamW"}
    assert set(rows["schedule"]) == {"cosine after a linear warm-up"}
    assert rows["split"].tolist() == ["val_select", "val_score", "test"]
    assert (rows["n_steps"] == 5).all()
    assert rows["flags"].map(lambda flags: {"capped", "few_positives"} <= set(flags)).all()
    assert (rows["warmup_steps"] == found.result.executed.warmup_steps).all()
    dates = date_loss_rows([found])
    assert dates.groupby("split")["log_loss"].mean()["test"] == pytest.approx(
        rows.loc[rows["split"] == "test", "log_loss"].item()
    )
    assert date_loss_rows([]).empty


def test_the_winners_specification_counts_its_own_parameters(make_data: Callable[..., WindowData]) -> None:
    data = make_data()
    model = PatchTSTConfig(d_model=16, n_layers=2, n_heads=4, d_ff=32, patch_length=4, stride=2)
    searched = {"learning_rate": 1e-3, "epochs": 2, "weight_decay": 0.0, "warmup_steps": 1, "dropout": 0.25}
    from finscale.training.run_spec import Provenance
    from finscale.windows.experiment import DataConfig, ExperimentConfig

    spec = winner_spec(
        model,
        searched,
        shared={"patience": 3, "effective_batch_size": 64, "epochs": 9},
        experiment=ExperimentConfig(
            name="tiny", title="t", data=DataConfig(task="direction", context_length=8)
        ),
        cell=Cell.parse("5K", 1),
        n_features=data.n_features,
        batch_provider="table",
        n_sharing=1,
        execution=CPU,
        seed=3,
        view=WindowView(features=("a", "b"), context_length=6),
        provenance=Provenance(data_hash=data.spec.data_hash),
    )
    from finscale.models.registry import build_model

    built = build_model(spec.model, n_features=2, context_length=6, seed=0)
    assert spec.n_params == sum(weights.numel() for weights in built.parameters())
    assert spec.model == model.model_copy(update={"dropout": 0.25})
    assert (spec.training.patience, spec.batch.effective_batch_size) == (3, 64)
    assert spec.training.epochs == 2


def test_seeds_are_fresh_distinct_and_reproducible() -> None:
    assert seeds_of(42, n_seeds=5)[:3] == seeds_of(42, n_seeds=3)
    assert len({*seeds_of(42, n_seeds=5), *seeds_of(43, n_seeds=5)}) == 10
