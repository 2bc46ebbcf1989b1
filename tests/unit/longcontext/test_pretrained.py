"""A pretrained model says what it said before, but for the one thing that was changed in it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from finscale.core.errors import Fault, FinscaleError
from finscale.longcontext.pretrained import PretrainedDecoder, load_pretrained
from finscale.longcontext.pretrained_config import PretrainedConfig, PretrainedModelConfig, SystemConfig
from finscale.longcontext.streaming import measure_stream, stream
from finscale.models.contract import Batch, ModelOutput
from finscale.models.layers.attractor import Attractor
from finscale.models.layers.positions import build_positions
from finscale.models.layers.positions.alibi import alibi_slopes
from finscale.models.position_config import YarnConfig

transformers = pytest.importorskip("transformers")
ATTRACTORS: dict[str, dict[str, Any]] = {
    "content": {"keys": "content", "into": "all"},
    "position": {"keys": "position", "alpha": {"kind": "exp_c_over_N", "N": 50}, "n_inject": 2},
    "rotated": {"keys": {"kind": "content", "rotated": True}, "into": "custom", "layers": [1]},
}
every_attractor = pytest.mark.parametrize("attractor", ATTRACTORS.values(), ids=ATTRACTORS.keys())


def load(
    folder: Path, *, window: int | None = None, device: str = "cpu", **changes: Any
) -> PretrainedDecoder:
    model = PretrainedModelConfig.read(changes)
    system = SystemConfig(device="cpu", window_size=window)
    return load_pretrained(PretrainedConfig(model_name_or_path=str(folder)), model=model, system=system)


def plain(folder: Path, attention: str = "sdpa") -> Any:
    network = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention)
    network.generation_config = transformers.GenerationConfig(pad_token_id=0, eos_token_id=2)
    return network.eval()


def tokens(length: int, n: int = 2) -> Tensor:
    return torch.randint(3, 96, (n, length), generator=torch.Generator().manual_seed(length))


def padded() -> tuple[Tensor, Tensor]:
    """Two sequences of 12 and 9 tokens, the shorter one after padding."""
    codes, mask = tokens(12), torch.ones(2, 12, dtype=torch.bool)
    codes[1, :3], mask[1, :3] = 0, False
    return codes, mask


def heard(model: PretrainedDecoder) -> PretrainedDecoder:
    """Let attractors be heard, which start at zero."""
    for attractor in model.attractors.values():
        assert isinstance(attractor, Attractor)
        torch.nn.init.normal_(attractor.output.weight, std=0.3, generator=torch.Generator().manual_seed(1))
    return model


def joined(outputs: Iterable[ModelOutput]) -> Tensor:
    return torch.cat([output.prediction["next_symbol"] for output in outputs], dim=1)


def explicit(folder: Path, codes: Tensor, allowed: Tensor, bias: Tensor | None = None) -> Tensor:
    """What the network says under a mask (T, T) and a bias (H, T, T) written out."""
    scores = torch.zeros(4, *allowed.shape) if bias is None else bias
    mask = torch.where(allowed, scores, torch.finfo(torch.float32).min)
    with torch.no_grad():
        return plain(folder, "eager")(codes, attention_mask=mask[None].expand(len(codes), -1, -1, -1)).logits


def in_window(length: int, window: int) -> Tensor:
    distance = torch.arange(length)[:, None] - torch.arange(length)
    return (distance >= 0) & (distance < window)


def test_rope_for_rope_is_the_same_to_the_bit(checkpoint: Path) -> None:
    model, network, (codes, mask) = load(checkpoint, positions="rope"), plain(checkpoint), padded()
    assert type(model.network.model.rotary_emb) is not type(network.model.rotary_emb)
    with torch.no_grad():
        assert torch.equal(model.logits(tokens(40)), network(tokens(40)).logits)
        steps = (mask.cumsum(dim=1) - 1).clamp(min=0)
        expected = network(codes, attention_mask=mask, position_ids=steps).logits
        assert torch.equal(model.logits(codes, mask)[mask], expected[mask])
        said = network.generate(codes, attention_mask=mask, max_new_tokens=9, do_sample=False)
    assert torch.equal(model.generate(codes, 9, mask=mask), said[:, 12:])
    assert said[:, 12:].unique().numel() > 4


@pytest.mark.parametrize("kind", ["rope_linear", "yarn"])
def test_scaled_positions_are_those_of_transformers(checkpoint: Path, kind: str) -> None:
    published = {"rope_linear": "linear", "yarn": "yarn"}[kind]
    given = {"kind": kind, "factor": 4, **({"original_length": 128} if kind == "yarn" else {})}
    config = transformers.AutoConfig.from_pretrained(checkpoint)
    original = {"original_max_position_embeddings": 128} if kind == "yarn" else {}
    config.rope_parameters = {"rope_type": published, "factor": 4.0, "rope_theta": 5_000.0, **original}
    network = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, config=config).eval()
    with torch.no_grad():
        expected = network(tokens(60)).logits
    torch.testing.assert_close(
        load(checkpoint, positions=given).logits(tokens(60)), expected, rtol=0, atol=2e-3
    )
    assert (load(checkpoint).logits(tokens(60)) - expected).abs().max() > 0.1


def test_a_swapped_table_is_that_of_the_registry_at_the_base_of_the_checkpoint(checkpoint: Path) -> None:
    rotary = load(
        checkpoint, positions={"kind": "yarn", "factor": 2, "original_length": 64}
    ).network.model.rotary_emb
    steps = torch.tensor([0, 7, 1_000_000])
    config = YarnConfig(factor=2, original_length=64, base=5_000.0)
    tables = build_positions(config, d_model=32, d_head=8, n_heads=4, max_length=0).tables(
        steps, like=torch.empty(3, 1)
    )
    assert tables is not None
    for got, expected in zip(rotary(torch.empty(1, 3, 32), steps[None]), tables, strict=True):
        assert torch.equal(got, torch.cat((expected, expected), dim=1)[None])


def test_a_hybrid_is_the_checkpoint_itself_up_to_its_bound(checkpoint: Path) -> None:
    hybrid, codes = {"kind": "hybrid", "K": 24, "width": 4, "gate": "absolute_hard"}, tokens(40)
    said, own = load(checkpoint, positions=hybrid).logits(codes), load(checkpoint).logits(codes)
    assert torch.equal(said[:, :25], own[:, :25])
    assert (said[:, 30:] - own[:, 30:]).abs().amax(dim=-1).min() > 1e-3


@pytest.mark.parametrize("kind", ["none", "pi_spiral"])
def test_only_positions_tell_the_order_of_earlier_tokens(checkpoint: Path, kind: str) -> None:
    model, codes = load(checkpoint, positions=kind), tokens(20)
    # one layer: in deeper ones the causal mask tells the order too
    model.network.model.layers = model.network.model.layers[:1]
    model.config.num_hidden_layers = 1
    swapped = codes[:, [1, 0, *range(2, 20)]]
    moved = (model.logits(codes)[:, 2:] - model.logits(swapped)[:, 2:]).abs().max()
    assert (moved < 1e-4) == (kind == "none")


def test_alibi_is_its_bias_written_out(checkpoint: Path) -> None:
    model, codes = load(checkpoint, positions="alibi"), tokens(30)
    distance = torch.arange(30)[:, None] - torch.arange(30)
    bias = -torch.tensor(alibi_slopes(4))[:, None, None] * distance
    network = plain(checkpoint, "eager")
    network.model.rotary_emb = load(checkpoint, positions="none").network.model.rotary_emb
    mask = torch.where(distance >= 0, bias, torch.finfo(torch.float32).min)[None].expand(2, -1, -1, -1)
    with torch.no_grad():
        expected = network(codes, attention_mask=mask).logits
    torch.testing.assert_close(model.logits(codes), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("positions", "window"), [("alibi", None), ("alibi", 5), ("rope", 5), ("rope", 100)])
def test_padding_is_not_read(checkpoint: Path, positions: str, window: int | None) -> None:
    model, (codes, mask) = load(checkpoint, positions=positions, window=window), padded()
    alone = model.logits(codes[1:, 3:])
    torch.testing.assert_close(model.logits(codes, mask)[1:, 3:], alone, rtol=0, atol=1e-3)
    assert torch.equal(model.generate(codes, 6, mask=mask)[1:], model.generate(codes[1:, 3:], 6))


@pytest.mark.parametrize("window", [2, 7, 64])
def test_a_window_is_its_mask_written_out(checkpoint: Path, window: int) -> None:
    model, codes = load(checkpoint, window=window), tokens(40)
    expected = explicit(checkpoint, codes, in_window(40, window))
    torch.testing.assert_close(model.logits(codes), expected, rtol=0, atol=1e-3)
    for chunk in (1, 7):
        said = torch.cat(
            [x.prediction["next_symbol"] for x in model.stream(codes.split(chunk, dim=1))], dim=1
        )
        torch.testing.assert_close(said, expected, rtol=0, atol=1e-3)


def test_a_window_is_what_generation_sees(checkpoint: Path) -> None:
    model, codes = load(checkpoint, window=6), tokens(20)
    for _ in range(8):
        allowed = in_window(codes.shape[1], 6)
        codes = torch.cat((codes, explicit(checkpoint, codes, allowed)[:, -1:].argmax(dim=-1)), dim=1)
    assert torch.equal(model.generate(tokens(20), 8), codes[:, 20:])


@every_attractor
def test_an_injected_model_starts_as_the_plain_one(checkpoint: Path, attractor: dict[str, Any]) -> None:
    model, network, (codes, mask) = load(checkpoint, attractor=attractor), plain(checkpoint), padded()
    assert len(model.attractors) == {"all": 3, "custom": 1}.get(attractor.get("into", ""), 2)
    assert torch.equal(model.logits(codes, mask), load(checkpoint).logits(codes, mask))
    assert torch.equal(model.generate(tokens(20), 8), load(checkpoint).generate(tokens(20), 8))
    assert model.network.state_dict().keys() == network.state_dict().keys()
    was = model.logits(codes)
    assert (heard(model).logits(codes) - was).abs().max() > 0.01


@every_attractor
@pytest.mark.parametrize("window", [None, 6])
def test_a_stream_of_an_injected_model_is_one_call(
    checkpoint: Path, attractor: dict[str, Any], window: int | None
) -> None:
    model, codes = heard(load(checkpoint, attractor=attractor, window=window)), tokens(70)
    whole = model.logits(codes)
    for chunk in (1, 9):
        said = torch.cat(
            [x.prediction["next_symbol"] for x in stream(model, codes.split(chunk, dim=1))], dim=1
        )
        torch.testing.assert_close(said, whole, rtol=0, atol=2e-3)


def test_an_attractor_does_not_remember_padding(checkpoint: Path) -> None:
    for options in ({}, {"window": 5}):
        model = heard(load(checkpoint, attractor=ATTRACTORS["content"], **options))
        codes, mask = padded()
        torch.testing.assert_close(
            model.logits(codes, mask)[1:, 3:], model.logits(codes[1:, 3:]), rtol=0, atol=1e-3
        )


def test_a_state_is_constant_only_with_a_window(checkpoint: Path) -> None:
    for window, attractor in ((6, None), (6, ATTRACTORS["content"]), (None, ATTRACTORS["content"])):
        model = load(checkpoint, window=window, attractor=attractor)
        kept = [measure_stream(model, mode="m", length=n, chunk_length=16).state_bytes for n in (64, 512)]
        assert (kept[0] == kept[1]) == (window is not None)
        # three layers of 5 + 16 tokens, keys and values of 2 heads of 8, and a state of 4 heads of 8 x 8
        assert window is None or kept[0] == 3 * (2 * 21 * 2 * 8 * 4 + (attractor is not None) * 4 * 64 * 4)


def test_beams_carry_the_state_of_their_attractor(checkpoint: Path) -> None:
    model, codes, n_beams = heard(load(checkpoint, attractor=ATTRACTORS["content"])), tokens(12, 1), 3
    with torch.no_grad():
        slow = model.network.generate(
            codes, max_new_tokens=7, num_beams=n_beams, do_sample=False, use_cache=False, pad_token_id=0
        )
    assert torch.equal(model.generate(codes, 7, n_beams=n_beams), slow[:, 12:])
    assert not torch.equal(slow[:, 12:], model.generate(codes, 7)[:, : slow.shape[1] - 12])


def test_a_cache_begins_anew_after_reset(checkpoint: Path) -> None:
    model = heard(load(checkpoint, attractor=ATTRACTORS["content"], window=6))
    cache, said = model.new_cache(), []
    for _ in range(2):
        with torch.no_grad():
            said.append(model.network(tokens(20), past_key_values=cache).logits)
        cache.reset()
    assert torch.equal(said[0], said[1])


def test_a_cache_without_room_for_the_attractor_is_refused(checkpoint: Path) -> None:
    model = load(checkpoint, attractor=ATTRACTORS["content"])
    with pytest.raises(Fault, match="must hold the state of the attractor, got 'DynamicCache'"):
        model.network.generate(tokens(5), max_new_tokens=2)


def test_attractors_are_saved_by_themselves(checkpoint: Path, tmp_path: Path) -> None:
    model, path = (
        heard(load(checkpoint, attractor=ATTRACTORS["content"])),
        tmp_path / "attractors.safetensors",
    )
    model.save_attractors(path)
    again = load(checkpoint, attractor=ATTRACTORS["content"])
    again.load_attractors(path)
    assert torch.equal(again.logits(tokens(20)), model.logits(tokens(20)))
    with pytest.raises(Fault, match="must hold attractors of this"):
        load(checkpoint, attractor=ATTRACTORS["position"]).load_attractors(path)
    with pytest.raises(Fault, match="must be readable weights of attractors"):
        again.load_attractors(tmp_path / "none.safetensors")
    with pytest.raises(Fault, match="must be injected before it is saved"):
        load(checkpoint).save_attractors(path)


def test_a_score_is_the_log_probability_of_each_token(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, codes = load(checkpoint), tokens(30)
    expected = model.logits(codes).log_softmax(dim=-1)[:, :-1].gather(2, codes[:, 1:, None])[..., 0]
    monkeypatch.setattr("finscale.longcontext.pretrained._CHUNK", 7)
    torch.testing.assert_close(model.score(codes, 5), expected[:, -5:], rtol=0, atol=1e-3)
    with pytest.raises(Fault, match="n_scored must be from 1 to 29"):
        model.score(codes, 30)


def test_a_long_prompt_is_read_in_chunks(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, codes, lengths = load(checkpoint, window=6), tokens(30), []
    whole = model.generate(codes, 5)
    monkeypatch.setattr("finscale.longcontext.pretrained._CHUNK", 8)
    model.network.model.register_forward_hook(lambda _, __, said: lengths.append(said[0].shape[1]))
    assert torch.equal(model.generate(codes, 5), whole)
    assert lengths == [8, 8, 8, 6, 1, 1, 1, 1]


def test_draws_depend_on_their_seed_alone(checkpoint: Path) -> None:
    model, options = load(checkpoint), {"temperature": 2.0, "top_k": 20, "top_p": 0.95}
    torch.manual_seed(1)
    first, after = model.generate(tokens(9), 8, seed=5, **options), torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))
    assert torch.equal(first, model.generate(tokens(9), 8, seed=5, **options))
    assert not torch.equal(first, model.generate(tokens(9), 8, seed=6, **options))
    greedy = model.generate(tokens(9), 8)
    assert torch.equal(model.generate(tokens(9), 8, temperature=2.0, top_k=1), greedy)


def test_options_of_decoding_that_do_nothing_are_refused(checkpoint: Path) -> None:
    model = load(checkpoint)
    with pytest.raises(FinscaleError) as caught:
        model.generate(tokens(3), 0, n_beams=0, top_k=0, top_p=2.0)
    for said in (
        "n_new must be at least 1",
        "n_beams must be",
        "top_k must be at least 1",
        "top_p must be above",
    ):
        assert said in str(caught.value)
    assert "top_k must be left out at temperature=0" in str(caught.value)


def test_a_state_is_gone_on_with_once(checkpoint: Path) -> None:
    model, codes = load(checkpoint), tokens(6)
    state = model.start()
    with torch.no_grad():
        model(Batch(tokens=codes), state)
        with pytest.raises(Fault, match="state must be that of the last call, got one of 0 tokens"):
            model(Batch(tokens=codes), state)
    with pytest.raises(Fault, match="mask must be left out beside a state"):
        model(Batch(tokens=codes, mask=torch.ones(2, 6, dtype=torch.bool)), model.start())
    with pytest.raises(Fault, match="batch must hold tokens alone for a language model"):
        model(Batch(values=torch.ones(1, 2, 3)))


def test_positions_that_are_given_are_those_of_one_text(checkpoint: Path) -> None:
    model, codes, other = load(checkpoint), tokens(12), tokens(12)
    other[:, 0] = (codes[:, 0] + 1) % 90 + 3
    moved, jumping = torch.arange(100, 112), torch.cat((torch.arange(6), torch.arange(50, 56)))

    def said(tokens: Tensor, positions: Tensor) -> Tensor:
        with torch.no_grad():
            return model(Batch(tokens=tokens, positions=positions)).prediction["next_symbol"]

    torch.testing.assert_close(said(codes, moved), model.logits(codes), rtol=0, atol=1e-3)
    assert (said(codes, jumping) - model.logits(codes))[:, 6:].abs().max() > 0.01
    assert (said(codes, jumping) - said(other, jumping))[:, 6:].abs().amax(dim=-1).min() > 1e-4


def test_the_embedding_is_that_of_the_last_real_token(checkpoint: Path) -> None:
    model, codes = load(checkpoint), tokens(6)
    later = torch.cat((codes, torch.zeros_like(codes)), dim=1)
    mask = torch.arange(12)[None].expand(2, -1) < 6
    with torch.no_grad():
        alone, followed = model(Batch(tokens=codes)), model(Batch(tokens=later, mask=mask))
    torch.testing.assert_close(followed.embedding, alone.embedding, rtol=0, atol=1e-4)
