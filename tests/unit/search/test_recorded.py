"""What ran is what is recorded: real trials beside the objects that trained them, and what an OOM changes."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from search_cells import search, small, write_windows
from torch import Tensor, nn
from torch.optim import Optimizer

from finscale.core.files import read_json
from finscale.search.driver import trial_directory
from finscale.search.space import SearchSpace
from finscale.search.study import load_study
from finscale.training import stepper
from finscale.training.config import ExecutionConfig
from finscale.training.event_log import read_events
from finscale.training.loop import train
from finscale.training.run_spec import RunSpec, read_run_spec
from finscale.windows.batches import DeviceWindows
from finscale.windows.data import load_windows

N_TRAIN, BATCH = 300, 128
WHOLE = {"effective_batch_size": BATCH, "patience": 5}


@dataclass
class Attempt:
    """One training, seen from inside: what was built, the rate of every step, the windows of every pass."""

    model: nn.Module
    optimizer: Optimizer | None = None
    rates: list[float] = field(default_factory=list)
    micro_batches: list[list[int]] = field(default_factory=list)


class Witness:
    """Stands between the stepper and what it builds; more than ``limit`` windows at once raise ``error``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.attempts: list[Attempt] = []
        self.limit: float = float("inf")
        self.error: Exception = MemoryError()
        self._real = {
            n: getattr(stepper, n) for n in ("build_run_model", "build_optimizer", "set_learning_rate")
        }
        for name in self._real:
            monkeypatch.setattr(stepper, name, getattr(self, name))

    def build_run_model(self, *args: Any) -> nn.Module:
        model = self._real["build_run_model"](*args)
        model.register_forward_pre_hook(self._before_forward)
        self.attempts.append(Attempt(model))
        return model

    def build_optimizer(self, *args: Any, **options: Any) -> Optimizer:
        self.attempts[-1].optimizer = self._real["build_optimizer"](*args, **options)
        return self.attempts[-1].optimizer

    def set_learning_rate(self, optimizer: Optimizer, rate: float) -> None:
        self._real["set_learning_rate"](optimizer, rate)
        self.attempts[-1].rates.append(optimizer.param_groups[0]["lr"])
        self.attempts[-1].micro_batches.append([])

    def _before_forward(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        if model.training:
            n_windows = len(args[0].values)
            self.attempts[-1].micro_batches[-1].append(n_windows)
            if n_windows > self.limit:
                raise self.error


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> Witness:
    return Witness(monkeypatch)


@pytest.fixture(scope="module")
def more_windows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("more")
    write_windows(directory, n_train=N_TRAIN)
    return directory


def wide_space() -> SearchSpace:
    return SearchSpace.read(
        {
            "learning_rate": {"low": 1e-2, "high": 1e-1, "log": True},
            "epochs": {"choices": [5, 6]},
            "weight_decay": {"low": 1e-4, "high": 1.0, "log": True},
            "warmup_steps": {"choices": [1, 3]},
            "dropout": {"low": 0.1, "high": 0.3},
        },
        subject="hpo.space",
    )


# -- every recorded number -----------------------------------------------------------------------------------


@dataclass
class Searched:
    """A search of three trials, its attempts and its study."""

    directory: Path
    windows: Path
    attempts: list[Attempt]
    study: optuna.Study

    @property
    def table(self) -> pd.DataFrame:
        return pd.read_parquet(self.directory / "trials.parquet").set_index("number")

    def spec(self, number: int) -> RunSpec:
        return read_run_spec(trial_directory(self.directory, number).with_suffix(".yaml"))

    def result(self, number: int) -> dict[str, Any]:
        return read_json(trial_directory(self.directory, number) / "result.json")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, rows: pd.DataFrame, more_windows: Path) -> Searched:
    directory = tmp_path_factory.mktemp("searched")
    with pytest.MonkeyPatch.context() as patched:
        witness = Witness(patched)
        # micro-batches of 128 do not fit, so that there is something to accumulate
        witness.limit = 50
        config = small(n_trials=3, space=wide_space(), top_k=2)
        search(directory, rows, more_windows, config, training_defaults=WHOLE)
    survivors = [attempt for attempt in witness.attempts if max(attempt.micro_batches[0]) <= witness.limit]
    return Searched(directory, more_windows, survivors, load_study(directory))


NUMBERS = pytest.mark.parametrize("number", range(3))


def everywhere(searched: Searched, number: int, name: str) -> list[Any]:
    """A number as the study's attributes and parameters, the table and the trial's own outcome say."""
    trial = searched.study.trials[number]
    places = [trial.user_attrs, trial.params, searched.table.loc[number].to_dict()]
    places.append(read_json(trial_directory(searched.directory, number) / "outcome.json")["metrics"])
    return [place[name] for place in places if name in place and not pd.isna(place[name])]


@NUMBERS
def test_the_recorded_training_parameters_are_those_of_the_objects_that_trained(
    searched: Searched, number: int
) -> None:
    seen, spec = searched.attempts[number], searched.spec(number)
    executed = searched.result(number)["executed"]
    assert seen.optimizer is not None
    decaying, other = seen.optimizer.param_groups
    rates = {module.p for module in seen.model.modules() if isinstance(module, nn.Dropout)}
    asked = spec.training
    n_warm = seen.rates.index(max(seen.rates)) + 1
    truth = {
        "learning_rate": (max(seen.rates), [asked.learning_rate, executed["learning_rate_max"]]),
        "weight_decay": (decaying["weight_decay"], [asked.weight_decay, executed["weight_decay"]]),
        "dropout": (rates.pop(), [spec.model.dropout, executed["dropout"]]),
        "warmup_steps": (n_warm, [asked.warmup_steps, executed["warmup_steps"]]),
        "optimizer": (type(seen.optimizer).__name__, [executed["optimizer"]]),
        "n_params": (sum(w.numel() for w in seen.model.parameters()), [spec.n_params]),
        "n_steps": (len(seen.rates), [searched.result(number)["n_steps"]]),
    }
    assert not rates
    assert other["weight_decay"] == 0.0
    assert executed["n_decayed"] == sum(w.numel() for w in decaying["params"])
    assert executed["learning_rate_last"] == seen.rates[-1]
    for name, (ran, recorded) in truth.items():
        said = [*recorded, *everywhere(searched, number, name)]
        assert len(said) >= 3, name
        assert said == [ran] * len(said), name


@NUMBERS
def test_the_recorded_batch_is_what_the_model_saw(searched: Searched, number: int) -> None:
    seen, spec = searched.attempts[number], searched.spec(number)
    assert [sum(parts) for parts in seen.micro_batches[:3]] == [BATCH, BATCH, N_TRAIN - 2 * BATCH]
    assert seen.micro_batches[0] == [32] * 4
    truth = {"micro_batch_size": 32, "accumulation_steps": 4, "effective_batch_size": BATCH}
    assert {name: getattr(spec.batch, name) for name in truth} == truth
    assert {name: searched.result(number)["batch"][name] for name in truth} == truth
    for name, ran in truth.items():
        assert set(everywhere(searched, number, name)) == {ran}
    assert set(everywhere(searched, number, "requested_micro_batch_size")) == {128}
    assert set(everywhere(searched, number, "n_halvings")) == {2}


def test_a_batch_that_the_windows_could_not_fill_is_recorded_as_it_was(
    witness: Witness, tmp_path: Path, rows: pd.DataFrame, windows: Path
) -> None:
    _, found = search_with(witness, tmp_path, rows, windows)
    (batches,) = {tuple(parts) for parts in witness.attempts[0].micro_batches}
    assert batches == (120,)
    assert (found["micro_batch_size"], found["effective_batch_size"]) == (120, 120)
    assert found["requested_effective_batch_size"] == BATCH


@NUMBERS
def test_the_recorded_loss_is_the_best_epochs_and_that_of_the_kept_weights(
    searched: Searched, number: int
) -> None:
    folder = trial_directory(searched.directory, number)
    epochs = {said["epoch"]: said["val_loss"] for said in read_events(folder) if said["event"] == "EpochEnd"}
    best = min(epochs, key=lambda epoch: (epochs[epoch], epoch))
    trial = searched.study.trials[number]
    result = searched.result(number)
    assert trial.value == epochs[best] == result["best_val_loss"] == searched.table.loc[number, "value"]
    assert set(everywhere(searched, number, "best_epoch")) == {best}
    assert set(everywhere(searched, number, "stopped_epoch")) == {len(epochs)}
    assert len(searched.attempts[number].rates) == 3 * len(epochs)
    if (folder / "best.safetensors").exists():
        loss = log_loss(searched.attempts[number].model, folder / "best.safetensors", searched.windows)
        assert loss == pytest.approx(trial.value, rel=1e-5)


def log_loss(model: nn.Module, weights: Path, windows: Path) -> float:
    """The loss on val_select, from its definition."""
    model.load_state_dict(load_file(weights))
    data = load_windows(windows)
    origins = torch.from_numpy(data.origins["val_select"])
    with torch.no_grad():
        logits: Tensor = model.eval()(DeviceWindows(data, torch.device("cpu")).gather(origins)).prediction[
            "logits"
        ]
    p = torch.sigmoid(logits.double().squeeze(-1)).numpy()
    y = data.targets[data.origins["val_select"]]
    return float(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))


def test_the_best_epoch_is_not_always_the_last(searched: Searched) -> None:
    """Without that the tests above would show nothing."""
    kept = searched.table.sort_values("value").head(2)
    assert (kept["best_epoch"] < kept["stopped_epoch"]).any()


def test_the_weights_of_the_best_trials_alone_stay(searched: Searched) -> None:
    kept = {path.parent.name for path in searched.directory.glob("trials/*/best.safetensors")}
    best = searched.table.sort_values("value").index[:2]
    assert kept == {f"trial_{number:04d}" for number in best}
    assert not list(searched.directory.glob("trials/*/checkpoints"))


def test_a_pruned_trial_keeps_its_curve_has_no_value_and_leaves_nothing_to_resume_from(
    tmp_path: Path, rows: pd.DataFrame, windows: Path
) -> None:
    space = SearchSpace.read({"epochs": {"choices": [4]}, "warmup_steps": {"choices": [1]}}, subject="space")
    config = small(n_trials=14, n_random=2, space=space, pruner="asha", pruning_min_epochs=1)
    search(tmp_path, rows, windows, config)
    table = pd.read_parquet(tmp_path / "trials.parquet")
    pruned = table[table["state"] == "PRUNED"]
    assert len(pruned)
    for row in pruned.itertuples():
        folder = trial_directory(tmp_path, row.number)
        curve = [said["val_loss"] for said in read_events(folder) if said["event"] == "EpochEnd"]
        assert len(curve) == row.pruned_epoch == row.stopped_epoch
        assert curve[-1] == row.pruned_loss
        assert (row.outcome, pd.isna(row.value)) == ("pruned", True)
        assert not (folder / "checkpoints").exists()
        assert not (folder / "best.safetensors").exists()


# -- out of memory -------------------------------------------------------------------------------------------

TORCH = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
HOST = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 8388608 bytes. Error code 12 (Cannot allocate memory)"
)


def search_with(
    witness: Witness, directory: Path, rows: pd.DataFrame, windows: Path, **changes: Any
) -> tuple[Any, dict[str, Any]]:
    """Search one trial and return the result of the search and what is recorded of trial 0."""
    result = search(directory, rows, windows, small(n_trials=1, **changes), training_defaults=WHOLE)
    return result, load_study(directory).trials[0].user_attrs


@pytest.mark.parametrize("error", [TORCH, HOST, MemoryError()])
def test_running_out_of_memory_halves_the_micro_batch_up_to_three_times_and_keeps_the_effective_batch(
    witness: Witness, tmp_path: Path, rows: pd.DataFrame, more_windows: Path, error: Exception
) -> None:
    witness.limit, witness.error = 16, error
    _, found = search_with(witness, tmp_path, rows, more_windows)
    assert [attempt.micro_batches[0][0] for attempt in witness.attempts] == [128, 64, 32, 16]
    assert witness.attempts[-1].micro_batches[:2] == [[16] * 8] * 2
    batch = ("outcome", "micro_batch_size", "accumulation_steps", "effective_batch_size", "n_halvings")
    assert [found[name] for name in batch] == ["complete", 16, 8, BATCH, 3]


def test_what_does_not_fit_after_three_halvings_is_recorded_once(
    witness: Witness, tmp_path: Path, rows: pd.DataFrame, more_windows: Path
) -> None:
    witness.limit, witness.error = 8, TORCH
    result, found = search_with(witness, tmp_path, rows, more_windows, max_failures=0)
    assert [attempt.micro_batches[0][0] for attempt in witness.attempts] == [128, 64, 32, 16]
    assert (found["outcome"], result.counts) == ("oom", {"oom": 1})
    assert result.outcome == "failed"
    assert "CUDA out of memory" in result.reason


def test_any_other_error_is_recorded_once_and_not_tried_again(
    witness: Witness, tmp_path: Path, rows: pd.DataFrame, more_windows: Path
) -> None:
    witness.limit, witness.error = 16, ValueError("not enough values to unpack")
    result, found = search_with(witness, tmp_path, rows, more_windows, max_failures=2)
    assert len(witness.attempts) == 3
    assert (found["outcome"], found["n_halvings"]) == ("failed", 0)
    assert result.counts == {"failed": 3}
    assert "3 trials failed, more than hpo.max_failures=2" in result.reason


def test_halving_the_batch_trains_and_records_the_smaller_effective_batch(
    witness: Witness, tmp_path: Path, rows: pd.DataFrame, more_windows: Path
) -> None:
    witness.limit, witness.error = 32, TORCH
    _, found = search_with(witness, tmp_path, rows, more_windows, oom_policy="halve_batch")
    assert witness.attempts[-1].micro_batches[:9] == [[32]] * 9
    asked = ("requested_micro_batch_size", "requested_effective_batch_size")
    used = ("micro_batch_size", "accumulation_steps", "effective_batch_size")
    assert [found[name] for name in (*asked, *used)] == [128, 128, 32, 1, 32]
    spec = read_run_spec(trial_directory(tmp_path, 0).with_suffix(".yaml"))
    assert spec.training.effective_batch_size == spec.batch.effective_batch_size == 32
    again = train(
        spec,
        load_windows(more_windows),
        directory=tmp_path / "again",
        execution=ExecutionConfig(device="cpu"),
    )
    assert again.best_val_loss == load_study(tmp_path).trials[0].value


def test_halving_the_batch_in_mid_run_begins_anew(
    witness: Witness, tmp_path: Path, rows: pd.DataFrame, more_windows: Path
) -> None:
    """The steps made with the larger batch are another run's, whose checkpoint must not be resumed."""
    asked = iter(range(1000))
    stopped = small(n_trials=1, space=wide_space(), oom_policy="halve_batch")
    search(
        tmp_path, rows, more_windows, stopped, training_defaults=WHOLE, should_stop=lambda: next(asked) >= 4
    )
    assert list(trial_directory(tmp_path, 0).glob("checkpoints/*.json"))
    witness.attempts.clear()
    witness.limit, witness.error = 64, TORCH
    search(tmp_path, rows, more_windows, stopped, training_defaults=WHOLE)
    study = load_study(tmp_path)
    assert study.trials[0].user_attrs["outcome"] == "complete", study.trials[0].user_attrs["reason"]
    last = witness.attempts[-1]
    assert len(last.rates) == study.trials[0].user_attrs["n_steps"]
    assert (
        json.loads((trial_directory(tmp_path, 0) / "result.json").read_text())["batch"][
            "effective_batch_size"
        ]
        == 64
    )
