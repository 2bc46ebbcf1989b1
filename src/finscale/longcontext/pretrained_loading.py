"""Read a checkpoint of the Qwen2 or Llama family; whatever stands in the way is said with its remedy."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from finscale.core.errors import Fault, raise_faults
from finscale.longcontext.pretrained_config import PretrainedConfig, SystemConfig
from finscale.training.config import ExecutionConfig, resolve_device

__all__ = ["FAMILIES", "load_network", "load_tokenizer"]

FAMILIES = ("qwen2", "llama")
"""Values of ``model_type`` whose modules the adapter knows."""

_NAME = "pretrained.model_name_or_path"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


def load_network(pretrained: PretrainedConfig, system: SystemConfig, *, own_attention: bool) -> Any:
    """Return the causal language model in evaluation mode, on its device.

    Weights are read from safetensors alone. Of the checkpoint's recommended decoding nothing is kept but the
    special tokens: every model is decoded as it is asked to be.

    Parameters
    ----------
    pretrained, system
        Which checkpoint, how it is read, and where it goes.
    own_attention : bool
        Whether the attention will be replaced, so that none of transformers may be asked for.

    Raises
    ------
    FinscaleError
        When a package is missing, the options clash, the checkpoint cannot be found or read, or its family
        is another.
    """
    raise_faults([*_missing(pretrained), *_clashes(pretrained, system, own_attention)])
    from transformers import AutoModelForCausalLM, GenerationConfig

    config = _checkpoint_config(pretrained)
    options = {**_placement(pretrained, system), **_quantization(pretrained, system, config)}
    with _reading(pretrained):
        network: Any = AutoModelForCausalLM.from_pretrained(
            str(pretrained.model_name_or_path),
            config=config,
            use_safetensors=True,
            trust_remote_code=pretrained.trust_remote_code,
            dtype=pretrained.torch_dtype,
            attn_implementation=pretrained.attn_implementation or "sdpa",
            **options,
        )
    told = network.generation_config
    special = {name: getattr(told, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    network.generation_config = GenerationConfig(**special)
    return (network if options else network.to(_device(system))).eval()


def load_tokenizer(pretrained: PretrainedConfig) -> Any:
    """Return the tokenizer that lies beside the weights.

    Raises
    ------
    Fault
        When there is none.
    """
    from transformers import AutoTokenizer

    name, remedy = str(pretrained.model_name_or_path), "add tokenizer.json to it, or hand over tokens"
    missing = Fault(_NAME, "come with a tokenizer for tasks of text", name, remedy)
    # without a file transformers makes a Qwen2 tokenizer that knows no token at all
    if Path(name).is_dir() and not any((Path(name) / file).is_file() for file in _TOKENIZER_FILES):
        raise missing
    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=pretrained.trust_remote_code)
    except (OSError, ValueError) as error:
        raise missing from error


def _missing(pretrained: PretrainedConfig) -> Iterator[Fault]:
    if pretrained.model_name_or_path is None:
        yield Fault(_NAME, "be given", "nothing", "name a hub id or a local directory")
    needed = {"transformers": "hf", "accelerate": "hf"}
    if pretrained.quantized:
        needed["bitsandbytes"] = "quant"
    for package, extra in needed.items():
        if importlib.util.find_spec(package) is None:
            wanted = "load_in_4bit and load_in_8bit" if extra == "quant" else "a pretrained model"
            remedy = f"type: pip install 'finscale[{extra}]'"
            yield Fault(wanted, f"find the package {package}", "none", remedy)


def _clashes(pretrained: PretrainedConfig, system: SystemConfig, own_attention: bool) -> Iterator[Fault]:
    if system.device != "auto" and (pretrained.device_map is not None or system.cpu_offload):
        rule = "be auto under device_map or cpu_offload, which place the weights themselves"
        yield Fault("system.device", rule, system.device, "set device=auto")
    if own_attention and pretrained.attn_implementation is not None:
        rule, remedy = "be left out with a window or alibi, which have attention of their own", "remove it"
        yield Fault("pretrained.attn_implementation", rule, pretrained.attn_implementation, remedy)


def _checkpoint_config(pretrained: PretrainedConfig) -> Any:
    from transformers import AutoConfig

    name, families = str(pretrained.model_name_or_path), " or ".join(FAMILIES)
    _require_directory(name)
    try:
        with _reading(pretrained):
            config = AutoConfig.from_pretrained(name, trust_remote_code=pretrained.trust_remote_code)
    except ValueError as error:
        if isinstance(error, Fault):
            raise
        rule = f"have a model_type that is known, {families}"
        raise Fault(_NAME, rule, name, "choose a checkpoint of these families") from error
    if config.model_type not in FAMILIES:
        rule, remedy = f"be of the family {families}", "choose a checkpoint of these families"
        raise Fault(_NAME, rule, config.model_type, remedy)
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        remedy = "set use_sliding_window=false in its config.json, and system.window_size for a window"
        raise Fault(_NAME, "attend to everything in every layer", "use_sliding_window=true", remedy)
    return config


def _require_directory(name: str) -> None:
    """A name that can only be a path is not looked up anywhere else."""
    is_path = name.startswith((".", "/", "~")) or name.count("/") > 1 or Path(name).exists()
    if is_path and not (Path(name) / "config.json").is_file():
        remedy = "check the path; a checkpoint has config.json, tokenizer.json and *.safetensors"
        raise Fault(_NAME, "be a directory with config.json, or a hub id", name, remedy)


@contextmanager
def _reading(pretrained: PretrainedConfig) -> Iterator[None]:
    """Say of a checkpoint that cannot be read what to do about it."""
    name = str(pretrained.model_name_or_path)
    try:
        yield
    except OSError as error:
        if Path(name).is_dir():
            rule = "hold a readable config.json and weights as *.safetensors"
            raise Fault(_NAME, rule, name, "download it again, or convert its weights") from error
        remedy = (
            "check its spelling; without network download it elsewhere "
            f"(hf download {name} --local-dir DIR) and name the directory"
        )
        raise Fault(_NAME, "be a hub id that can be reached or lies in the cache", name, remedy) from error


def _placement(pretrained: PretrainedConfig, system: SystemConfig) -> dict[str, Any]:
    """Return where accelerate puts the weights; nothing where one device takes them all."""
    if pretrained.device_map is not None or system.cpu_offload:
        return {"device_map": pretrained.device_map or "auto"}
    return {"device_map": {"": str(_device(system))}} if pretrained.quantized else {}


def _quantization(pretrained: PretrainedConfig, system: SystemConfig, config: Any) -> dict[str, Any]:
    if not pretrained.quantized:
        return {}
    from transformers import BitsAndBytesConfig

    asked = pretrained.torch_dtype
    computed = getattr(config, "dtype", None) if asked == "auto" else getattr(torch, asked)
    quantization = BitsAndBytesConfig(
        load_in_4bit=pretrained.load_in_4bit,
        load_in_8bit=pretrained.load_in_8bit,
        bnb_4bit_compute_dtype=computed,
        bnb_4bit_quant_type="nf4",  # made for normal weights, where fp4 is not (Dettmers et al. 2023)
        llm_int8_enable_fp32_cpu_offload=system.cpu_offload,
    )
    return {"quantization_config": quantization}


def _device(system: SystemConfig) -> torch.device:
    return resolve_device(ExecutionConfig(device=system.device))
