"""What a run is exported as says what the run says."""

import hashlib
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jaxtyping
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch

import finscale
from finscale.archgrid.batching import split_batch
from finscale.core.budgets import Cell
from finscale.core.errors import FinscaleError
from finscale.datasets.bars import BarsDataset
from finscale.features.compute import compute_features
from finscale.features.prepare import prepare_bars
from finscale.models.config import DLinearConfig, PatchTSTConfig, TransformerConfig
from finscale.models.generate import generate
from finscale.training import exporters
from finscale.training.answers import dropout_answers
from finscale.training.config import ExecutionConfig, TrainingConfig
from finscale.training.evaluate import load_best
from finscale.training.export import export_run
from finscale.training.export_config import ExportSettings, export_faults
from finscale.training.generative import load_decoder
from finscale.training.heads import head_for
from finscale.training.loop import train
from finscale.training.run_inputs import bar_facts, save_inputs
from finscale.training.run_spec import Provenance, plan_run
from finscale.windows.batches import DeviceWindows
from finscale.windows.build import build_windows
from finscale.windows.experiment import DataConfig, ExperimentConfig

SIZES = {"d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 16}
PATCHES = {**SIZES, "patch_length": 5, "stride": 5, "dropout": 0.2}
BINARY = {"task": "direction"}
FORECAST = {"task": "forecast", "horizon": 3, "allow_few_positives": False}
QUANTILE = {"task": "quantile", "horizons": (1, 2), "allow_few_positives": False}
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "patchtst, class token, batch norm": (
        PatchTSTConfig(**PATCHES, pooling="cls", norm="batch_norm"),
        BINARY,
    ),
    "patchtst, channels apart": (
        PatchTSTConfig(**PATCHES, channels="independent", pooling="flatten"),
        FORECAST,
    ),
    "decoder": (TransformerConfig(**SIZES, dropout=0.1), QUANTILE),
    "encoder with masks": (
        TransformerConfig(**SIZES, causal=False, conv_taps=0),
        {**BINARY, "min_context_length": 5},
    ),
    "dlinear": (
        DLinearConfig(),
        {"task": "forecast", "horizon": 2, "allow_few_positives": False},
    ),
}


@pytest.fixture(autouse=True)
def _shapes_unchecked() -> Iterator[None]:
    """A check of shapes would turn the batch that is traced into a constant."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def decoder_run(tmp_path: Path) -> Any:
    """A decoder trained for an epoch on sequences of three symbols, each of which is followed by the next."""
    table = pd.DataFrame(
        [(f"u{user}", item, "abc"[(user + item) % 3]) for user in range(30) for item in range(24)],
        columns=["user", "item", "symbol"],
    )
    table.to_csv(tmp_path / "table.csv", index=False)
    columns = {"sequence": "user", "position": "item", "channels": [], "categories": ["symbol"]}
    loaded = BarsDataset(source={"kind": "file", "path": str(tmp_path / "table.csv"), **columns}).load()
    bars = prepare_bars(loaded, name="table")
    experiment = ExperimentConfig(
        name="symbols", title="Symbols", data=DataConfig(task="classes", context_length=8)
    )
    features = compute_features(bars, list(bars.columns)).frame
    data, _ = build_windows(features, bars, experiment=experiment, horizon=1, data_hash="symbols")
    spec = plan_run(
        TransformerConfig(**SIZES, vocab_size=3, dropout=0.1, head=head_for(data.spec)),
        TrainingConfig(
            learning_rate=0.01, epochs=4, weight_decay=0.0, warmup_steps=2, effective_batch_size=32
        ),
        experiment=experiment,
        cell=Cell.parse("5K", 1),
        n_features=0,
        batch=split_batch(32, effective_batch_size=32),
        seed=1,
        provenance=Provenance(data_hash="symbols"),
    )
    folder = tmp_path / "run"
    train(spec, data, directory=folder, execution=ExecutionConfig(device="cpu"))
    save_inputs(folder, data, bar_facts(bars))
    return SimpleNamespace(folder=folder, data=data, prepared=bars)


def outputs_of(run: Any, n: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """Inputs, predictions and embeddings of the first n test windows, from the model itself."""
    _, model = load_best(run.folder, run.data, device=torch.device("cpu"))
    batch = DeviceWindows(run.data, "cpu").gather(torch.from_numpy(run.data.origins["test"][:n]))
    with torch.no_grad():
        output = model.eval()(batch)
    inputs = {name: value.numpy() for name, value in vars(batch).items() if value is not None}
    return (
        inputs,
        {name: value.numpy() for name, value in output.prediction.items()},
        output.embedding.numpy(),
    )


@pytest.mark.parametrize("case", CASES)
def test_an_onnx_model_repeats_the_model_on_any_number_of_windows(
    finish_run: Callable[..., Any], daily_bars: pd.DataFrame, case: str
) -> None:
    model, options = CASES[case]
    run = finish_run(daily_bars, model=model, **options)
    manifest = export_run(run.folder, run.data, ExportSettings(export=("onnx",), inference_batch_size=50))
    (check,) = (export.check for export in manifest.exports)
    assert check.opset == 20
    assert check.max_difference is not None
    assert check.max_difference < 1e-4
    assert check.n_windows == len(run.data.origins["test"])
    session = onnxruntime.InferenceSession(run.folder / "export/onnx/model.onnx")
    assert {port.name for port in check.inputs} == {found.name for found in session.get_inputs()}
    for n in (1, 2, 33):
        inputs, predictions, _ = outputs_of(run, n)
        said = session.run(list(predictions), inputs)
        for found, expected in zip(said, predictions.values(), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-4)


def test_weights_too_large_for_one_file_lie_beside_the_graph(
    finish_run: Callable[..., Any], daily_bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, options = CASES["decoder"]
    run = finish_run(daily_bars, model=model, **options)
    monkeypatch.setattr(exporters, "_MOST_INLINE_BYTES", 0)
    (export,) = export_run(run.folder, run.data, ExportSettings(export=("onnx",))).exports
    assert [file.path for file in export.files] == ["onnx/model.onnx", "onnx/model.onnx.data"]
    assert export.files[1].n_bytes > 2 * run.spec.n_params  # vectors stay in the graph


def test_the_embedding_is_what_the_head_reads(daily_run: Any) -> None:
    export_run(daily_run.folder, daily_run.data, ExportSettings(export=("embedding",)))
    session = onnxruntime.InferenceSession(daily_run.folder / "export/embedding/model.onnx")
    inputs, _, embedding = outputs_of(daily_run, 20)
    (found,) = session.run(["embedding"], inputs)
    assert found.shape == (20, 8)
    np.testing.assert_allclose(found, embedding, atol=1e-4)


def test_a_torch_program_is_read_back_without_a_pickle(
    daily_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ExportSettings(export=("torch",))
    (export,) = export_run(daily_run.folder, daily_run.data, settings).exports

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a pickle was read")

    for owner, name in ((torch, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(owner, name, refuse)
    program = torch.export.load(daily_run.folder / "export/torch/model.pt2").module()
    inputs, predictions, _ = outputs_of(daily_run, 7)
    found = program(torch.from_numpy(inputs["values"]))["logits"].detach().numpy()
    np.testing.assert_allclose(found, predictions["logits"], atol=1e-6)
    assert [(port.name, port.shape) for port in export.check.inputs] == [("values", ("batch", 20, 3))]


def test_a_decoder_of_symbols_is_exported_in_every_way_and_goes_on_with_labels(decoder_run: Any) -> None:
    kinds = ("generative", "embedding", "onnx", "torch", "dropout")
    manifest = export_run(decoder_run.folder, decoder_run.data, ExportSettings(export=kinds))
    by_kind = {export.kind: export.check for export in manifest.exports}
    assert set(by_kind) == set(kinds)
    assert [(port.name, port.dtype) for port in by_kind["onnx"].inputs] == [("tokens", "int64")]
    assert by_kind["onnx"].outputs[0].shape == ("batch", 3)
    decoder, vocabulary = load_decoder(decoder_run.folder / "export/generative")
    (said,) = generate(decoder, torch.tensor([[0, 1, 2, 0, 1, 2, 0, 1]]), 6).tolist()
    assert "".join(str(vocabulary[code]) for code in said) == "cabcab"
    table = pd.read_parquet(decoder_run.folder / "export/dropout/test.parquet")
    shares = table[["symbol_a", "symbol_b", "symbol_c"]].sum(axis=1)
    np.testing.assert_allclose(shares, 1.0, rtol=1e-6)
    with pytest.raises(FinscaleError, match="a table of labels or sequences"):
        finscale.predict(decoder_run.folder, decoder_run.prepared)


def test_the_dropout_table_has_a_spread_for_every_test_window(daily_run: Any) -> None:
    settings = ExportSettings(export=("dropout",))
    (export,) = export_run(daily_run.folder, daily_run.data, settings).exports
    table = pd.read_parquet(daily_run.folder / "export/dropout/test.parquet")
    np.testing.assert_array_equal(table["at"].to_numpy(), daily_run.data.dates_at("test"))
    assert (table["probability_spread"] > 0).all()
    assert (export.check.n_samples, export.check.n_windows) == (50, len(table))
    _, model = load_best(daily_run.folder, daily_run.data, device=torch.device("cpu"))
    mean, spread = dropout_answers(
        model,
        DeviceWindows(daily_run.data, "cpu"),
        torch.from_numpy(daily_run.data.origins["test"]),
        spec=daily_run.data.spec,
        execution=ExecutionConfig(device="cpu"),
        n_samples=export.check.n_samples,
        seed=export.check.seed,
    )
    np.testing.assert_array_equal(table["probability"], mean)
    np.testing.assert_array_equal(table["probability_spread"], spread)


def test_the_manifest_is_of_the_files_that_are_there_and_names_no_machine(daily_run: Any) -> None:
    export_run(daily_run.folder, daily_run.data, ExportSettings(export=("dropout",)))
    manifest = export_run(daily_run.folder, daily_run.data, ExportSettings(export=("torch", "onnx")))
    folder = daily_run.folder / "export"
    written = json.loads((folder / "export.json").read_text())
    assert written == manifest.model_dump(mode="json")
    assert [export["kind"] for export in written["exports"]] == ["onnx", "torch"]
    assert written["versions"]["torch"] == torch.__version__
    files = {file["path"]: file for export in written["exports"] for file in export["files"]}
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {*files, "export.json", "inputs.json"}
    root = str(Path(__file__).parents[3]).encode()
    for path, file in files.items():
        content = (folder / path).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (file["sha256"], file["n_bytes"])
        assert root not in content


def test_the_inputs_beside_an_export_make_its_windows_from_features(daily_run: Any) -> None:
    export_run(daily_run.folder, daily_run.data, ExportSettings(export=("dropout",)))
    inputs = json.loads((daily_run.folder / "export/inputs.json").read_text())
    features = compute_features(daily_run.prepared, inputs["spec"]["features"]).frame
    values = ((features.to_numpy() - inputs["mean"]) / inputs["std"]).astype(np.float32)
    np.testing.assert_array_equal(values, daily_run.data.values)


def test_an_export_that_differs_from_the_model_is_refused(
    daily_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = exporters._Tensors.forward

    def slightly_off(module: Any, *inputs: Any) -> dict[str, torch.Tensor]:
        drift = 0.0 if torch.compiler.is_exporting() else 3e-4
        return {name: value + drift for name, value in own(module, *inputs).items()}

    monkeypatch.setattr(exporters._Tensors, "forward", slightly_off)
    with pytest.raises(
        FinscaleError, match=r"export torch must agree with the model to 1\.0e-04, got 0\.0003"
    ):
        export_run(daily_run.folder, daily_run.data, ExportSettings(export=("torch",)))
    assert not (daily_run.folder / "export/export.json").exists()


def test_kinds_are_read_in_any_order_and_a_misspelt_one_gets_a_suggestion() -> None:
    read = ExportSettings.read({"export": "torch onnx"}, subject="training")
    assert read.export == ("onnx", "torch")
    with pytest.raises(FinscaleError, match="did you mean 'onnx'"):
        ExportSettings.read({"export": ["onx"]}, subject="training")
    with pytest.raises(FinscaleError, match=r"training\.export must name each kind once"):
        ExportSettings.read({"export": ["onnx", "onnx"]}, subject="training")
    with pytest.raises(FinscaleError, match=r"training\.inference_batch_size"):
        ExportSettings.read({"inference_batch_size": 0}, subject="training")


def test_what_a_model_cannot_be_exported_as_is_known_before_it_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def told(kind: str, model: Any, dropout: float | None) -> list[str]:
        return [str(fault) for fault in export_faults(ExportSettings(export=(kind,)), model, dropout=dropout)]

    patches, decoder = PatchTSTConfig(**PATCHES), TransformerConfig(**SIZES, vocab_size=7)
    assert not told("dropout", patches, 0.1)
    assert not told("dropout", patches, None)
    assert "trained with dropout" in told("dropout", patches, 0.0)[0]
    assert not told("generative", decoder, 0.0)
    for model in (
        patches,
        TransformerConfig(**SIZES),
        TransformerConfig(**SIZES, vocab_size=7, causal=False, prediction_length=1),
    ):
        assert "have a causal transformer" in told("generative", model, 0.1)[0]
    monkeypatch.setattr("finscale.training.export_config._PACKAGES", ("onnx", "no_such_package"))
    assert 'pip install "finscale[export]"' in told("onnx", patches, 0.1)[0]
    assert not told("torch", patches, 0.1)
