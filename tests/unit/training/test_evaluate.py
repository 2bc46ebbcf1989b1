from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finscale.core.errors import Fault
from finscale.metrics.classification import log_loss
from finscale.models.config import MigtTvdtConfig, PatchTSTConfig
from finscale.models.registry import build_model
from finscale.training.answers import answers
from finscale.training.config import ExecutionConfig
from finscale.training.evaluate import (
    EVALUATED_SPLITS,
    at_a_time,
    evaluate_run,
    load_best,
    observe_split,
)
from finscale.training.result import TrainingResult
from finscale.training.run_spec import RunSpec, write_run_spec
from finscale.windows.batches import DeviceWindows
from finscale.windows.data import WindowData
from finscale.windows.origins import ORIGIN
from finscale.windows.spec import WindowSpec

Specs = Callable[..., RunSpec]
Windows = Callable[..., WindowData]
Trains = Callable[..., TrainingResult]
CPU = ExecutionConfig(device="cpu")


def test_the_weights_evaluated_are_those_of_the_best_epoch_and_not_the_last(
    make_data: Windows, make_spec: Specs, train_tiny: Trains, tmp_path: Path
) -> None:
    data = make_data()
    result = train_tiny(make_spec(data, epochs=25, learning_rate=0.02), data)
    assert result.best_epoch < result.stopped_epoch
    evaluation = evaluate_run(tmp_path / "run", data, execution=CPU)
    assert evaluation.scores["val_select"]["log_loss"] == result.best_val_loss
    assert evaluation.scores["val_select"]["base_rate_loss"] == result.base_rate_loss
    assert evaluation.scores["val_select"]["spread"] == result.spread


def test_per_date_losses_average_to_the_scores_of_each_split(
    make_data: Windows, make_spec: Specs, train_tiny: Trains, tmp_path: Path
) -> None:
    data = make_data()
    train_tiny(make_spec(data), data)
    evaluation = evaluate_run(tmp_path / "run", data, execution=CPU)
    losses = evaluation.losses
    assert list(losses.columns) == [*ORIGIN, "split", "probability", "target", "log_loss"]
    for split in EVALUATED_SPLITS:
        rows = losses[losses["split"] == split]
        assert (rows["at"].to_numpy() == data.dates_at(split)).all()
        assert (rows["date"].to_numpy() == data.sessions[data.origins[split]]).all()
        assert (rows["target"].to_numpy() == data.targets_at(split)).all()
        assert rows["log_loss"].mean() == pytest.approx(evaluation.scores[split]["log_loss"], rel=1e-12)
        y = data.targets_at(split)
        base = log_loss(y, np.full(len(y), data.base_rate))
        assert evaluation.scores[split]["base_rate_loss"] == pytest.approx(base, rel=1e-12)


def test_prediction_is_the_models_sigmoid_without_dropout_in_any_chunking(
    make_data: Windows, make_spec: Specs, train_tiny: Trains, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data()
    train_tiny(make_spec(data, dropout=0.5), data)
    _, model = load_best(tmp_path / "run", data, device=torch.device("cpu"))
    model.train()

    def probabilities() -> np.ndarray:
        return observe_split(model, data, "test", device=torch.device("cpu")).columns["probability"]

    p = probabilities()
    assert model.training
    monkeypatch.setattr("finscale.training.evaluate._CHUNK", 7)
    np.testing.assert_allclose(probabilities(), p, rtol=1e-5)
    contexts = np.stack([data.values[o - 7 : o + 1] for o in data.origins["test"]])
    from finscale.models.contract import Batch

    with torch.no_grad():
        logits = model.eval()(Batch(values=torch.from_numpy(contexts))).prediction["logits"][:, 0]
    np.testing.assert_allclose(p, torch.sigmoid(logits).numpy(), rtol=1e-5)


def test_planted_skill_on_direction_is_flagged_on_every_split(
    make_data: Windows, make_spec: Specs, train_tiny: Trains, tmp_path: Path
) -> None:
    data = make_data(1500, signal=3.0)
    train_tiny(make_spec(data, epochs=6, learning_rate=1e-2), data)
    flags = evaluate_run(tmp_path / "run", data, execution=CPU).flags
    assert flags == dict.fromkeys(EVALUATED_SPLITS, ("suspicious_skill",))


def test_missing_foreign_and_damaged_weights_are_refused(
    make_data: Windows, make_spec: Specs, train_tiny: Trains, tmp_path: Path
) -> None:
    data, folder = make_data(), tmp_path / "run"
    train_tiny(make_spec(data), data)
    weights = folder / "best.safetensors"
    write_run_spec(folder / "run_spec.json", make_spec(data, seed=8))
    with pytest.raises(Fault, match="fingerprint"):
        evaluate_run(folder, data, execution=CPU)
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(Fault, match="readable weights"):
        evaluate_run(folder, data, execution=CPU)
    weights.unlink()
    with pytest.raises(Fault, match="must exist"):
        evaluate_run(folder, data, execution=CPU)


@pytest.mark.parametrize(("context", "d_model"), [(10, 8), (20, 10), (20, 64)])
@pytest.mark.parametrize("rows", [slice(0, 1), slice(3, 40), slice(130, 200), slice(0, None, 7)])
def test_what_is_said_of_a_window_does_not_depend_on_the_windows_beside_it(
    finish_run: Callable[..., Any], daily_bars: Any, context: int, d_model: int, rows: slice
) -> None:
    model = PatchTSTConfig(
        d_model=d_model, n_layers=1, n_heads=2, d_ff=2 * d_model, patch_length=5, stride=5, dropout=0.1
    )
    run = finish_run(daily_bars, model=model, context_length=context)
    _, trained = load_best(run.folder, run.data, device=torch.device("cpu"))
    windows, origins = DeviceWindows(run.data, "cpu"), torch.from_numpy(run.data.origins["train"])
    ask = {"spec": run.data.spec, "execution": ExecutionConfig(device="cpu")}
    everywhere = answers(trained, windows, origins, **ask)
    np.testing.assert_array_equal(answers(trained, windows, origins[rows], **ask), everywhere[rows])


def test_one_pass_reads_as_many_windows_as_two_gibibytes_hold() -> None:
    spec = WindowSpec(
        experiment="e", task="quantile", touch="high", horizon=3, context_length=288,
        features=tuple(f"x{k}" for k in range(24)), data_hash="d", title="t",
    )  # fmt: skip
    small = MigtTvdtConfig(d_model=32, n_layers=2, n_heads=2, d_ff=64)
    with torch.device("meta"):
        few, many, no_more = (
            at_a_time(build_model(config, n_features=24, context_length=288, seed=0), shorter)
            for config, shorter in (
                (MigtTvdtConfig(), spec),
                (small, spec),
                (small, spec.model_copy(update={"context_length": 20})),
            )
        )
    assert few == 16
    assert 16 < many < 512
    assert many % 16 == 0
    assert no_more == 512
