"""The memory model against what autograd really keeps."""

from typing import Any

import pytest
import torch
from torch import nn

from finscale.archgrid.memory import predict_memory
from finscale.archgrid.probe import checkpoint_activations
from finscale.models.config import AnyConfig, parse_model_config, reads_calendar
from finscale.models.contract import Batch
from finscale.models.registry import build_model

SIZES = {"n_features": 7, "context_length": 60}
SHAPE = {"d_model": 32, "n_layers": 4, "n_heads": 4, "d_ff": 64}


def patchtst(**options: object) -> AnyConfig:
    return parse_model_config({"family": "patchtst", **SHAPE, **options})


def decoder(**options: object) -> AnyConfig:
    return parse_model_config({"family": "transformer", "vocab_size": 40, **SHAPE, "d_ff": 128, **options})


def migt_tvdt(**options: object) -> AnyConfig:
    return parse_model_config({"family": "migt_tvdt", **SHAPE, "session_bars": 78, **options})


PATCHTST = patchtst()
CASES = {
    "mean": PATCHTST,
    "flatten": patchtst(pooling="flatten", n_heads=16),
    "wide": patchtst(d_model=128, d_ff=512, dropout=0.0),
    "deep": patchtst(n_layers=24),
    "independent": patchtst(channels="independent"),
    "affine": patchtst(instance_norm="revin_affine"),
    "unplaced": patchtst(positions={"kind": "none"}),
    "patch-rope": patchtst(positions={"kind": "rope"}),
    "patch-rms": patchtst(norm="rms_norm"),
    "patch-batch-norm": patchtst(norm="batch_norm"),
    "rope": decoder(n_heads=2),
    "none": decoder(positions="none", dropout=0.1),
    "alibi": decoder(positions={"kind": "alibi"}),
    "no-convolution": decoder(conv_taps=0),
    "grouped": decoder(attention="gqa", n_kv_heads=2),
    "one-key-head": decoder(attention="mqa", d_ff=32),
    "swiglu": decoder(activation="swiglu"),
    "relu": decoder(activation="relu"),
    "rms": decoder(norm="rms_norm"),
    "last-symbol": decoder(prediction_length=1),
    "window": decoder(window_size=9),
    "sinks": decoder(window_size=9, n_sinks=2),
    "attractor": decoder(attractor={"keys": "content", "into": "all"}),
    "one-attractor": decoder(attractor={"keys": "content", "n_inject": 1}),
    "still-attractor": decoder(attractor={"injection": "residual", "alpha": {"kind": "fixed"}}),
    "attractor-of-positions": decoder(attractor={"keys": "position"}),
    "window-and-attractor": decoder(window_size=9, attractor={"keys": "content"}),
    "no-injection": decoder(attractor={"injection": "none"}),
    "two-stages": migt_tvdt(),
    "two-stages-deep": migt_tvdt(n_layers=9, d_ff=128, dropout=0.0),
}
B = 32


def kept_for_backward(config: AnyConfig, *, bf16: bool = False, checkpointing: bool = False) -> int:
    model = build_model(config, **SIZES, seed=0).train()
    checkpoint_activations(model, checkpointing)
    calendar = torch.ones(B, 60, 4, dtype=torch.int64) if reads_calendar(config) else None
    batch = Batch(values=torch.zeros(B, 60, 7), calendar=calendar)
    if config.family == "transformer":
        batch = Batch(tokens=torch.zeros(B, 60, dtype=torch.int64))
    with torch.random.fork_rng(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        return bytes_saved(model, batch)


def bytes_saved(model: nn.Module, batch: Batch) -> int:
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        for head in model(batch).prediction.values():
            head.float().logsumexp(-1)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("config", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_predicted_activations_are_what_autograd_keeps(config: AnyConfig, precision: str) -> None:
    kept = kept_for_backward(config, bf16=precision == "bf16")
    estimate = predict_memory(config, **SIZES, micro_batch_size=B, precision=precision, device_type="cpu")
    assert estimate.activations == pytest.approx(kept, rel=0.05)


@pytest.mark.parametrize(
    "options",
    [
        {"window_size": 40},
        {"window_size": 40, "n_sinks": 4},
        {"attractor": {"keys": "content", "into": "all"}},
        {"window_size": 40, "attractor": {"keys": "position"}},
    ],
    ids=["window", "sinks", "attractor", "both"],
)
def test_masks_of_bands_and_chunks_of_attractors_are_predicted_over_long_contexts(options: Any) -> None:
    config, sizes = decoder(n_layers=2, **options), {"n_features": 7, "context_length": 1200}
    model = build_model(config, **sizes, seed=0).train()
    kept = bytes_saved(model, Batch(tokens=torch.zeros(6, 1200, dtype=torch.int64)))
    estimate = predict_memory(config, **sizes, micro_batch_size=6, device_type="cpu")
    assert estimate.activations == pytest.approx(kept, rel=0.03)


def test_turned_keys_of_an_attractor_are_predicted_to_ten_percent() -> None:
    config = decoder(attractor={"keys": {"kind": "content", "rotated": True}, "into": "all"})
    estimate = predict_memory(config, **SIZES, micro_batch_size=B, device_type="cpu")
    assert estimate.activations == pytest.approx(kept_for_backward(config), rel=0.10)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_bias_of_distance_is_predicted_to_fifteen_percent(precision: str) -> None:
    config = patchtst(positions={"kind": "alibi"})
    kept = kept_for_backward(config, bf16=precision == "bf16")
    estimate = predict_memory(config, **SIZES, micro_batch_size=B, precision=precision, device_type="cpu")
    assert estimate.activations == pytest.approx(kept, rel=0.15)


def test_weights_gradients_and_moments_take_sixteen_bytes_a_parameter() -> None:
    estimate = predict_memory(PATCHTST, **SIZES, micro_batch_size=1)
    n_params = sum(parameter.numel() for parameter in build_model(PATCHTST, **SIZES, seed=0).parameters())
    assert (estimate.parameters, estimate.gradients, estimate.moments) == (
        4 * n_params,
        4 * n_params,
        8 * n_params,
    )
    assert estimate.total == 16 * n_params + estimate.activations + estimate.workspace


def test_activations_grow_in_proportion_to_the_micro_batch() -> None:
    one, many = (predict_memory(PATCHTST, **SIZES, micro_batch_size=b).activations for b in (1, 64))
    assert many == 64 * one


def test_the_memory_score_cannot_tell_what_the_memory_model_can() -> None:
    wide = PATCHTST.model_copy(update={"d_model": 2048, "n_layers": 32, "d_ff": 8192})
    deep = PATCHTST.model_copy(update={"d_model": 768, "n_layers": 256, "d_ff": 3072})
    scores = [config.d_model**2 * config.n_layers for config in (wide, deep)]
    assert scores[0] == pytest.approx(scores[1], rel=0.15)
    memory = [predict_memory(config, **SIZES, micro_batch_size=128).activations for config in (wide, deep)]
    assert memory[1] > 2.5 * memory[0]


def test_a_dropout_mask_takes_a_byte_on_cuda_and_a_number_elsewhere() -> None:
    def masks(device_type: str) -> int:
        with_masks, without = (
            predict_memory(
                PATCHTST.model_copy(update={"dropout": p}),
                **SIZES,
                micro_batch_size=2,
                device_type=device_type,
            ).activations
            for p in (0.1, 0.0)
        )
        return with_masks - without

    n_masked = 2 * 11 * 32 * (2 * PATCHTST.n_layers + 1)
    assert (masks("cuda"), masks("cpu")) == (n_masked, 4 * n_masked)


def test_a_process_on_a_cpu_holds_half_of_its_activations_once_more() -> None:
    config = patchtst(dropout=0.0, positions={"kind": "rope"})
    on_cpu, on_cuda = (
        predict_memory(config, **SIZES, micro_batch_size=8, device_type=device) for device in ("cpu", "cuda")
    )
    assert on_cpu.activations == on_cuda.activations
    assert (on_cpu.allocator, on_cuda.allocator) == (on_cpu.activations // 2, 0)
    assert on_cpu.total - on_cuda.total == on_cpu.allocator
    recomputed = predict_memory(
        config, **SIZES, micro_batch_size=8, device_type="cpu", activation_checkpointing=True
    )
    assert recomputed.allocator == on_cpu.allocator > recomputed.activations


def test_a_cpu_keeps_the_probabilities_of_few_keys_where_an_accelerator_keeps_one_sum() -> None:
    def extra(n_patches: int) -> int:
        config = patchtst(dropout=0.0, patch_length=1, stride=1)
        sizes = {"n_features": 7, "context_length": n_patches, "micro_batch_size": 8}
        on_cpu, on_cuda = (predict_memory(config, **sizes, device_type=device) for device in ("cpu", "cuda"))
        return on_cpu.activations - on_cuda.activations

    n_rows = 8 * PATCHTST.n_heads * PATCHTST.n_layers
    assert extra(48) == n_rows * 48 * (48 - 1) * 4
    assert extra(49) == 0


def test_the_workspace_is_the_gradient_of_one_blocks_inner_and_outer_tokens() -> None:
    shallow, deep = (predict_memory(patchtst(n_layers=n), **SIZES, micro_batch_size=8) for n in (2, 64))
    assert shallow.workspace == deep.workspace == 4 * 8 * 11 * (32 + 64)


STACKS = [PATCHTST, decoder(dropout=0.1), migt_tvdt()]


@pytest.mark.parametrize("config", STACKS, ids=lambda config: config.family)
def test_with_activation_checkpointing_a_block_keeps_its_input_alone(config: AnyConfig) -> None:
    deep = config.model_copy(update={"n_layers": 12})
    predicted, kept = (
        [
            predict_memory(
                each, **SIZES, micro_batch_size=B, device_type="cpu", activation_checkpointing=True
            ).activations
            for each in (config, deep)
        ],
        [kept_for_backward(each, checkpointing=True) for each in (config, deep)],
    )
    tokens = {"patchtst": 8 * 11, "transformer": 8 * 60, "migt_tvdt": 8 * 7 * 60 + 4 * 7}[config.family]
    assert predicted[1] - predicted[0] == B * tokens * 32 * 4
    assert kept[1] - kept[0] == pytest.approx(predicted[1] - predicted[0], rel=0.02)


def test_a_count_that_is_handed_over_is_not_made_again() -> None:
    assert predict_memory(PATCHTST, **SIZES, micro_batch_size=1, n_params=1000).parameters == 4000


@pytest.mark.parametrize("family", ["dlinear", "naive"])
def test_a_model_without_blocks_holds_its_windows_and_little_more(family: str) -> None:
    head = {"kind": "forecast", "horizon": 6, "n_channels": 7}
    config = parse_model_config({"family": family, "head": head})
    activations = predict_memory(config, **SIZES, micro_batch_size=B).activations
    assert 4 * B * 60 * 7 <= activations <= 3 * 4 * B * 60 * 7
