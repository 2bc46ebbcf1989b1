"""PatchTST against Hugging Face's, weight by weight; the published form without its residual attention.

With mixed channels ours reads one patch of all F features, which is theirs over one channel of length T F,
cut into patches of p F values every s F. Theirs has no norm after the last block.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from finscale.models.config import PatchTSTConfig
from finscale.models.patchtst import PatchTST
from finscale.models.registry import build_model

transformers = pytest.importorskip("transformers")

B, T, F, D, L = 3, 30, 4, 16, 3
FORMS: dict[str, dict[str, Any]] = {
    "mixed": {"channels": "mixed"},
    "independent": {"channels": "independent"},
    "published": {"channels": "independent", "norm": "batch_norm", "norm_first": False},
}
BLOCK = {
    "attention.output": "self_attn.out_proj",
    "feed_forward.up": "ff.0",
    "feed_forward.down": "ff.3",
    "attention_norm": "norm_sublayer1",
    "feed_forward_norm": "norm_sublayer3",
}


def ours_of(dtype: torch.dtype, **options: Any) -> PatchTST:
    shape = {"d_model": D, "n_layers": L, "n_heads": 4, "d_ff": 40, "patch_length": 10, "stride": 5}
    config = PatchTSTConfig(**shape, dropout=0.0, **options)
    model = build_model(config, n_features=F, context_length=T, seed=3)
    generator = torch.Generator().manual_seed(8)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    assert isinstance(model, PatchTST)
    return model.to(dtype)


def theirs_of(model: PatchTST, dtype: torch.dtype) -> torch.nn.Module:
    config, width = model.config, F if model.config.channels == "mixed" else 1
    other = transformers.PatchTSTModel(
        transformers.PatchTSTConfig(
            num_input_channels=F // width,
            context_length=T * width,
            patch_length=config.patch_length * width,
            patch_stride=config.stride * width,
            d_model=config.d_model,
            num_hidden_layers=config.n_layers,
            num_attention_heads=config.n_heads,
            ffn_dim=config.d_ff,
            norm_type=config.norm.replace("_", ""),
            pre_norm=config.norm_first,
            positional_encoding_type="random",
            scaling=False,
            do_mask_input=False,
            use_cls_token=False,
        )
    ).to(dtype)
    weights = renamed(model, {name: p.detach() for name, p in model.named_parameters()})
    assert weights.keys() == {name for name, _ in other.named_parameters()}
    other.load_state_dict(weights, strict=False)
    return other


def renamed(model: PatchTST, ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our parameters, or their gradients, under Hugging Face's names."""
    embedding, inner = "encoder.embedder.input_embedding", ".batchnorm" * (model.config.norm == "batch_norm")
    theirs = {"encoder.positional_encoder.position_enc": ours["positions.table"]}
    for kind in ("weight", "bias"):
        theirs[f"{embedding}.{kind}"] = ours[f"embedding.linear.{kind}"]
        for layer in range(L):
            its, mine = f"encoder.layers.{layer}", f"blocks.{layer}"
            parts = ours[f"{mine}.attention.query_key_value.{kind}"].split(D)
            for letter, part in zip("qkv", parts, strict=True):
                theirs[f"{its}.self_attn.{letter}_proj.{kind}"] = part
            for name, other in BLOCK.items():
                batch_norm = inner if "norm" in other else ""
                theirs[f"{its}.{other}{batch_norm}.{kind}"] = ours[f"{mine}.{name}.{kind}"]
    return theirs


def both(form: str, dtype: torch.dtype) -> tuple[PatchTST, torch.nn.Module, Tensor, Tensor]:
    """Both models while training, and their tokens (sequences, patches, D) of the same windows."""
    ours = ours_of(dtype, **FORMS[form])
    theirs = theirs_of(ours, dtype).train()
    x = torch.randn(B, T, F, dtype=dtype, generator=torch.Generator().manual_seed(1))
    read = x.reshape(B, -1, 1) if form == "mixed" else x
    return ours, theirs, ours.train().encode(x), theirs(read).last_hidden_state.flatten(0, 1)


@pytest.mark.parametrize("form", FORMS)
def test_the_encoder_equals_hugging_faces(form: str) -> None:
    *_, ours, theirs = both(form, torch.float32)
    assert (ours - theirs).abs().max() <= 1e-5


@pytest.mark.parametrize("form", FORMS)
def test_every_gradient_equals_hugging_faces(form: str) -> None:
    model, other, ours, theirs = both(form, torch.float64)
    upstream = torch.randn(ours.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    (ours * upstream).sum().backward()
    (theirs * upstream).sum().backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    expected = {name: p.grad for name, p in other.named_parameters()}
    for name, grad in renamed(model, grads).items():
        # softmax does not see a bias of keys, nor a norm over the batch the bias before it: those are zero
        assert (grad - expected[name]).norm() <= 1e-9 * expected[name].norm() + 1e-12, name
