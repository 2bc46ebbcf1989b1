"""A stream says what one call says, and is measured by what it keeps."""

import io
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from finscale.core.errors import Fault, FinscaleError
from finscale.longcontext.streaming import StreamRow, measure_stream, stream
from finscale.longcontext.system import system_table
from finscale.models.config import TransformerConfig
from finscale.models.contract import Batch
from finscale.models.layers.attractor import Attractor
from finscale.models.registry import build_model
from finscale.models.transformer import Transformer

SHAPE = {"vocab_size": 11, "d_model": 16, "n_layers": 2, "n_heads": 2, "d_ff": 24, "dropout": 0.3}
MODES: dict[str, dict[str, Any]] = {
    "full": {},
    "window": {"window_size": 9, "n_sinks": 2, "positions": "alibi"},
    "content": {"window_size": 9, "n_sinks": 2, "attractor": {"keys": "content", "into": "all"}},
    "position": {"window_size": 9, "attractor": {"keys": "position"}},
    "horizon": {"window_size": 9, "attractor": {"alpha": {"kind": "exp_c_over_N", "N": 200}}},
    "rotated": {"window_size": 9, "attractor": {"keys": {"kind": "content", "rotated": True}}},
}
every_mode = pytest.mark.parametrize("fields", MODES.values(), ids=MODES.keys())


def decoder(**fields: Any) -> Transformer:
    config = TransformerConfig.read({**SHAPE, **fields})
    model = build_model(config, n_features=3, context_length=0, seed=4)
    assert isinstance(model, Transformer)
    for module in model.modules():
        if isinstance(module, Attractor):
            torch.nn.init.normal_(module.output.weight, std=0.2, generator=torch.Generator().manual_seed(1))
    return model


def symbols(length: int) -> Tensor:
    return torch.randint(11, (2, length), generator=torch.Generator().manual_seed(1))


@every_mode
def test_every_size_of_chunk_gives_the_same_logits(fields: dict[str, Any]) -> None:
    model, tokens = decoder(**fields), symbols(80)
    with torch.no_grad():
        whole = model.eval()(Batch(tokens=tokens)).prediction["next_symbol"]
    for chunk in (1, 7, 64, 80):
        outputs = stream(model.train(), tokens.split(chunk, dim=1))
        said = torch.cat([output.prediction["next_symbol"] for output in outputs], dim=1)
        torch.testing.assert_close(said, whole, rtol=0, atol=1e-5)


def test_between_two_chunks_gradients_and_the_mode_are_those_of_the_caller() -> None:
    model = decoder().train()
    for _ in stream(model, symbols(20).split(5, dim=1)):
        assert torch.is_grad_enabled()
        assert model.training


@every_mode
def test_only_full_attention_keeps_more_of_a_longer_stream(fields: dict[str, Any]) -> None:
    model = decoder(**fields)
    kept = [
        measure_stream(model, mode="m", length=length, chunk_length=64).state_bytes for length in (1024, 3000)
    ]
    assert (kept[1] > kept[0]) == (fields == {})


def test_a_row_counts_what_was_read() -> None:
    model = decoder(window_size=5)
    seen: list[int] = []
    model.embedding.register_forward_hook(lambda _, given, __: seen.append(given[0].shape[1]))
    row = measure_stream(model, mode="window", length=100, chunk_length=30, seed=3)
    # 30 symbols of warming up, then all of them
    assert seen == [30, 30, 30, 30, 10]
    given = {name: getattr(row, name) for name in ("mode", "device", "length", "chunk_length")}
    assert given == {"mode": "window", "device": "cpu", "length": 100, "chunk_length": 30}
    assert row.state_bytes == 2 * (4 * (2 * 16 * 4 + 8) + 2 * 16 * 4)
    assert row.tokens_per_cpu_s == 100 / row.cpu_s
    assert 0 < row.rss_bytes <= row.peak_bytes * 1.01
    assert StreamRow.read(row.model_dump()) == row


@pytest.mark.parametrize(
    ("memory", "throughput"), [(True, True), (True, False), (False, True), (False, False)]
)
def test_a_row_notes_what_it_is_asked_to_note(memory: bool, throughput: bool) -> None:
    row = measure_stream(decoder(window_size=5), mode="window", length=40, chunk_length=20)
    noted = row.logged(memory=memory, throughput=throughput)
    assert noted.state_bytes == row.state_bytes
    kept = (row.rss_bytes, row.peak_bytes) if memory else (None, None)
    assert (noted.rss_bytes, noted.peak_bytes) == kept
    speeds = (40 / row.cpu_s, 40 / row.wall_s) if throughput else (None, None)
    assert (noted.tokens_per_cpu_s, noted.tokens_per_s) == speeds
    table = system_table([noted, noted])
    written = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    columns = {"rss_bytes": memory, "peak_bytes": memory, "cpu_s": throughput, "wall_s": throughput}
    speeds_too = {"tokens_per_cpu_s": throughput, "tokens_per_s": throughput, "state_bytes": True}
    for name, there in {**columns, **speeds_too}.items():
        assert written[name].notna().all() == table[name].notna().all() == there
        assert pd.api.types.is_numeric_dtype(table[name])


def test_symbols_depend_on_the_seed_alone() -> None:
    model, read = decoder(), []
    model.embedding.register_forward_hook(lambda _, given, __: read.append(given[0].flatten().tolist()))
    for seed in (0, 0, 1):
        measure_stream(model, mode="m", length=40, chunk_length=40, seed=seed)
    assert read[1] == read[3] != read[5]
    assert set(read[1]) <= set(range(11))
    assert len(set(read[1])) > 5


def test_what_cannot_be_streamed_is_refused() -> None:
    with pytest.raises(FinscaleError, match="length must be at least 1, got 0") as caught:
        measure_stream(decoder(), mode="m", length=0, chunk_length=0)
    assert "chunk_length must be at least 1" in str(caught.value)
    with pytest.raises(Fault, match="model must be a decoder over symbols"):
        measure_stream(decoder(vocab_size=None), mode="m", length=5, chunk_length=5)
    dynamic = {"kind": "rope_dynamic", "factor": 2, "original_length": 8}
    with pytest.raises(Fault, match="state must be left out under positions=rope_dynamic"):
        next(stream(decoder(positions=dynamic), [symbols(3)]))
