"""Language models are asked in words: every block of conf completes a miniature run on tiny checkpoints."""

import importlib.util
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finscale.longcontext.config import LongContextConfig, read_block
from finscale.longcontext.evaluate_text import encoder_of, evaluate_text, evaluation_prompts
from finscale.longcontext.pretrained_config import TuningConfig
from finscale.longcontext.rows import RetrievalRow, metrics_lines, rows_table
from finscale.longcontext.tuned import load_tuned, prompt_samples
from finscale.longcontext.verdict import verdict_of

pytest.importorskip("transformers")
PRETRAINED = (
    *("base", "qwen_1.5b_pi_spiral", "llama_8b_pi_spiral", "llama_34b_pi_spiral"),
    *("baseline_rope", "baseline_rope_ntk", "baseline_alibi"),
)


@pytest.fixture(scope="module", params=["qwen2", "llama"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a tiny checkpoint of each family, with a tokenizer of bytes.

    Its widths are multiples of 32, by which bitsandbytes packs 4 bits on a CPU.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    place = tmp_path_factory.mktemp(request.param)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate([*letters, "<end>"])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>").save_pretrained(place)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = AutoConfig.for_model(
        request.param, vocab_size=len(vocabulary), num_key_value_heads=1, eos_token_id=256, **sizes
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(place)
    return place


def miniature(
    blocks: dict[str, Any],
    name: str,
    checkpoint: Path,
    *,
    pretrained: dict[str, Any] | None = None,
    **system: Any,
) -> LongContextConfig:
    """Return a block of conf with a tiny checkpoint, short prompts and the CPU."""
    block = deepcopy(blocks[name])
    named = {"model_name_or_path": str(checkpoint), "torch_dtype": "float32"}
    block["pretrained"] = {**named, **(pretrained or {})}
    # several prompts of a batch are one block's matter
    n_samples = 2 if name == "base" else 1
    lengths = {"lengths": [1100], "longest": {}, "depths": [0.5], "n_samples": n_samples}
    block["evaluation"] = {**block["evaluation"], **lengths}
    block["generation"]["max_new_tokens"] = 4
    window = {"window_size": 64} if "window_size" in block["system"] else {}
    checkpointing = block["system"].get("gradient_checkpointing", False)
    own = {"device": "cpu", "gradient_checkpointing": checkpointing, **window}
    block["system"] = {**own, **system}
    return read_block(name, {name: block})


def asked(config: LongContextConfig) -> list[RetrievalRow]:
    """Return the rows of every mode, seed 0."""
    loaded = ((mode, load_tuned(config, mode=mode, seed=0)) for mode in config.modes)
    return [row for mode, model in loaded for row in evaluate_text(model, config, mode=mode, seed=0)]


@pytest.mark.parametrize("name", PRETRAINED)
def test_every_block_of_a_checkpoint_completes_a_miniature_run(
    blocks: dict[str, Any], checkpoint: Path, name: str
) -> None:
    config = miniature(blocks, name, checkpoint)
    rows = asked(config)
    assert len(rows) == config.n_rows
    assert {row.task for row in rows} == set(config.evaluation.tasks)
    assert all(0 <= row.acc <= 1 and row.perplexity > 1 for row in rows)
    outcomes = {gate.outcome for gate in verdict_of(rows_table(rows), rows_table([]), config).gates}
    assert "pass" not in outcomes


@pytest.mark.parametrize(
    ("pretrained", "system"),
    [
        ({}, {"device": "auto", "cpu_offload": True}),
        ({"device_map": "auto"}, {"device": "auto"}),
        ({"device_map": "cpu"}, {"device": "auto", "cpu_offload": True}),
    ],
    ids=["cpu_offload", "device_map", "both"],
)
def test_a_placed_block_says_what_it_says_on_one_device(
    blocks: dict[str, Any], checkpoint: Path, pretrained: dict[str, Any], system: dict[str, Any]
) -> None:
    block = (blocks, "llama_34b_pi_spiral", checkpoint)
    assert blocks["llama_34b_pi_spiral"]["system"]["cpu_offload"]
    placed, plain = asked(miniature(*block, pretrained=pretrained, **system)), asked(miniature(*block))
    assert [row.scores for row in placed] == [row.scores for row in plain]
    assert [row.perplexity for row in placed] == pytest.approx([row.perplexity for row in plain], rel=1e-4)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs finscale[quant]")
@pytest.mark.parametrize("name", ["llama_8b_pi_spiral", "llama_34b_pi_spiral"])
def test_a_block_in_four_bits_completes_a_miniature_run(
    blocks: dict[str, Any], checkpoint: Path, name: str
) -> None:
    assert blocks[name]["pretrained"]["load_in_4bit"]
    config = miniature(blocks, name, checkpoint, pretrained={"load_in_4bit": True})
    rows, whole = asked(config), asked(miniature(blocks, name, checkpoint))
    assert len(rows) == config.n_rows
    perplexities = [row.perplexity for row in rows]
    assert perplexities != [row.perplexity for row in whole]
    assert perplexities == pytest.approx([row.perplexity for row in whole], rel=0.1)


@pytest.mark.parametrize("logged", [True, False])
def test_rows_note_memory_and_speed_where_the_block_asks_for_them(
    blocks: dict[str, Any], checkpoint: Path, logged: bool
) -> None:
    config = miniature(blocks, "baseline_rope", checkpoint, log_memory=logged, log_throughput=logged)
    rows = asked(config)
    lines = [json.loads(line) for line in metrics_lines(rows_table(rows)).splitlines()]
    assert {("peak_bytes" in line, "tokens_per_s" in line) for line in lines} == {(logged, logged)}
    if logged:
        assert [line["tokens_per_s"] for line in lines] == [1100 * row.n / row.runtime_s for row in rows]
        assert all(10**7 < line["peak_bytes"] < 10**11 for line in lines)


def test_every_mode_of_a_checkpoint_is_asked_the_same(blocks: dict[str, Any], checkpoint: Path) -> None:
    config = miniature(blocks, "base", checkpoint)
    place = {"task": "multi_key", "length": 1100, "depth": 0.5, "seed": 0}
    prompts = [
        evaluation_prompts(load_tuned(config, mode=mode, seed=0), config, **place) for mode in config.modes
    ]
    assert [prompt.tokens for prompt in prompts[0]] == [prompt.tokens for prompt in prompts[1]]
    assert {len(prompt.tokens) for prompt in prompts[0]} == {1100}


def test_tuning_samples_score_the_tokens_of_the_answer_alone(
    blocks: dict[str, Any], checkpoint: Path
) -> None:
    model = load_tuned(miniature(blocks, "base", checkpoint), mode="rope", seed=0)
    tuning = TuningConfig(n_steps=1, length=1100, batch_size=3)
    samples = next(prompt_samples(model, tuning, seed=0))
    assert samples.tokens.shape == samples.scored.shape == (3, 1100)
    for tokens, scored in zip(samples.tokens, samples.scored, strict=True):
        text = model.decode(torch.from_numpy(tokens[None]))[0]
        answer = model.decode(torch.from_numpy(tokens[1:][scored[:-1]][None]))[0]
        assert answer.startswith(" ")
        assert text.endswith(answer)
        assert all(part in text[: -len(answer)] for part in answer.split())
    assert not samples.scored[:, -1].any()


def test_a_block_with_tuning_moves_the_weights(blocks: dict[str, Any], checkpoint: Path) -> None:
    config = miniature(blocks, "baseline_rope", checkpoint)
    tuned = config.model_copy(update={"tuning": TuningConfig(n_steps=1, length=1100, learning_rate=1e-2)})
    before, after = (load_tuned(one, mode="rope", seed=0).state_dict() for one in (config, tuned))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_pieces_of_a_prompt_get_no_tokens_of_their_own(blocks: dict[str, Any], checkpoint: Path) -> None:
    encode = encoder_of(load_tuned(miniature(blocks, "base", checkpoint), mode="rope", seed=0))
    assert np.array_equal([*encode("The grass"), *encode(" is green.")], encode("The grass is green."))
