"""The PatchTST against its own definition, written out."""

import pytest
import torch
from torch import Tensor

from finscale.core.errors import Fault
from finscale.models.config import PatchTSTConfig
from finscale.models.contract import Batch, State
from finscale.models.patchtst import PatchTST
from finscale.models.registry import build_model

F, T, B = 3, 22, 4
CONFIG = PatchTSTConfig(d_model=12, n_layers=2, n_heads=3, d_ff=20, patch_length=5, stride=5)


def model_of(**fields: object) -> PatchTST:
    config = CONFIG.model_copy(update=fields)
    model = build_model(config, n_features=F, context_length=T, n_outputs=2, seed=5).double().eval()
    assert isinstance(model, PatchTST)
    return model


def values(seed: int = 0) -> Tensor:
    return torch.randn(B, T, F, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def norm(x: Tensor, layer: torch.nn.LayerNorm) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * layer.weight + layer.bias


def written_out(model: PatchTST, window: Tensor) -> Tensor:
    """Tokens of one window after the last norm, by loops and explicit softmax."""
    cuts = [window[start : start + 5].reshape(-1) for start in range(0, T - 4, 5)]
    x = torch.stack([model.embedding.linear(cut) for cut in cuts]) + model.positions
    if model.class_token is not None:
        x = torch.cat((model.class_token[None], x))
    for block in model.blocks:
        queries, keys, mixed = block.attention.query_key_value(norm(x, block.attention_norm)).split(12, dim=1)
        heads = [slice(4 * head, 4 * head + 4) for head in range(3)]
        weights = [torch.softmax(queries[:, h] @ keys[:, h].T / 2.0, dim=1) for h in heads]
        x = x + block.attention.output(
            torch.cat([w @ mixed[:, h] for w, h in zip(weights, heads, strict=True)], dim=1)
        )
        inner = block.feed_forward.up(norm(x, block.feed_forward_norm))
        x = x + block.feed_forward.down(inner * 0.5 * (1 + torch.erf(inner / 2**0.5)))
    return norm(x, model.final_norm)


@pytest.mark.parametrize("pooling", ["mean", "flatten", "last", "cls"])
def test_the_model_equals_its_definition_written_out(pooling: str) -> None:
    model, x = model_of(pooling=pooling), values()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(8))
    tokens = torch.stack([written_out(model, window) for window in x])
    ends = {"cls": tokens[:, 0], "last": tokens[:, -1]}
    pooled = {"mean": tokens.mean(1), "flatten": tokens.reshape(B, -1), **ends}[pooling]
    output = model(Batch(values=x))
    torch.testing.assert_close(output.embedding, pooled)
    torch.testing.assert_close(output.prediction["logits"], pooled @ model.head.weight.T + model.head.bias)


def test_bars_after_the_last_whole_patch_are_not_read() -> None:
    model, x = model_of(), values()
    tail, head = x.clone(), x.clone()
    tail[:, 20:] += 1.0
    head[:, 19] += 1.0
    logits = model(Batch(values=x)).prediction["logits"]
    assert torch.equal(model(Batch(values=tail)).prediction["logits"], logits)
    assert not torch.allclose(model(Batch(values=head)).prediction["logits"], logits)


def test_only_positions_tell_a_mean_pooled_encoder_the_order_of_patches() -> None:
    model, x = model_of(), values()
    swapped = torch.cat((x[:, 5:10], x[:, :5], x[:, 10:]), dim=1)
    assert not torch.allclose(*(model(Batch(values=v)).prediction["logits"] for v in (x, swapped)))
    model.positions.data.zero_()
    torch.testing.assert_close(*(model(Batch(values=v)).prediction["logits"] for v in (x, swapped)))


@pytest.mark.parametrize("shape", [(B, T, F + 1), (B, T - 1, F)])
def test_windows_of_another_shape_are_refused_with_both_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(Fault, match=r"batch.values must have shape \(B, 22, 3\), got \(4, "):
        model_of()(Batch(values=torch.zeros(shape, dtype=torch.float64)))


@pytest.mark.parametrize("name", ["mask", "state"])
def test_a_mask_or_a_state_is_refused_rather_than_ignored(name: str) -> None:
    mask = torch.ones(B, T, dtype=torch.bool) if name == "mask" else None
    state = State(layers=()) if name == "state" else None
    with pytest.raises(Fault, match=f"batch must hold values only for patchtst, got \\['{name}'\\]"):
        model_of()(Batch(values=values(), mask=mask), state)


def test_no_dropout_leaves_no_dropout_in_the_model() -> None:
    kinds = {type(module).__name__ for module in model_of(dropout=0.0).modules()}
    assert "Dropout" not in kinds
    assert "Dropout" in {type(module).__name__ for module in model_of(dropout=0.1).modules()}


def test_training_drops_a_share_of_every_branch_and_of_the_tokens() -> None:
    model = model_of(dropout=0.5).train()
    seen: list[float] = []
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    for layer in layers:
        layer.register_forward_hook(lambda _, __, out: seen.append((out == 0).double().mean().item()))
    model(Batch(values=values().repeat(50, 1, 1)))
    assert len(seen) == 1 + 2 * CONFIG.n_layers
    assert all(abs(share - 0.5) < 0.05 for share in seen)
