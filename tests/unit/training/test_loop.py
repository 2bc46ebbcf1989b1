import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from finscale.core.errors import Fault, FinscaleError
from finscale.training import evaluate
from finscale.training.events import CheckpointSaved, EpochEnd, Event, Finished, Resumed, Started
from finscale.training.result import TrainingResult
from finscale.training.run_spec import RunSpec, fingerprint, read_run_spec
from finscale.training.stepper import Stepper
from finscale.windows.data import WindowData
from finscale.windows.view import WindowView, view_windows

Specs = Callable[..., RunSpec]
Windows = Callable[..., WindowData]
Trains = Callable[..., TrainingResult]


def _after(n_polls: int) -> Callable[[], bool]:
    """Stop at the poll after ``n_polls`` steps."""
    polls: Iterator[int] = iter(range(10**9))
    return lambda: next(polls) >= n_polls


def _numbers(result: TrainingResult) -> list[tuple[float, ...]]:
    """Everything in the curve that is not a duration."""
    return [(e.epoch, e.step, e.train_loss, e.val_loss, e.learning_rate, e.spread) for e in result.curve]


def _final_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Weights, optimizer state and best weights of the last checkpoint, and the kept best weights."""
    last = max((folder / "checkpoints").glob("*.safetensors"))
    kept = {f"kept/{name}": tensor for name, tensor in load_file(folder / "best.safetensors").items()}
    return {**load_file(last), **kept}


def _assert_same(first: Path, second: Path) -> None:
    a, b = _final_tensors(first), _final_tensors(second)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


# -- determinism and resume ---------------------------------------------------------------------------------


def test_two_runs_of_one_specification_are_bit_identical(
    make_data: Windows, make_spec: Specs, train_tiny: Trains, tmp_path: Path
) -> None:
    data = make_data()
    first = train_tiny(make_spec(data), data, name="a")
    torch.manual_seed(99)
    second = train_tiny(make_spec(data), data, name="b")
    assert _numbers(first) == _numbers(second)
    _assert_same(tmp_path / "a", tmp_path / "b")


def test_another_seed_trains_other_weights(make_data: Windows, make_spec: Specs, train_tiny: Trains) -> None:
    data = make_data()
    losses = {train_tiny(make_spec(data, seed=seed), data, name=str(seed)).best_val_loss for seed in (1, 2)}
    assert len(losses) == 2


@pytest.mark.parametrize("stops", [(0,), (1, 3), (4, 6, 1), (6, 6), (17,)])
def test_a_stopped_and_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    stops: tuple[int, ...], make_data: Windows, make_spec: Specs, train_tiny: Trains, tmp_path: Path
) -> None:
    data = make_data()
    spec = make_spec(data, dropout=0.3, micro_batch_size=20)
    whole = train_tiny(spec, data, name="whole")
    assert whole.n_steps == 18
    for n_steps in stops:
        part = train_tiny(spec, data, name="parts", should_stop=_after(n_steps))
        assert part.outcome == "stopped"
        assert part.stopped_epoch == len(part.curve) == part.n_steps // 6
    assert part.n_steps == sum(stops)
    resumed = train_tiny(spec, data, name="parts")
    assert resumed.outcome == "complete"
    assert _numbers(resumed) == _numbers(whole)
    assert (resumed.executed, resumed.batch) == (whole.executed, whole.batch)
    _assert_same(tmp_path / "whole", tmp_path / "parts")


def test_the_rarer_checkpoints_of_a_long_cadence_resume_to_the_same_weights(
    make_data: Windows, make_spec: Specs, train_tiny: Trains, tmp_path: Path
) -> None:
    data = make_data()
    spec = make_spec(data, dropout=0.3)
    events: list[Event] = []
    train_tiny(spec, data, name="whole")
    train_tiny(
        spec, data, name="parts", should_stop=_after(9), checkpoint_every_s=1e6, on_event=events.append
    )
    train_tiny(spec, data, name="parts", checkpoint_every_s=1e6, on_event=events.append)
    assert [event.step for event in events if isinstance(event, CheckpointSaved)] == [9, 18]
    _assert_same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("caps", [{"max_epochs": 1}, {"max_steps": 6}, {"max_steps": 9}, {"max_steps": 1}])
def test_a_capped_run_is_a_prefix_that_a_longer_run_goes_on_from(
    caps: dict[str, int], make_data: Windows, make_spec: Specs, train_tiny: Trains, tmp_path: Path
) -> None:
    data = make_data()
    whole = train_tiny(make_spec(data, dropout=0.3), data, name="whole")
    capped = train_tiny(make_spec(data, dropout=0.3, **caps), data, name="capped")
    assert capped.outcome == "complete"
    assert "capped" in capped.flags
    assert "capped" not in whole.flags
    assert capped.n_steps == caps.get("max_steps", 6)
    n_whole_epochs = capped.n_steps // 6
    assert _numbers(capped)[:n_whole_epochs] == _numbers(whole)[:n_whole_epochs]
    assert len(capped.curve) == math.ceil(capped.n_steps / 6)
    events: list[Event] = []
    resumed = train_tiny(make_spec(data, dropout=0.3), data, name="capped", on_event=events.append)
    assert [event.step for event in events if isinstance(event, Resumed)] == [capped.n_steps]
    assert _numbers(resumed) == _numbers(whole)
    _assert_same(tmp_path / "whole", tmp_path / "capped")


@pytest.mark.parametrize("caps", [{}, {"max_epochs": 2}, {"max_steps": 12}, {"max_steps": 9}])
def test_a_finished_run_is_not_trained_again(
    caps: dict[str, int],
    make_data: Windows,
    make_spec: Specs,
    train_tiny: Trains,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, events = make_data(), list[Event]()
    first = train_tiny(make_spec(data, **caps), data)
    monkeypatch.setattr(Stepper, "update", None)
    second = train_tiny(make_spec(data, **caps), data, on_event=events.append)
    quiet = [type(event) for event in events if not isinstance(event, CheckpointSaved | EpochEnd)]
    assert quiet == [Started, Resumed, Finished]
    timed = {"seconds", "finished_at", "peak_memory_bytes", "curve"}
    assert first.model_dump(exclude=timed) == second.model_dump(exclude=timed)
    assert _numbers(first) == _numbers(second)


def test_a_run_goes_on_with_a_smaller_micro_batch_and_stays_close(
    make_data: Windows, make_spec: Specs, train_tiny: Trains
) -> None:
    data = make_data()
    whole = train_tiny(make_spec(data, dropout=0.0), data, name="whole")
    train_tiny(make_spec(data, dropout=0.0), data, name="parts", should_stop=_after(7))
    resumed = train_tiny(make_spec(data, dropout=0.0, micro_batch_size=5), data, name="parts")
    assert resumed.best_val_loss == pytest.approx(whole.best_val_loss, rel=1e-4)


def test_a_checkpoint_of_another_run_is_refused_and_its_files_are_left_alone(
    make_data: Windows, make_spec: Specs, train_tiny: Trains, tmp_path: Path
) -> None:
    data = make_data()
    mine, theirs = make_spec(data, seed=1), make_spec(data, seed=2)
    train_tiny(mine, data)
    with pytest.raises(Fault, match=f"{fingerprint(theirs)}, got '{fingerprint(mine)}'"):
        train_tiny(theirs, data)
    assert read_run_spec(tmp_path / "run" / "run_spec.json") == mine


def test_a_truncated_newest_checkpoint_costs_time_and_not_the_result(
    make_data: Windows, make_spec: Specs, train_tiny: Trains, tmp_path: Path
) -> None:
    data = make_data()
    spec = make_spec(data, dropout=0.3)
    train_tiny(spec, data, name="whole")
    train_tiny(spec, data, name="parts", should_stop=_after(15))
    newest = max((tmp_path / "parts" / "checkpoints").glob("*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-100])
    events: list[Event] = []
    train_tiny(spec, data, name="parts", on_event=events.append)
    assert [event.step for event in events if isinstance(event, Resumed)] == [12]
    _assert_same(tmp_path / "whole", tmp_path / "parts")


def test_every_epoch_visits_every_training_window_once_in_an_order_of_its_own(
    make_data: Windows, make_spec: Specs, train_tiny: Trains, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, seen = make_data(), list[int]()
    real = Stepper.update

    def spied(stepper: Stepper, origins: torch.Tensor) -> torch.Tensor:
        seen.extend(origins.tolist())
        return real(stepper, origins)

    monkeypatch.setattr(Stepper, "update", spied)
    train_tiny(make_spec(data), data)
    first, second, third = np.split(np.array(seen), 3)
    assert sorted(first) == sorted(second) == sorted(third) == data.origins["train"].tolist()
    assert (first != second).any()
    assert (second != third).any()


def test_every_step_draws_its_own_dropout(
    make_data: Windows, make_spec: Specs, train_tiny: Trains, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, seeds = make_data(), list[int]()
    monkeypatch.setattr("finscale.training.stepper.seed_device", lambda device, seed: seeds.append(seed))
    result = train_tiny(make_spec(data), data)
    assert len(set(seeds)) == len(seeds) == result.n_steps


# -- outcomes -----------------------------------------------------------------------------------------------


def test_an_exploding_run_is_diverged_and_keeps_what_was_good(
    make_data: Windows, make_spec: Specs, train_tiny: Trains, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data()
    real = evaluate.build_run_model

    def poisoned(*args: object) -> torch.nn.Module:
        model = real(*args)
        calls = iter(range(1000))

        def spoil(module: torch.nn.Module, inputs: object, output: object) -> object:
            return _spoil(output) if module.training and next(calls) == 8 else None

        model.register_forward_hook(spoil)
        return model

    monkeypatch.setattr("finscale.training.stepper.build_run_model", poisoned)
    result = train_tiny(make_spec(data), data)
    assert result.outcome == "diverged"
    assert (result.stopped_epoch, result.best_epoch) == (1, 1)
    assert math.isfinite(result.best_val_loss or math.nan)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["outcome"] == "diverged"


def _spoil(output: object) -> object:
    output.prediction["logits"] = output.prediction["logits"] * float("nan")  # type: ignore[attr-defined]
    return output


def test_a_stop_after_a_divergence_leaves_no_poisoned_checkpoint(
    make_data: Windows, make_spec: Specs, train_tiny: Trains, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data()
    monkeypatch.setattr(
        "finscale.training.stepper.accumulate_gradients", lambda *args, **kwargs: torch.tensor(math.inf)
    )
    result = train_tiny(make_spec(data), data, should_stop=_after(2))
    assert (result.outcome, result.best_val_loss, result.curve) == ("diverged", None, ())
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_a_stop_before_the_first_epoch_ends_has_no_loss_yet(
    make_data: Windows, make_spec: Specs, train_tiny: Trains, tmp_path: Path
) -> None:
    data = make_data()
    result = train_tiny(make_spec(data), data, should_stop=_after(2))
    assert (result.outcome, result.n_steps, result.best_val_loss, result.best_epoch) == (
        "stopped",
        2,
        None,
        None,
    )
    assert not (tmp_path / "run" / "best.safetensors").exists()


def test_lost_patience_completes_the_run_early_with_the_best_epochs_value(
    make_data: Windows, make_spec: Specs, train_tiny: Trains
) -> None:
    data = make_data()
    result = train_tiny(make_spec(data, epochs=40, patience=3, min_delta=0.0, learning_rate=0.02), data)
    losses = [record.val_loss for record in result.curve]
    assert result.outcome == "complete"
    assert result.stopped_epoch == result.best_epoch + 3 < 40
    assert result.best_val_loss == min(losses) == losses[result.best_epoch - 1]
    assert "capped" not in result.flags


# -- records ------------------------------------------------------------------------------------------------


def test_the_record_says_what_ran(make_data: Windows, make_spec: Specs, train_tiny: Trains) -> None:
    data = make_data()
    spec = make_spec(data, micro_batch_size=20, dropout=0.25, weight_decay=0.07, warmup_steps=1000)
    result = train_tiny(spec, data)
    assert result.n_params == spec.n_params
    assert result.batch == spec.batch
    assert result.batch is not None
    assert result.batch.accumulation_steps == 2
    executed = result.executed
    assert (executed.optimizer, executed.fused, executed.dropout, executed.weight_decay) == (
        "AdamW",
        True,
        0.25,
        0.07,
    )
    assert executed.n_decayed + executed.n_undecayed == result.n_params
    assert (executed.warmup_steps, executed.total_steps, executed.steps_per_epoch) == (17, 18, 6)
    assert executed.learning_rate_max == pytest.approx(3e-3)
    assert [e.learning_rate for e in result.curve] == pytest.approx([3e-3 * k / 17 for k in (6, 12, 17)])


def test_a_training_set_smaller_than_the_batch_is_recorded_as_the_batch_that_ran(
    make_data: Windows, make_spec: Specs, train_tiny: Trains
) -> None:
    data = make_data(60)
    result = train_tiny(make_spec(data), data)
    assert result.batch is not None
    assert result.batch.effective_batch_size == len(data.origins["train"]) == 31
    assert result.n_steps == 3


def test_adam_and_a_constant_schedule_are_used_when_asked_for(
    make_data: Windows, make_spec: Specs, train_tiny: Trains
) -> None:
    data = make_data()
    result = train_tiny(make_spec(data, optimizer="adam", schedule="constant", clip_norm=None), data)
    assert result.executed.optimizer == "Adam"
    assert result.executed.learning_rate_last == 3e-3


def test_the_gradient_norm_is_clipped(make_data: Windows, make_spec: Specs, train_tiny: Trains) -> None:
    data = make_data()
    losses = [
        train_tiny(make_spec(data, clip_norm=norm), data, name=str(norm)).best_val_loss
        for norm in (1e-12, None)
    ]
    untrained = train_tiny(make_spec(data, learning_rate=1e-12), data, name="untrained").best_val_loss
    assert abs(losses[0] - untrained) < 0.02 * abs(losses[1] - untrained)


def test_listeners_hear_the_run_in_order(make_data: Windows, make_spec: Specs, train_tiny: Trains) -> None:
    data, events = make_data(), list[Event]()
    result = train_tiny(make_spec(data), data, on_event=events.append)
    epochs = [event for event in events if isinstance(event, EpochEnd)]
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    assert [event.val_loss for event in epochs] == [record.val_loss for record in result.curve]
    assert [event.best_val_loss for event in epochs] == np.minimum.accumulate(
        [e.val_loss for e in epochs]
    ).tolist()
    assert all(event.samples_per_s > 0 and event.memory_bytes > 0 for event in epochs)


# -- execution ----------------------------------------------------------------------------------------------


def test_the_callers_threads_and_random_state_are_untouched(
    make_data: Windows, make_spec: Specs, train_tiny: Trains
) -> None:
    data, threads = make_data(60), torch.get_num_threads()
    torch.manual_seed(7)
    state = torch.get_rng_state()
    result = train_tiny(make_spec(data), data, n_threads=threads + 1)
    assert result.executed.n_threads == threads + 1
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_bfloat16_changes_the_rounding_and_little_else(
    make_data: Windows, make_spec: Specs, train_tiny: Trains
) -> None:
    data = make_data()
    full = train_tiny(make_spec(data), data, name="fp32")
    half = train_tiny(make_spec(data), data, name="bf16", precision="bf16")
    assert half.curve[0].train_loss != full.curve[0].train_loss
    assert half.curve[0].val_loss != full.curve[0].val_loss
    assert half.best_val_loss == pytest.approx(full.best_val_loss, abs=0.01)


def test_compile_full_trains_through_the_compiled_model(
    make_data: Windows, make_spec: Specs, train_tiny: Trains, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, n_calls = make_data(), 0

    def counted(model: torch.nn.Module) -> Callable[..., object]:
        def forward(batch: object) -> object:
            nonlocal n_calls
            n_calls += 1
            return model(batch)

        return forward

    monkeypatch.setattr(torch, "compile", counted)
    plain = train_tiny(make_spec(data), data, name="off")
    assert n_calls == 0
    on_cpu = train_tiny(make_spec(data), data, name="cpu", compile="full")
    assert (n_calls, on_cpu.executed.compile) == (0, "off")
    monkeypatch.setattr("finscale.training.stepper.COMPILED_ON", ("cpu",))
    compiled = train_tiny(make_spec(data), data, name="full", compile="full")
    assert (n_calls, compiled.executed.compile) == (compiled.n_steps, "full")
    assert _numbers(plain) == _numbers(compiled)


def test_a_wrong_parameter_count_is_refused_before_training(
    make_data: Windows, make_spec: Specs, train_tiny: Trains
) -> None:
    data = make_data()
    spec = make_spec(data)
    with pytest.raises(FinscaleError, match=rf"n_params must equal the built model's {spec.n_params}"):
        train_tiny(spec.model_copy(update={"n_params": spec.n_params + 1}), data)


def test_a_run_reads_its_view_whether_it_is_handed_all_windows_or_the_view(
    make_data: Windows, make_spec: Specs, train_tiny: Trains, tmp_path: Path
) -> None:
    data, view = make_data(), WindowView(features=("c", "a"), context_length=6)
    spec = make_spec(view_windows(data, view)).model_copy(
        update={"view": view, "experiment": make_spec(data).experiment}
    )
    whole = train_tiny(spec, data, name="whole")
    assert _numbers(train_tiny(spec, view_windows(data, view), name="seen")) == _numbers(whole)
    other = np.array(data.values)
    other[:, 1] = 7.0
    unread = dataclasses.replace(data, values=other)
    assert _numbers(train_tiny(spec, unread, name="unread")) == _numbers(whole)
