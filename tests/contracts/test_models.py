"""What every model of the registry promises."""

import dataclasses
import json
from collections.abc import Callable
from functools import partial

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from finscale.archgrid.enumerate import enumerate_grid
from finscale.core.budgets import parse_budget
from finscale.core.errors import Fault
from finscale.models.config import MODEL_CONFIGS, PatchTSTConfig, TransformerConfig, parse_model_config
from finscale.models.contract import Batch, ModelOutput
from finscale.models.counting import count_params
from finscale.models.registry import BUILDERS, build_meta_model, build_model

F, T, B, C = 5, 24, 4, 3
PATCHTST = partial(PatchTSTConfig, d_model=16, n_layers=2, n_heads=4, d_ff=24, patch_length=6, stride=3)
DECODER = partial(TransformerConfig, vocab_size=11, d_model=16, n_layers=2, n_heads=4, d_ff=24)
CONFIGS = {
    **{f"patchtst-{pooling}": PATCHTST(pooling=pooling) for pooling in ("mean", "flatten", "last", "cls")},
    "patchtst-uneven": PATCHTST(patch_length=7, stride=5, dropout=0.0),
    "transformer-rope": DECODER(dropout=0.2),
    "transformer-none": DECODER(positions="none"),
    "transformer-plain": DECODER(conv_taps=0),
}
DECODERS = {name: config for name, config in CONFIGS.items() if config.family == "transformer"}
SIZES = {"n_features": F, "context_length": T, "n_outputs": C}
GRID_SIZES = {"n_features": 25, "context_length": 60}

Config = PatchTSTConfig | TransformerConfig
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
every_decoder = pytest.mark.parametrize("config", DECODERS.values(), ids=DECODERS.keys())


def windows(config: Config, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    if isinstance(config, TransformerConfig):
        return Batch(tokens=torch.randint(config.vocab_size, (B, T), generator=generator))
    return Batch(values=torch.randn(B, T, F, generator=generator))


def changed(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    fields = {"values": batch.values, "tokens": batch.tokens}
    return dataclasses.replace(batch, **{name: change(x) for name, x in fields.items() if x is not None})


def build(config: Config, seed: int = 1) -> nn.Module:
    return build_model(config, **SIZES, seed=seed).eval()


def predict(model: nn.Module, batch: Batch) -> Tensor:
    with torch.no_grad():
        return only_head(model(batch))


def only_head(output: ModelOutput) -> Tensor:
    (prediction,) = output.prediction.values()
    return prediction


def parameters_of(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_every_family_has_a_builder_and_a_case() -> None:
    assert set(BUILDERS) == set(MODEL_CONFIGS) == {config.family for config in CONFIGS.values()}


@every_config
def test_the_prediction_and_the_embedding_have_their_shapes(config: Config) -> None:
    output = build(config)(windows(config))
    decoder = isinstance(config, TransformerConfig)
    name, shape = ("next_symbol", (B, T, 11)) if decoder else ("logits", (B, C))
    assert {key: tuple(x.shape) for key, x in output.prediction.items()} == {name: shape}
    n_read = (T - 6) // 3 + 1 if getattr(config, "pooling", "") == "flatten" else 1
    assert tuple(output.embedding.shape) == (B, n_read * config.d_model)


@every_config
def test_evaluation_is_deterministic_and_training_is_not_under_dropout(config: Config) -> None:
    model, batch = build(config), windows(config)
    assert torch.equal(predict(model, batch), predict(model, batch))
    same_while_training = torch.equal(predict(model.train(), batch), predict(model, batch))
    assert same_while_training == (config.dropout == 0)


@every_config
def test_the_gradient_reaches_every_parameter(config: Config) -> None:
    model = build(config)
    prediction = only_head(model(windows(config)))
    (prediction * torch.randn(prediction.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@every_config
def test_the_closed_form_counts_the_parameters_of_the_built_model(config: Config) -> None:
    n_built = sum(parameter.numel() for parameter in build(config).parameters())
    assert count_params(config, **SIZES).total == n_built


@every_config
def test_the_order_of_a_batch_does_not_matter(config: Config) -> None:
    model, batch = build(config), windows(config)
    order = torch.tensor([2, 0, 3, 1])
    permuted = predict(model, changed(batch, lambda x: x[order]))
    torch.testing.assert_close(permuted, predict(model, batch)[order], rtol=1e-5, atol=1e-6)


@every_config
def test_a_window_does_not_depend_on_its_neighbours(config: Config) -> None:
    model, batch, other = build(config), windows(config), windows(config, seed=9)
    mixed = changed(batch, lambda x: torch.cat((x[:1], (other.tokens if x.ndim == 2 else other.values)[1:])))
    torch.testing.assert_close(predict(model, mixed)[0], predict(model, batch)[0], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(predict(model, mixed)[1], predict(model, batch)[1])


@every_config
def test_the_prediction_depends_on_the_order_of_time(config: Config) -> None:
    model, batch = build(config), windows(config)
    swapped = changed(batch, lambda x: x[:, [*range(T // 2, T), *range(T // 2)]])
    assert (predict(model, swapped) - predict(model, batch)).abs().max() > 1e-3


@every_config
def test_a_state_dict_comes_back_bit_exact_through_safetensors(config: Config) -> None:
    model, other, batch = build(config, seed=1), build(config, seed=2), windows(config)
    other.load_state_dict(load(save(model.state_dict())))
    assert torch.equal(parameters_of(other), parameters_of(model))
    assert torch.equal(predict(other, batch), predict(model, batch))


@every_config
def test_equal_seeds_give_equal_weights_and_leave_the_global_random_state_alone(config: Config) -> None:
    before = torch.random.get_rng_state()
    first, again, other = (parameters_of(build(config, seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@every_config
def test_a_config_comes_back_from_its_own_record(config: Config) -> None:
    assert parse_model_config(config.model_dump(mode="json")) == config


@every_config
def test_input_that_a_model_cannot_use_is_refused(config: Config) -> None:
    batch = windows(config)
    foreign = windows(DECODER() if batch.tokens is None else PATCHTST())
    both = Batch(values=foreign.values if batch.values is None else batch.values, tokens=foreign.tokens)
    model = build(config)
    with pytest.raises(Fault, match="batch"):
        model(dataclasses.replace(both, calendar=torch.zeros(B, T, 1, dtype=torch.int64)))
    with pytest.raises(Fault, match="batch"):
        model(foreign)


@every_decoder
@pytest.mark.parametrize("at", [1, 10, T - 1])
def test_a_decoder_cannot_see_the_future(config: TransformerConfig, at: int) -> None:
    model, batch = build(config), windows(config)
    later = torch.arange(T) >= at
    moved = changed(batch, lambda tokens: torch.where(later, (tokens + 1) % config.vocab_size, tokens))
    old, new = predict(model, batch), predict(model, moved)
    torch.testing.assert_close(new[:, :at], old[:, :at], rtol=1e-5, atol=1e-6)
    assert ((new[:, at:] - old[:, at:]).abs().amax(dim=(0, 2)) > 1e-4).all()


@every_decoder
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_cannot_change_what_a_decoder_says_of_real_symbols(
    config: TransformerConfig, side: str
) -> None:
    model, batch = build(config), windows(config)
    real = (torch.arange(T) >= 7 if side == "left" else torch.arange(T) < T - 7).expand(B, T)
    masked = dataclasses.replace(batch, mask=real)
    moved = changed(masked, lambda tokens: torch.where(real, tokens, (tokens + 1) % config.vocab_size))
    last = 7 if side == "left" else T - 8
    touched = changed(
        masked, lambda tokens: tokens.index_add(1, torch.tensor([last]), torch.ones(B, 1).long()) % 11
    )
    old, new = predict(model, masked), predict(model, moved)
    torch.testing.assert_close(new[real], old[real], rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(model(moved).embedding, model(masked).embedding, rtol=1e-5, atol=1e-6)
        assert not torch.allclose(model(touched).embedding, model(masked).embedding)
    assert old.isfinite().all()


def meta_numel(text: str) -> int:
    model = build_meta_model(parse_model_config(json.loads(text)), **GRID_SIZES)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("budget", ["5K", "50K", "500K", "2M", "20M", "200M"])
def test_every_row_of_a_grid_states_the_parameters_of_the_built_model(budget: str) -> None:
    grid = enumerate_grid(parse_budget(budget), **GRID_SIZES)
    for _, rows in grid.groupby(["d_model", "n_layers", "d_ff"]):
        assert rows["n_params"].unique().tolist() == [meta_numel(rows["config"].iloc[-1])]


def test_a_sample_of_the_2b_grid_states_the_parameters_of_the_built_model() -> None:
    grid = enumerate_grid(2_000_000_000, **GRID_SIZES)
    for _, row in grid.iloc[[0, len(grid) // 2, len(grid) - 1]].iterrows():
        assert row["n_params"] == meta_numel(row["config"])


def test_heads_do_not_change_the_parameters() -> None:
    numel = {meta_numel(PATCHTST(n_heads=n_heads).model_dump_json()) for n_heads in (1, 2, 4, 8, 16)}
    assert len(numel) == 1
