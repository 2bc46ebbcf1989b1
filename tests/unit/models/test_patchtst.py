"""The PatchTST against its own definition, written out."""

import pytest
import torch
from torch import Tensor

from finscale.core.errors import Fault
from finscale.models.config import PatchTSTConfig
from finscale.models.contract import Batch, State
from finscale.models.head_config import ForecastHead
from finscale.models.layers import dropout
from finscale.models.patchtst import PatchTST
from finscale.models.position_config import CalendarConfig
from finscale.models.registry import build_model

F, T, B = 3, 22, 4
CONFIG = PatchTSTConfig(d_model=12, n_layers=2, n_heads=3, d_ff=20, patch_length=5, stride=5)
FORECAST = ForecastHead(horizon=6, n_channels=F)


def model_of(*, n_features: int = F, context_length: int = T, **fields: object) -> PatchTST:
    config = PatchTSTConfig.model_validate({**dict(CONFIG), **fields})
    n_outputs = 2 if config.head.kind == "logits" else 1
    sizes = {"n_features": n_features, "context_length": context_length, "n_outputs": n_outputs}
    model = build_model(config, **sizes, seed=5).double().eval()
    assert isinstance(model, PatchTST)
    return model


def forecast(model: PatchTST, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(Batch(values=x)).prediction["forecast"]


def values(seed: int = 0) -> Tensor:
    return torch.randn(B, T, F, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def norm(x: Tensor, layer: torch.nn.LayerNorm) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * layer.weight + layer.bias


def written_out(model: PatchTST, window: Tensor) -> Tensor:
    """Tokens of one window after the last norm, by loops and explicit softmax."""
    cuts = [window[start : start + 5].reshape(-1) for start in range(0, T - 4, 5)]
    x = torch.stack([model.embedding.linear(cut) for cut in cuts]) + model.positions.table
    if model.class_token is not None:
        x = torch.cat((model.class_token.token[None], x))
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
    model.positions.table.data.zero_()
    torch.testing.assert_close(*(model(Batch(values=v)).prediction["logits"] for v in (x, swapped)))


@pytest.mark.parametrize("kind", ["none", "learned", "sinusoidal", "rope", "alibi", "pi_spiral"])
def test_every_kind_of_positions_but_none_tells_the_order_of_patches(kind: str) -> None:
    model, x = model_of(d_model=24, positions={"kind": kind}), values()
    swapped = torch.cat((x[:, 5:10], x[:, :5], x[:, 10:]), dim=1)
    logits, other = (model(Batch(values=v)).prediction["logits"] for v in (x, swapped))
    assert ((logits - other).abs().max() < 1e-9) == (kind == "none")


@pytest.mark.parametrize("shape", [(B, T, F + 1), (B, T - 1, F)])
def test_windows_of_another_shape_are_refused_with_both_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(Fault, match=r"batch.values must have shape \(B, 22, 3\), got \(4, "):
        model_of()(Batch(values=torch.zeros(shape, dtype=torch.float64)))


def test_a_state_is_refused_rather_than_ignored() -> None:
    with pytest.raises(Fault, match="batch must hold values only for patchtst, got \\['state'\\]"):
        model_of()(Batch(values=values()), State(layers=()))


def test_without_dropout_training_answers_as_evaluation_does() -> None:
    model = model_of(dropout=0.0)
    trained, evaluated = (model.train(mode)(Batch(values=values())).embedding for mode in (True, False))
    assert torch.equal(trained, evaluated)
    noisy = model_of(dropout=0.1).train()
    assert not torch.equal(noisy(Batch(values=values())).embedding, evaluated)


def test_training_drops_a_share_of_every_branch_and_of_the_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def watched(x: torch.Tensor, probability: float) -> torch.Tensor:
        mask = kept(x, probability)
        seen.append((mask == 0).double().mean().item())
        return mask

    kept = dropout._kept
    monkeypatch.setattr(dropout, "_kept", watched)
    model_of(dropout=0.5).train()(Batch(values=values().repeat(50, 1, 1)))
    assert len(seen) == 1 + 2 * CONFIG.n_layers
    assert all(abs(share - 0.5) < 0.05 for share in seen)


def test_independent_channels_are_each_read_as_if_alone() -> None:
    options = {"channels": "independent", "pooling": "flatten"}
    many = model_of(**options, head=FORECAST)
    one = model_of(n_features=1, **options, head=ForecastHead(horizon=6, n_channels=1))
    one.load_state_dict(many.state_dict())
    alone = [forecast(one, values()[:, :, channel : channel + 1]) for channel in range(F)]
    torch.testing.assert_close(forecast(many, values()), torch.cat(alone, dim=2))


def test_a_head_per_channel_is_a_map_of_that_channels_tokens_alone() -> None:
    options = {"channels": "independent", "pooling": "last", "head_per_channel": True}
    model, x = model_of(**options, head=FORECAST), values()
    tokens_BKX = model(Batch(values=x)).embedding.unflatten(1, (F, -1))
    each = [tokens_BKX[:, k] @ model.head.weight[k].T + model.head.bias[k] for k in range(F)]
    torch.testing.assert_close(forecast(model, x), torch.stack(each, dim=2))


def test_only_the_named_columns_of_independent_channels_are_read() -> None:
    head, x = ForecastHead(horizon=6, n_channels=1, columns=(2,)), values()
    model = model_of(channels="independent", head=head)
    other = x.clone()
    other[:, :, :2] += 1.0
    assert torch.equal(forecast(model, x), forecast(model, other))
    assert not torch.allclose(forecast(model, x), forecast(model, 2 * x))


def test_independent_channels_are_all_read_by_a_head_that_is_no_forecast() -> None:
    model, x = model_of(channels="independent"), values().requires_grad_()
    model(Batch(values=x)).prediction["logits"].sum().backward()
    assert x.grad is not None
    assert (x.grad[:, :20].abs().sum(dim=1) > 0).all()


def test_padding_the_end_is_reading_the_last_bar_again_stride_times() -> None:
    padded, longer = model_of(pad_end=True), model_of(context_length=T + 5)
    longer.load_state_dict(padded.state_dict())
    x = values()
    logits = longer(Batch(values=torch.cat((x, x[:, -1:].repeat(1, 5, 1)), dim=1))).prediction["logits"]
    torch.testing.assert_close(padded(Batch(values=x)).prediction["logits"], logits)


@pytest.mark.parametrize("channels", ["mixed", "independent"])
@pytest.mark.parametrize("instance_norm", ["revin", "revin_affine"])
def test_a_forecast_follows_the_level_and_scale_of_its_column(channels: str, instance_norm: str) -> None:
    head = ForecastHead(horizon=6, n_channels=2, columns=(2, 0))
    model = model_of(channels=channels, instance_norm=instance_norm, head=head)
    for parameter in model.instance_norm.parameters():
        parameter.data += torch.rand(parameter.shape, dtype=torch.float64)
    scale, level = torch.tensor([1e3, 2e3, 3e3]).double(), torch.tensor([5.0, -1e4, 9.0]).double()
    before, after = forecast(model, 1e3 * values()), forecast(model, 1e3 * values() * scale + level)
    torch.testing.assert_close(after, before * scale[[2, 0]] + level[[2, 0]], rtol=1e-6, atol=1e-3)


def test_logits_do_not_see_the_level_and_scale_that_instance_norm_takes_away() -> None:
    model, x = model_of(instance_norm="revin"), 1e3 * values()
    plain, moved = (model(Batch(values=v)).prediction["logits"] for v in (x, 300 * x - 9))
    torch.testing.assert_close(moved, plain, rtol=1e-6, atol=1e-6)


def test_a_post_norm_encoder_has_no_norm_after_its_last_block() -> None:
    assert isinstance(model_of(norm_first=False).final_norm, torch.nn.Identity)
    assert isinstance(model_of(norm="rms_norm").final_norm, torch.nn.RMSNorm)


@pytest.mark.parametrize("channels", ["mixed", "independent"])
@pytest.mark.parametrize("pad_end", [False, True])
def test_the_calendar_of_a_patch_is_that_of_its_last_bar(channels: str, pad_end: bool) -> None:
    model = model_of(channels=channels, pad_end=pad_end, positions=CalendarConfig(session_bars=78))
    calendar = torch.randint(7, (B, T, 4), generator=torch.Generator().manual_seed(2))
    read = {4, 9, 14, 19} | ({21} if pad_end else set())
    plain = model(Batch(values=values(), calendar=calendar)).prediction["logits"]
    for bar in range(T):
        moved = calendar.clone()
        moved[:, bar] = (moved[:, bar] + 3) % 7
        logits = model(Batch(values=values(), calendar=moved)).prediction["logits"]
        assert torch.equal(logits, plain) == (bar not in read)


def test_head_dropout_touches_the_head_alone() -> None:
    model = model_of(dropout=0.0, head_dropout=0.5).train()
    first, again = (model(Batch(values=values())) for _ in range(2))
    assert torch.equal(first.embedding, again.embedding)
    assert not torch.equal(first.prediction["logits"], again.prediction["logits"])
