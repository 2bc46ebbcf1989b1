"""What every model of the registry promises."""

import dataclasses
import json
import typing
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from finscale.archgrid.enumerate import enumerate_grid
from finscale.archgrid.probe import checkpoint_activations
from finscale.core.budgets import parse_budget
from finscale.core.errors import Fault
from finscale.models.config import (
    MODEL_CONFIGS,
    AnyConfig,
    DLinearConfig,
    MigtTvdtConfig,
    NaiveConfig,
    PatchTSTConfig,
    TransformerConfig,
    parse_model_config,
)
from finscale.models.contract import Batch, ModelOutput
from finscale.models.counting import count_params
from finscale.models.head_config import ClassesHead, ForecastHead, LogitsHead, QuantileHead, RegressionHead
from finscale.models.position_config import POSITION_CONFIGS, CalendarConfig, parse_position_config
from finscale.models.registry import BUILDERS, build_meta_model, build_model

F, T, B, C = 5, 24, 4, 3
PATCHTST = partial(PatchTSTConfig, d_model=16, n_layers=2, n_heads=4, d_ff=24, patch_length=6, stride=3)
DECODER = partial(TransformerConfig, vocab_size=11, d_model=16, n_layers=2, n_heads=4, d_ff=24)
MIGT = partial(MigtTvdtConfig, d_model=16, n_layers=2, n_heads=4, d_ff=24, session_bars=78)
BARS = partial(TransformerConfig, d_model=16, n_layers=2, n_heads=4, d_ff=24)
POSITIONS = {
    **{kind: {"kind": kind} for kind in POSITION_CONFIGS},
    "rope_linear": {"kind": "rope_linear", "factor": 4},
    "rope_ntk": {"kind": "rope_ntk", "factor": 4},
    "rope_dynamic": {"kind": "rope_dynamic", "factor": 4, "original_length": 8},
    "yarn": {"kind": "yarn", "factor": 4, "original_length": 8},
    "hybrid": {"kind": "hybrid", "K": 3, "width": 4},
    "hybrid-distance": {"kind": "hybrid", "K": 3, "width": 4, "gate": "distance"},
    "pi_spiral-additive": {"kind": "pi_spiral", "form": "additive"},
    "calendar": {"kind": "calendar", "session_bars": 78},
    "time2vec": {"kind": "time2vec", "session_bars": 78},
}
FORECAST = ForecastHead(horizon=6, n_channels=F)
SOME_COLUMNS = ForecastHead(horizon=6, n_channels=2, columns=(3, 1))
HEADS = {
    "logits": LogitsHead(),
    "regression": RegressionHead(),
    "quantiles": QuantileHead(horizons=(1, 4), levels=(0.1, 0.5, 0.9)),
    "forecast": FORECAST,
    "classes": ClassesHead(n_classes=(3, 2)),
}
PATCHTSTS = {
    **{pooling: PATCHTST(pooling=pooling) for pooling in ("mean", "flatten", "last", "cls")},
    **{head: PATCHTST(head=config) for head, config in HEADS.items() if head != "logits"},
    **{
        f"independent-{head}": PATCHTST(channels="independent", head=config) for head, config in HEADS.items()
    },
    **{
        f"{norm}-{'pre' if norm_first else 'post'}": PATCHTST(norm=norm, norm_first=norm_first)
        for norm in ("layer_norm", "rms_norm", "batch_norm")
        for norm_first in (True, False)
    },
    **{
        f"positions-{kind}": PATCHTST(pooling="cls", positions=parse_position_config(values))
        for kind, values in POSITIONS.items()
    },
    "uneven": PATCHTST(patch_length=7, stride=5, dropout=0.0),
    "pad_end": PATCHTST(pad_end=True, head_dropout=0.3, dropout=0.0),
    "revin": PATCHTST(instance_norm="revin"),
    "torch-start": PATCHTST(initialisation="torch"),
    "revin_affine": PATCHTST(instance_norm="revin_affine"),
    "revin-some-columns": PATCHTST(instance_norm="revin_affine", head=SOME_COLUMNS),
    "independent-revin-some-columns": PATCHTST(
        channels="independent", instance_norm="revin_affine", head=SOME_COLUMNS, pooling="cls"
    ),
    "independent-calendar": PATCHTST(
        channels="independent", positions=parse_position_config(POSITIONS["calendar"]), pad_end=True
    ),
    "published": PATCHTST(
        channels="independent",
        pad_end=True,
        instance_norm="revin",
        norm="batch_norm",
        norm_first=False,
        pooling="flatten",
        head=FORECAST,
    ),
    "published-individual": PATCHTST(
        channels="independent", pooling="flatten", head=FORECAST, head_per_channel=True
    ),
}
DECODER_OPTIONS: dict[str, dict[str, Any]] = {
    "mqa": {"attention": "mqa"},
    "gqa-relu": {"attention": "gqa", "n_kv_heads": 2, "activation": "relu"},
    "swiglu-rms": {"activation": "swiglu", "norm": "rms_norm", "bias": False},
    "post-norm": {"norm_first": False},
    "window": {"window_size": 5},
    **{
        f"positions-{kind}": {"positions": values}
        for kind, values in POSITIONS.items()
        if kind not in ("none", "rope", "calendar", "time2vec")
    },
}
BAR_OPTIONS: dict[str, dict[str, Any]] = {
    "bars-decoder": {},
    "bars-encoder": {"causal": False, "conv_taps": 0},
    **{f"bars-{kind}": {"head": head} for kind, head in HEADS.items() if kind != "logits"},
    "bars-steps": {"head": FORECAST, "prediction_length": 6},
    "bars-calendar": {"positions": POSITIONS["calendar"]},
    "bars-columns": {
        "categories": (7, 3),
        "feature_embedding_dims": (4, 2),
        "initial_embedding_dim": 12,
        "joint_embedding_dim": 16,
    },
}
MIGT_OPTIONS: dict[str, dict[str, Any]] = {
    **{head: {"head": config} for head, config in HEADS.items()},
    "some-columns": {"head": SOME_COLUMNS},
    "time2vec": {"time2vec": True},
    "daily": {"session_bars": 1, "dropout": 0.0},
    "odd-depth": {"n_layers": 5, "n_heads": 1},
    "one-layer": {"n_layers": 1},
}
CONFIGS = {
    **{f"patchtst-{name}": config for name, config in PATCHTSTS.items()},
    "transformer-rope": DECODER(dropout=0.2),
    "transformer-none": DECODER(positions="none"),
    "transformer-plain": DECODER(conv_taps=0),
    **{f"transformer-{name}": DECODER(**options) for name, options in DECODER_OPTIONS.items()},
    **{f"transformer-{name}": BARS(**options) for name, options in BAR_OPTIONS.items()},
    **{f"migt_tvdt-{name}": MIGT(**options) for name, options in MIGT_OPTIONS.items()},
    **{f"dlinear-{name}": DLinearConfig(average_bars=5, head=head) for name, head in HEADS.items()},
    "dlinear-individual": DLinearConfig(average_bars=5, head=SOME_COLUMNS, individual=True),
    "naive-last": NaiveConfig(head=FORECAST),
    "naive-season": NaiveConfig(season_bars=5, head=SOME_COLUMNS),
}
LEARNING = {name: config for name, config in CONFIGS.items() if config.family != "naive"}
DECODERS = {name: config for name, config in CONFIGS.items() if getattr(config, "vocab_size", None)}
PADDED = {
    name: config
    for name, config in CONFIGS.items()
    if config.family in {"transformer", "migt_tvdt"}
    or (config.family == "patchtst" and config.norm != "batch_norm")
}
UNPADDED = {name: config for name, config in CONFIGS.items() if name not in PADDED}
STACKED = {name: config for name, config in CONFIGS.items() if hasattr(config, "n_layers")}
WINDOWED = {name: config for name, config in CONFIGS.items() if config.family != "transformer"}
GRID_SIZES = {"n_features": 25, "context_length": 60}

every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
every_learning = pytest.mark.parametrize("config", LEARNING.values(), ids=LEARNING.keys())
every_decoder = pytest.mark.parametrize("config", DECODERS.values(), ids=DECODERS.keys())
every_padded = pytest.mark.parametrize("config", PADDED.values(), ids=PADDED.keys())
every_unpadded = pytest.mark.parametrize("config", UNPADDED.values(), ids=UNPADDED.keys())
every_stacked = pytest.mark.parametrize("config", STACKED.values(), ids=STACKED.keys())
every_windowed = pytest.mark.parametrize("config", WINDOWED.values(), ids=WINDOWED.keys())


def sizes(config: AnyConfig) -> dict[str, int]:
    head = config.window_head if isinstance(config, TransformerConfig) else config.head
    symbols = isinstance(config, TransformerConfig) and config.predicts_symbols
    n_outputs = C if isinstance(head, LogitsHead) and not symbols else 1
    return {"n_features": F, "context_length": T, "n_outputs": n_outputs}


def windows(config: AnyConfig, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    if getattr(config, "vocab_size", None):
        return Batch(tokens=torch.randint(config.vocab_size, (B, T), generator=generator))
    values, calendar, categories = torch.randn(B, T, F, generator=generator), None, None
    if isinstance(getattr(config, "positions", None), CalendarConfig):
        calendar = torch.randint(7, (B, T, 4), generator=generator)
    if getattr(config, "categories", ()):
        categories = torch.randint(
            min(config.categories), (B, T, len(config.categories)), generator=generator
        )
    return Batch(values=values, calendar=calendar, categories=categories)


GROUPS = {
    **dict.fromkeys(("embedding", "instance_norm", "class_token"), "embedding"),
    **dict.fromkeys(("blocks", "final_norm", "time_pool", "variable_blocks", "variable_norm"), "body"),
    **dict.fromkeys(("head", "hidden", "output_pool", "trend", "remainder"), "head"),
    "positions": "positions",
}
FIELDS = ("values", "tokens", "calendar", "categories")


def changed(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    fields = {name: getattr(batch, name) for name in FIELDS}
    return dataclasses.replace(batch, **{name: change(x) for name, x in fields.items() if x is not None})


def build(config: AnyConfig, seed: int = 1) -> nn.Module:
    return build_model(config, **sizes(config), seed=seed).eval()


def predict(model: nn.Module, batch: Batch) -> Tensor:
    with torch.no_grad():
        return only_head(model(batch))


def only_head(output: ModelOutput) -> Tensor:
    (prediction,) = output.prediction.values()
    return prediction


def parameters_of(model: nn.Module) -> Tensor:
    return torch.cat([torch.zeros(0), *(parameter.detach().flatten() for parameter in model.parameters())])


def expected_shape(config: AnyConfig) -> tuple[str, tuple[int, ...]]:
    if isinstance(config, TransformerConfig) and config.predicts_symbols:
        return "next_symbol", (B, T, 11)
    head = config.window_head if isinstance(config, TransformerConfig) else config.head
    last = {
        "quantiles": (2, 3),
        "forecast": (6, getattr(head, "n_channels", 0)),
        "logits": (C,),
        "classes": (5,),
    }
    return head.kind, (B, *last.get(head.kind, ()))


def test_every_family_has_a_builder_and_a_case() -> None:
    assert set(BUILDERS) == set(MODEL_CONFIGS) == {config.family for config in CONFIGS.values()}


def test_every_value_of_every_option_of_patchtst_has_a_case() -> None:
    """Of options with a closed list of values: words, and the kinds of tagged records."""
    for name, field in PatchTSTConfig.model_fields.items():
        values = {getattr(value, "kind", value) for value in (getattr(c, name) for c in PATCHTSTS.values())}
        if typing.get_origin(field.annotation) is typing.Literal:
            assert values == set(typing.get_args(field.annotation)), name
        if field.discriminator:
            kinds = {choice.model_fields["kind"].default for choice in typing.get_args(field.annotation)}
            assert values == kinds, name
        if field.annotation is bool:
            assert values == {True, False}, name


@every_config
def test_the_prediction_and_the_embedding_have_their_shapes(config: AnyConfig) -> None:
    output = build(config)(windows(config))
    name, shape = expected_shape(config)
    assert {key: tuple(x.shape) for key, x in output.prediction.items()} == {name: shape}
    assert output.embedding.shape[0] == B
    assert output.embedding.ndim == 2


@pytest.mark.parametrize(
    ("options", "width"),
    [
        ({}, 16),
        ({"pooling": "flatten"}, 7 * 16),
        ({"pooling": "flatten", "pad_end": True}, 8 * 16),
        ({"channels": "independent"}, F * 16),
        ({"channels": "independent", "head": SOME_COLUMNS, "pooling": "flatten"}, 2 * 7 * 16),
    ],
)
def test_the_embedding_of_patches_is_what_the_head_reads(options: dict[str, Any], width: int) -> None:
    config = PATCHTST(**options)
    assert tuple(build(config)(windows(config)).embedding.shape) == (B, width)


@every_config
def test_evaluation_is_deterministic_and_training_is_not_under_dropout(config: AnyConfig) -> None:
    model, batch = build(config), windows(config)
    assert torch.equal(predict(model, batch), predict(model, batch))
    same_while_training = torch.equal(predict(model.train(), batch), predict(model, batch))
    dropped = max(getattr(config, "dropout", 0), getattr(config, "head_dropout", 0))
    assert same_while_training == (dropped == 0)


@every_learning
def test_the_gradient_reaches_every_parameter(config: AnyConfig) -> None:
    model = build(config)
    prediction = only_head(model(windows(config)))
    (prediction * torch.randn(prediction.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@every_config
def test_the_closed_form_counts_every_group_of_the_built_model(config: AnyConfig) -> None:
    counted = dict.fromkeys(GROUPS.values(), 0)
    for name, parameter in build_meta_model(config, **sizes(config)).named_parameters():
        counted[GROUPS[name.split(".")[0]]] += parameter.numel()
    assert count_params(config, **sizes(config)).model_dump() == counted
    assert sum(counted.values()) == parameters_of(build(config)).numel()


@every_config
def test_the_order_of_a_batch_does_not_matter(config: AnyConfig) -> None:
    model, batch = build(config), windows(config)
    order = torch.tensor([2, 0, 3, 1])
    permuted = predict(model, changed(batch, lambda x: x[order]))
    torch.testing.assert_close(permuted, predict(model, batch)[order], rtol=1e-5, atol=1e-6)


@every_config
def test_a_window_does_not_depend_on_its_neighbours(config: AnyConfig) -> None:
    model, batch, other = build(config), windows(config), windows(config, seed=9)
    fields = {name: getattr(batch, name) for name in FIELDS}
    mixed = dataclasses.replace(
        batch,
        **{name: torch.cat((x[:1], getattr(other, name)[1:])) for name, x in fields.items() if x is not None},
    )
    torch.testing.assert_close(predict(model, mixed)[0], predict(model, batch)[0], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(predict(model, mixed)[1], predict(model, batch)[1])


@every_config
def test_the_prediction_depends_on_the_order_of_time(config: AnyConfig) -> None:
    """Bars change places and the calendar stays; it is the order that some models know."""
    model, batch = build(config), windows(config)
    swapped = changed(batch, lambda x: x[:, [*range(T // 2, T), *range(T // 2)]])
    swapped = dataclasses.replace(swapped, calendar=batch.calendar)
    assert (predict(model, swapped) - predict(model, batch)).abs().max() > 1e-3


@every_config
def test_a_state_dict_comes_back_bit_exact_through_safetensors(config: AnyConfig) -> None:
    model, other, batch = build(config, seed=1), build(config, seed=2), windows(config)
    other.load_state_dict(load(save(model.state_dict())))
    assert torch.equal(parameters_of(other), parameters_of(model))
    assert torch.equal(predict(other, batch), predict(model, batch))


@every_learning
def test_equal_seeds_give_equal_weights_and_leave_the_global_random_state_alone(config: AnyConfig) -> None:
    before = torch.random.get_rng_state()
    first, again, other = (parameters_of(build(config, seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@every_config
def test_a_config_comes_back_from_its_own_record(config: AnyConfig) -> None:
    assert parse_model_config(config.model_dump(mode="json")) == config


@every_windowed
@pytest.mark.parametrize("name", ["tokens", "positions", "categories"])
def test_a_field_that_a_model_of_whole_windows_would_ignore_is_refused(config: AnyConfig, name: str) -> None:
    fields = {
        "tokens": torch.zeros(B, T, dtype=torch.int64),
        "positions": torch.arange(T),
        "categories": torch.zeros(B, T, 1, dtype=torch.int64),
    }
    with pytest.raises(Fault, match=rf"batch must hold values only for {config.family}, got \['{name}'\]"):
        build(config)(dataclasses.replace(windows(config), **{name: fields[name]}))


@every_windowed
def test_a_calendar_is_read_or_refused(config: AnyConfig) -> None:
    model, batch = build(config), windows(config)
    if batch.calendar is None:
        with pytest.raises(Fault, match=r"got \['calendar'\]"):
            model(dataclasses.replace(batch, calendar=torch.zeros(B, T, 4, dtype=torch.int64)))
        return
    with pytest.raises(Fault, match=rf"batch.calendar must be given to this {config.family}"):
        model(dataclasses.replace(batch, calendar=None))
    moved = dataclasses.replace(batch, calendar=(batch.calendar + 1) % 7)
    assert not torch.allclose(predict(model, moved), predict(model, batch))


@every_config
def test_input_that_a_model_cannot_use_is_refused(config: AnyConfig) -> None:
    foreign = windows(PATCHTST() if getattr(config, "vocab_size", None) else DECODER())
    with pytest.raises(Fault, match="batch"):
        build(config)(foreign)


@every_decoder
@pytest.mark.parametrize("at", [1, 10, T - 1])
def test_a_decoder_cannot_see_the_future(config: TransformerConfig, at: int) -> None:
    model, batch = build(config), windows(config)
    later = torch.arange(T) >= at
    moved = changed(batch, lambda tokens: torch.where(later, (tokens + 1) % config.vocab_size, tokens))
    old, new = predict(model, batch), predict(model, moved)
    torch.testing.assert_close(new[:, :at], old[:, :at], rtol=1e-5, atol=1e-6)
    assert ((new[:, at:] - old[:, at:]).abs().amax(dim=(0, 2)) > 1e-4).all()


def moved(config: AnyConfig, x: Tensor) -> Tensor:
    """Other input of the same kind: real values one higher, codes one further."""
    if x.is_floating_point():
        return x + 1
    return (x + 1) % (getattr(config, "vocab_size", None) or min((7, *getattr(config, "categories", ()))))


def moved_where(config: AnyConfig, batch: Batch, at_T: Tensor) -> Batch:
    return changed(batch, lambda x: torch.where(at_T.view(T, *[1] * (x.ndim - 2)), moved(config, x), x))


def last_bar_read(config: AnyConfig) -> int:
    """The last bar of the window, or of its last whole patch."""
    if not isinstance(config, PatchTSTConfig) or config.pad_end:
        return T - 1
    return T - 1 - (T - config.patch_length) % config.stride


@every_padded
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_cannot_change_what_is_said_of_real_tokens(config: AnyConfig, side: str) -> None:
    model, batch = build(config), windows(config)
    real_T = torch.arange(T) >= 7 if side == "left" else torch.arange(T) < T - 8
    masked = dataclasses.replace(batch, mask=real_T.expand(B, T))
    last_T = torch.arange(T) == (last_bar_read(config) if side == "left" else T - 9)
    old, new = predict(model, masked), predict(model, moved_where(config, masked, ~real_T))
    symbols = isinstance(config, TransformerConfig) and config.predicts_symbols
    kept = (slice(None), real_T) if symbols else ()
    torch.testing.assert_close(new[kept], old[kept], rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        nowhere_T = torch.zeros(T, dtype=torch.bool)
        embeddings = [
            model(moved_where(config, masked, at_T)).embedding for at_T in (nowhere_T, ~real_T, last_T)
        ]
    torch.testing.assert_close(embeddings[1], embeddings[0], rtol=1e-5, atol=1e-6)
    assert ((embeddings[2] - embeddings[0]).abs().amax(dim=1) > 1e-4).all()
    assert old.isfinite().all()


@every_padded
def test_windows_of_unequal_padding_are_each_read_as_if_alone(config: AnyConfig) -> None:
    model, batch = build(config), windows(config)
    n_padded_B1 = torch.tensor([[0], [3], [9], [17]])
    masked = dataclasses.replace(batch, mask=torch.arange(T) >= n_padded_B1)
    together = predict(model, masked)
    for window in range(B):
        fields = {name: getattr(masked, name) for name in (*FIELDS, "mask")}
        alone = Batch(**{name: x[window : window + 1] for name, x in fields.items() if x is not None})
        torch.testing.assert_close(predict(model, alone)[0], together[window], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_says_whether_its_model_reads_masks(name: str) -> None:
    assert CONFIGS[name].reads_masks == (name in PADDED)


@every_unpadded
def test_a_model_that_cannot_leave_padding_out_takes_no_mask(config: AnyConfig) -> None:
    mask = torch.ones(B, T, dtype=torch.bool)
    with pytest.raises(Fault, match=r"batch(\.mask)? must .*(mask|batch_norm)"):
        build(config)(dataclasses.replace(windows(config), mask=mask))


@every_stacked
def test_recomputing_activations_changes_no_number(config: AnyConfig) -> None:
    found = []
    for checkpoint in (False, True):
        model, seen = build(config).train(), []
        checkpoint_activations(model, checkpoint)
        model.blocks[0].register_forward_pre_hook(lambda *_, seen=seen: seen.append(1))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            prediction = only_head(model(windows(config)))
            prediction.square().sum().backward()
        assert len(seen) == 1 + checkpoint
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found.append([prediction, *gradients, *model.buffers()])
    assert len(found[0]) == len(found[1])
    assert all(torch.equal(plain, again) for plain, again in zip(*found, strict=True))


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
