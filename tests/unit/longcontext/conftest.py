"""A miniature block: one mind for every test of the room."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from finscale.longcontext.config import LongContextConfig, read_block

CONF = Path(__file__).parents[3] / "conf" / "base" / "parameters_long_context_eval.yml"


@pytest.fixture(scope="session")
def blocks() -> dict[str, Any]:
    return yaml.safe_load(CONF.read_text(encoding="utf-8"))["long_context_blocks"]


@pytest.fixture(scope="session")
def smoke(blocks: dict[str, Any]) -> LongContextConfig:
    return read_block("cpu_smoke", blocks)


@pytest.fixture(scope="session")
def demo(blocks: dict[str, Any]) -> LongContextConfig:
    return read_block("cpu_demo", blocks)


@pytest.fixture(scope="session", params=["qwen2", "llama"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny randomly initialised checkpoint of each family, with a tokenizer of characters, ! being 4."""
    transformers, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp(request.param)
    sizes = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "rope_theta": 5_000.0}
    config = transformers.AutoConfig.for_model(request.param, **sizes, **heads, **special)
    torch.manual_seed(3)
    network = transformers.AutoModelForCausalLM.from_config(config)
    for weights in network.parameters():
        # far enough from uniform that likeliest tokens differ
        if weights.ndim == 2:
            torch.nn.init.normal_(weights, std=0.3)
    # what hub checkpoints recommend, and nobody here asked for
    network.generation_config.update(do_sample=True, repetition_penalty=5.0)
    network.save_pretrained(folder)
    # of bytes, because tokenizers of the Qwen2 family read bytes whatever the file says
    signs = ["<pad>", "<s>", "</s>", "\u0120", *map(chr, range(33, 125))]
    bytes_alone = tokenizers.models.BPE({sign: code for code, sign in enumerate(signs)}, [])
    tokenizer = tokenizers.Tokenizer(bytes_alone)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    special_words = {"eos_token": "</s>", "pad_token": "<pad>"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special_words)
    fast.save_pretrained(folder)
    return folder
