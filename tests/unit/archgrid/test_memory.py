"""The memory model against what autograd really keeps."""

import pytest
import torch

from finscale.archgrid.memory import predict_memory
from finscale.models.config import PatchTSTConfig, TransformerConfig
from finscale.models.contract import Batch
from finscale.models.registry import build_model

SIZES = {"n_features": 7, "context_length": 60}
PATCHTST = PatchTSTConfig(d_model=32, n_layers=4, n_heads=4, d_ff=64)
DECODER = TransformerConfig(vocab_size=40, d_model=32, n_layers=4, n_heads=2, d_ff=128)
CASES = {
    "mean": PATCHTST,
    "flatten": PATCHTST.model_copy(update={"pooling": "flatten", "n_heads": 16}),
    "wide": PATCHTST.model_copy(update={"d_model": 128, "d_ff": 512, "dropout": 0.0}),
    "deep": PATCHTST.model_copy(update={"n_layers": 24}),
    "rope": DECODER,
    "none": DECODER.model_copy(update={"positions": "none", "dropout": 0.1}),
    "no-convolution": DECODER.model_copy(update={"conv_taps": 0}),
}
B = 32


def kept_for_backward(config: PatchTSTConfig | TransformerConfig, *, bf16: bool) -> int:
    model = build_model(config, **SIZES, seed=0).train()
    batch = Batch(values=torch.zeros(B, 60, 7))
    if isinstance(config, TransformerConfig):
        batch = Batch(tokens=torch.zeros(B, 60, dtype=torch.int64))
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    autocast = torch.autocast("cpu", torch.bfloat16, enabled=bf16)
    with (
        torch.random.fork_rng(),
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        autocast,
    ):
        for head in model(batch).prediction.values():
            head.float().logsumexp(-1)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("config", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_predicted_activations_are_what_autograd_keeps(
    config: PatchTSTConfig | TransformerConfig, precision: str
) -> None:
    kept = kept_for_backward(config, bf16=precision == "bf16")
    estimate = predict_memory(config, **SIZES, micro_batch_size=B, precision=precision, device_type="cpu")
    assert estimate.activations == pytest.approx(kept, rel=0.05)


def test_weights_gradients_and_moments_take_sixteen_bytes_a_parameter() -> None:
    estimate = predict_memory(PATCHTST, **SIZES, micro_batch_size=1)
    n_params = sum(parameter.numel() for parameter in build_model(PATCHTST, **SIZES, seed=0).parameters())
    assert (estimate.parameters, estimate.gradients, estimate.moments) == (
        4 * n_params,
        4 * n_params,
        8 * n_params,
    )
    assert estimate.total == 16 * n_params + estimate.activations


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
