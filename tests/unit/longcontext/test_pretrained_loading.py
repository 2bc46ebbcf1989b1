"""A checkpoint that cannot be read, or not so, is refused with what to do about it."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from finscale.core.errors import Fault, FinscaleError
from finscale.longcontext.pretrained import PretrainedDecoder, load_pretrained
from finscale.longcontext.pretrained_config import PretrainedConfig, PretrainedModelConfig, SystemConfig

transformers, accelerate = pytest.importorskip("transformers"), pytest.importorskip("accelerate")


def load(
    folder: Path | str | None, *, system: Any = None, model: Any = None, **fields: Any
) -> PretrainedDecoder:
    pretrained = PretrainedConfig.read({"model_name_or_path": folder and str(folder), **fields})
    place = SystemConfig.read({"device": "cpu", **(system or {})})
    return load_pretrained(pretrained, model=PretrainedModelConfig.read(model or {}), system=place)


def changed(checkpoint: Path, folder: Path, **fields: Any) -> Path:
    """A copy of the checkpoint with another config.json."""
    shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **fields}), encoding="utf-8")
    return folder


def refused(folder: Path | str | None, **options: Any) -> str:
    with pytest.raises(FinscaleError) as caught:
        load(folder, **options)
    return str(caught.value)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_a_path_without_a_checkpoint_is_never_looked_up_elsewhere(tmp_path: Path) -> None:
    for name in (str(tmp_path), str(tmp_path / "none"), "./none", "a/b/none"):
        said = refused(name)
        assert "model_name_or_path must be a directory with config.json, or a hub id" in said
        assert name in said
        assert "check the path" in said


@pytest.mark.usefixtures("offline")
def test_a_hub_id_that_cannot_be_reached_says_how_to_go_without_network() -> None:
    said = refused("nobody/nothing-at-all")
    assert "must be a hub id that can be reached or lies in the cache, got 'nobody/nothing-at-all'" in said
    assert "hf download nobody/nothing-at-all --local-dir DIR" in said


def test_nothing_named_is_said() -> None:
    assert "model_name_or_path must be given" in refused(None)


@pytest.mark.parametrize("family", ["gpt2", "never_heard_of"])
def test_another_family_is_refused(checkpoint: Path, tmp_path: Path, family: str) -> None:
    said = refused(changed(checkpoint, tmp_path, model_type=family))
    assert "qwen2 or llama" in said
    assert "choose a checkpoint of these families" in said


def test_damaged_checkpoints_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    folder = changed(checkpoint, tmp_path)
    (folder / "model.safetensors").unlink()
    assert "must hold a readable config.json and weights as *.safetensors" in refused(folder)
    torch.save({}, folder / "pytorch_model.bin")
    assert "must hold a readable config.json and weights as *.safetensors" in refused(folder)
    (folder / "config.json").write_text("{", encoding="utf-8")
    assert "must hold a readable config.json" in refused(folder)


def test_a_checkpoint_with_a_window_of_its_own_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    layers = {"layer_types": ["sliding_attention", "full_attention", "full_attention"]}
    window = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}
    own = changed(checkpoint, tmp_path, **layers, **window)
    assert "must attend to everything in every layer" in refused(own)


def test_dropped_attention_is_refused_where_it_would_not_be_dropped(checkpoint: Path, tmp_path: Path) -> None:
    folder = changed(checkpoint, tmp_path, attention_dropout=0.1)
    assert "attention_dropout must be 0" in refused(folder, system={"window_size": 8})
    load(folder)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
@pytest.mark.parametrize("option", ["load_in_4bit", "load_in_8bit"])
def test_fewer_bits_need_their_package(checkpoint: Path, option: str) -> None:
    said = refused(checkpoint, **{option: True})
    assert "must find the package bitsandbytes, got 'none'; type: pip install 'finscale[quant]'" in said


def test_a_missing_package_is_named_with_its_extra(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    said = refused(checkpoint)
    assert "must find the package transformers, got 'none'; type: pip install 'finscale[hf]'" in said


def test_options_that_clash_are_all_told_at_once(checkpoint: Path) -> None:
    said = refused(checkpoint, device_map="auto", attn_implementation="eager", system={"window_size": 8})
    assert "system.device must be auto under device_map or cpu_offload" in said
    assert "attn_implementation must be left out with a window or alibi" in said
    said = refused(checkpoint, attn_implementation="sdpa", model={"positions": "alibi"})
    assert "attn_implementation must be left out" in said
    assert "load_in_4bit must be off" in refused(checkpoint, load_in_4bit=True, load_in_8bit=True)


def test_code_from_elsewhere_is_trusted_only_beside_its_name() -> None:
    assert PretrainedConfig().trust_remote_code is False
    assert PretrainedConfig(model_name_or_path="a/b", trust_remote_code=True).trust_remote_code
    with pytest.raises(FinscaleError, match="trust_remote_code must stand beside the model that is trusted"):
        PretrainedConfig.read({"trust_remote_code": True})


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"positions": "learned"}, "positions must be exact under a cache"),
        ({"positions": {"kind": "rope_dynamic", "factor": 2, "original_length": 8}}, "use one of: rope, "),
        ({"positions": {"kind": "pi_spiral", "form": "additive"}}, "positions.form must be rotary"),
        ({"positions": {"kind": "hybrid", "gate": "distance"}}, "positions.gate must be absolute"),
        (
            {"positions": "alibi", "attractor": {"keys": {"kind": "content", "rotated": True}}},
            "rotated must be left out unless positions turn pairs",
        ),
    ],
)
def test_changes_that_a_checkpoint_cannot_take_are_refused_unread(model: dict[str, Any], said: str) -> None:
    with pytest.raises(FinscaleError, match=said):
        PretrainedModelConfig.read(model)


def test_changes_that_this_checkpoint_cannot_take_are_refused(checkpoint: Path) -> None:
    said = refused(checkpoint, model={"positions": {"kind": "rope", "base": 123.0}})
    assert "positions.base must be that of the checkpoint, 5000.0, got 123.0" in said
    said = refused(checkpoint, model={"attractor": {"into": "custom", "layers": [1, 7]}})
    assert "attractor.layers must lie below the checkpoint's 3, got [7]" in said
    with pytest.raises(FinscaleError, match="window_size"):
        SystemConfig.read({"window_size": 1})


def test_weights_come_in_the_type_that_was_asked_for(checkpoint: Path) -> None:
    model = load(checkpoint, torch_dtype="bfloat16", model={"attractor": {"into": "all"}})
    assert model.network.dtype == torch.bfloat16
    types = {name.rpartition(".")[2]: weights.dtype for name, weights in model.attractors.named_parameters()}
    assert types == {"weight": torch.bfloat16, "log_rate": torch.float32}
    assert model.logits(torch.arange(3, 9)[None]).dtype == torch.bfloat16
    assert load(checkpoint).network.dtype == torch.float32


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What transformers is asked for; it is told nothing of quantization and placement."""
    seen: dict[str, Any] = {}
    genuine = transformers.AutoModelForCausalLM.from_pretrained

    def listen(name: str, **options: Any) -> Any:
        seen.clear()
        seen.update(options)
        placed = ("device_map", "quantization_config")
        return genuine(name, **{key: x for key, x in options.items() if key not in placed})

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", listen)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    return seen


def test_placement_is_passed_on(checkpoint: Path, asked: dict[str, Any]) -> None:
    load(checkpoint)
    assert asked["use_safetensors"]
    assert not asked["trust_remote_code"]
    assert asked["attn_implementation"] == "sdpa"
    assert "device_map" not in asked
    load(checkpoint, device_map="balanced", system={"device": "auto"}, attn_implementation="eager")
    assert (asked["device_map"], asked["attn_implementation"]) == ("balanced", "eager")
    load(checkpoint, system={"device": "auto", "cpu_offload": True}, trust_remote_code=True)
    assert (asked["device_map"], asked["trust_remote_code"]) == ("auto", True)


def test_quantization_is_passed_on(checkpoint: Path, asked: dict[str, Any]) -> None:
    load(checkpoint, load_in_4bit=True, torch_dtype="bfloat16")
    assert asked["device_map"] == {"": "cpu"}
    four = asked["quantization_config"]
    assert (four.load_in_4bit, four.load_in_8bit) == (True, False)
    assert (four.bnb_4bit_compute_dtype, four.bnb_4bit_quant_type) == (torch.bfloat16, "nf4")
    assert not four.llm_int8_enable_fp32_cpu_offload
    load(checkpoint, load_in_8bit=True, system={"device": "auto", "cpu_offload": True})
    eight = asked["quantization_config"]
    assert (eight.load_in_4bit, eight.load_in_8bit) == (False, True)
    assert eight.llm_int8_enable_fp32_cpu_offload
    assert eight.bnb_4bit_compute_dtype == torch.float32


def test_weights_that_lie_elsewhere_change_nothing(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine, codes = transformers.AutoModelForCausalLM.from_pretrained, torch.arange(3, 30)[None]
    here = load(checkpoint, model={"attractor": {"into": "all"}})

    def offloaded(name: str, **options: Any) -> Any:
        del options["device_map"]
        return accelerate.cpu_offload(genuine(name, **options), execution_device=torch.device("cpu"))

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", offloaded)
    options = {"device": "auto", "cpu_offload": True}
    there = load(checkpoint, model={"attractor": {"into": "all"}}, system=options)
    assert next(there.network.parameters()).device.type == "meta"
    assert torch.equal(there.logits(codes), here.logits(codes))
    assert torch.equal(there.generate(codes, 4), here.generate(codes, 4))


def test_savings_of_memory_and_time_reach_the_network(checkpoint: Path) -> None:
    saving = load(checkpoint, system={"gradient_checkpointing": True, "compile": True})
    for model, saved in ((saving, True), (load(checkpoint), False)):
        assert {layer.gradient_checkpointing for layer in model.network.model.layers} == {saved}
        assert (model.network.model._compiled_call_impl is not None) == saved


def test_texts_go_through_the_tokenizer(checkpoint: Path, tmp_path: Path) -> None:
    model = load(checkpoint)
    codes = model.encode("$!a")
    assert codes.tolist() == [[7, 4, 68]]
    new = model.generate(codes, 5)
    assert model.answer("$!a", 5) == model.decode(new)[0]
    assert model.decode(torch.tensor([[7, 68, 2, 0]])) == ["$a"]
    bare = changed(checkpoint, tmp_path)
    for file in bare.glob("*token*"):
        file.unlink()
    silent = load(bare)
    assert silent.logits(codes).shape == (1, 3, 96)
    with pytest.raises(Fault, match="must come with a tokenizer for tasks of text"):
        silent.encode("a")


def test_the_recommended_decoding_of_a_checkpoint_is_left_out(checkpoint: Path) -> None:
    told = load(checkpoint).network.generation_config
    assert told.repetition_penalty is None or told.repetition_penalty == 1.0
    assert not told.do_sample
    assert (told.bos_token_id, told.eos_token_id, told.pad_token_id) == (1, 2, 0)
