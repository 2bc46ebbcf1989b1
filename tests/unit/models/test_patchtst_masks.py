"""The PatchTST over windows that hold padding: what is padded can never be heard."""

from typing import Any

import pytest
import torch
from torch import Tensor

from finscale.core.errors import Fault
from finscale.models.config import PatchTSTConfig
from finscale.models.contract import Batch
from finscale.models.head_config import ForecastHead
from finscale.models.patchtst import PatchTST
from finscale.models.position_config import CalendarConfig
from finscale.models.registry import build_model

F, T, B = 3, 22, 5
CONFIG = PatchTSTConfig(d_model=12, n_layers=2, n_heads=3, d_ff=20, patch_length=5, stride=4)
FORECAST = ForecastHead(horizon=6, n_channels=F)
CALENDAR = CalendarConfig(session_bars=78)
OPTIONS: dict[str, dict[str, Any]] = {
    **{pooling: {"pooling": pooling} for pooling in ("mean", "flatten", "last", "cls")},
    "pad_end": {"pad_end": True, "pooling": "last"},
    "revin": {"instance_norm": "revin_affine", "head": FORECAST},
    "independent": {"channels": "independent", "instance_norm": "revin", "head": FORECAST},
    "calendar": {"positions": CALENDAR, "pad_end": True},
    "independent-calendar": {"positions": CALENDAR, "channels": "independent", "pooling": "cls"},
    "alibi": {"positions": {"kind": "alibi"}, "norm_first": False, "norm": "rms_norm"},
}
PADDING = {
    "left": [0] * 7 + [1] * 15,
    "right": [1] * 14 + [0] * 8,
    "holes": [1] * 3 + [0] * 10 + [1, 0] * 4 + [0],
    "one bar": [0] * 10 + [1] + [0] * 11,
    "none": [1] * 22,
}
MASK = torch.tensor(list(PADDING.values()), dtype=torch.bool)

every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())


def model_of(**fields: Any) -> PatchTST:
    config = PatchTSTConfig.model_validate({**dict(CONFIG), **fields})
    sizes = {"n_outputs": 2 if config.head.kind == "logits" else 1, "context_length": T}
    model = build_model(config, n_features=F, **sizes, seed=5).double().eval()
    generator = torch.Generator().manual_seed(8)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    assert isinstance(model, PatchTST)
    return model


def windows(model: PatchTST, mask: Tensor | None = MASK, *, padding: float = 0.0, code: int = 0) -> Batch:
    """Windows whose padding holds ``padding``, and ``code`` in its calendar."""
    generator = torch.Generator().manual_seed(1)
    values = 3 + torch.randn(B, T, F, dtype=torch.float64, generator=generator)
    calendar = torch.randint(7, (B, T, 4), generator=generator)
    if mask is not None:
        values, calendar = (
            x.masked_fill(~mask[:, :, None], fill) for x, fill in ((values, padding), (calendar, code))
        )
    reads_calendar = isinstance(model.config.positions, CalendarConfig)
    return Batch(values=values, calendar=calendar if reads_calendar else None, mask=mask)


def heard(model: PatchTST, batch: Batch) -> tuple[Tensor, Tensor]:
    output = model(batch)
    (prediction,) = output.prediction.values()
    return prediction, output.embedding


def tokens_without_padding(model: PatchTST, window: Tensor, real: Tensor) -> tuple[Tensor, list[int]]:
    """The tokens of the patches that hold a real bar, as if there were no others; and their places."""
    starts = range(0, T - 4, 4)
    there = [place for place, start in enumerate(starts) if real[start : start + 5].any()]
    cuts = [(window * real[:, None])[starts[place] :][:5].reshape(-1) for place in there]
    x = torch.stack([model.embedding.linear(cut) for cut in cuts]) + model.positions.table[there]
    if model.class_token is not None:
        x = torch.cat((model.class_token.token[None], x))
    return model.final_norm(model.blocks(x[None]))[0], there


@pytest.mark.parametrize("pooling", ["mean", "flatten", "last", "cls"])
def test_a_patch_of_padding_alone_might_as_well_not_be_there(pooling: str) -> None:
    model = model_of(pooling=pooling)
    batch = windows(model, padding=9.0)
    _, embeddings = heard(model, batch)
    for window, real, embedding in zip(batch.values, MASK, embeddings, strict=True):
        x, there = tokens_without_padding(model, window, real)
        whole = x.new_zeros(5, 12)
        if pooling == "flatten":
            whole[there] = x
        pooled = {"mean": x.mean(0), "flatten": whole.flatten(), "last": x[-1], "cls": x[0]}[pooling]
        torch.testing.assert_close(embedding, pooled)


@every_option
def test_nothing_that_padding_holds_reaches_an_output_or_a_gradient(options: dict[str, Any]) -> None:
    model, found = model_of(**options), []
    for padding, code in ((0.0, 0), (1e9, -5), (float("nan"), 400), (float("inf"), 6)):
        batch = windows(model, padding=padding, code=code)
        batch.values.requires_grad_()
        prediction, embedding = heard(model, batch)
        model.zero_grad()
        prediction.square().sum().backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        assert not batch.values.grad[~MASK].any()
        found.append([prediction, embedding, batch.values.grad, *gradients])
    assert all(x.isfinite().all() for x in found[0])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@every_option
def test_every_real_bar_that_is_read_is_heard(options: dict[str, Any]) -> None:
    model = model_of(**options)
    batch = windows(model)
    prediction, _ = heard(model, batch)
    for bar in range(21):
        values = batch.values + 0.5 * (torch.arange(T) == bar)[:, None] * torch.arange(1, F + 1)
        moved, _ = heard(model, Batch(values=values, calendar=batch.calendar, mask=batch.mask))
        changed = (moved - prediction).flatten(1).abs().amax(dim=1) > 1e-7
        assert changed.tolist() == MASK[:, bar].tolist(), bar


@every_option
def test_a_mask_without_padding_says_what_no_mask_says(options: dict[str, Any]) -> None:
    model = model_of(**options)
    plain = heard(model, windows(model, None))
    masked = heard(model, windows(model, torch.ones(B, T, dtype=torch.bool)))
    torch.testing.assert_close(masked, plain, rtol=1e-11, atol=1e-11)


def test_attention_is_handed_a_mask_only_where_the_batch_has_one() -> None:
    model, seen = model_of(), []
    for block in model.blocks:
        block.attention.register_forward_pre_hook(
            lambda _, __, given: seen.append(given["mask"] is None), with_kwargs=True
        )
    heard(model, windows(model, None))
    assert seen == [True, True]
    heard(model, windows(model))
    assert seen == [True, True, False, False]


@every_option
def test_a_window_of_padding_alone_has_a_finite_output_and_gradient(options: dict[str, Any]) -> None:
    model, mask = model_of(**options), MASK.clone()
    mask[2] = False
    batch = windows(model, mask, padding=float("nan"))
    batch.values.requires_grad_()
    prediction, embedding = heard(model, batch)
    prediction.square().sum().backward()
    gradients = [batch.values.grad, *(parameter.grad for parameter in model.parameters())]
    assert all(x.isfinite().all() for x in (prediction, embedding, *gradients))
    others = torch.tensor([0, 1, 3, 4])
    torch.testing.assert_close(prediction[others], heard(model, windows(model))[0][others])
    if model.config.pooling != "cls":
        assert not embedding[2].any()


@pytest.mark.parametrize("options", [{"positions": CALENDAR}, {"positions": CALENDAR, "pad_end": True}])
def test_the_calendar_of_a_patch_is_that_of_its_last_real_bar(options: dict[str, Any]) -> None:
    model = model_of(**options)
    ends = [4, 8, 12, 16, 20] + ([21] if model.config.pad_end else [])
    batch = windows(model)
    plain, _ = heard(model, batch)
    for bar in range(T):
        calendar = batch.calendar.clone()
        calendar[:, bar] = (calendar[:, bar] + 3) % 7
        moved, _ = heard(model, Batch(values=batch.values, calendar=calendar, mask=MASK))
        for window, real in enumerate(MASK):
            is_read = any(
                real[max(end - 4, 0) : end + 1].any()
                and bar == max(place for place in range(end + 1) if real[place])
                for end in ends
            )
            assert torch.equal(moved[window], plain[window]) == (not is_read), (bar, window)


@pytest.mark.parametrize("channels", ["mixed", "independent"])
def test_a_forecast_follows_the_level_and_scale_of_the_real_bars_alone(channels: str) -> None:
    model = model_of(channels=channels, instance_norm="revin_affine", head=FORECAST)
    batch = windows(model)
    values, scale = 1e3 * batch.values, torch.tensor([2.0, 30.0, 0.5], dtype=torch.float64)
    before, _ = heard(model, Batch(values=values, mask=MASK))
    after, _ = heard(model, Batch(values=values * scale - 70, mask=MASK))
    several = MASK.sum(dim=1) > 1  # one bar has no scale
    torch.testing.assert_close(after[several], (before * scale - 70)[several], rtol=1e-6, atol=1e-3)


def test_the_moments_of_batch_norm_would_count_padding_so_a_mask_is_refused() -> None:
    model = model_of(norm="batch_norm")
    assert not model.config.reads_masks
    assert model_of().config.reads_masks
    with pytest.raises(Fault, match=r"batch\.mask must be left out under norm=batch_norm, got \(5, 22\)"):
        heard(model, windows(model))
