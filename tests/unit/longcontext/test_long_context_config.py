"""Blocks: what stands in conf is read whole, and what cannot work is refused with its numbers."""

from copy import deepcopy
from typing import Any

import pytest

from finscale.core.config import leaves_of
from finscale.core.errors import FinscaleError
from finscale.longcontext.config import LongContextConfig, read_block
from finscale.longcontext.decoder_config import SymbolConfig

BLOCKS = {
    *("base", "qwen_1.5b_pi_spiral", "llama_8b_pi_spiral", "llama_34b_pi_spiral"),
    *("baseline_rope", "baseline_rope_ntk", "baseline_alibi", "phase2_sanity"),
    *("ablation_irrational", "ablation_attractor", "ablation_alpha_policy", "ablation_hybrid_k"),
    *("cpu_demo", "cpu_demo_attractor", "cpu_smoke"),
}


def changed(blocks: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    copy = deepcopy(blocks["cpu_demo"])
    *parents, last = path.split(".")
    place = copy
    for name in parents:
        place = place[name]
    place[last] = value
    return {"cpu_demo": copy}


def test_every_block_in_conf_is_valid(blocks: dict[str, Any]) -> None:
    assert set(blocks) == BLOCKS
    assert all(isinstance(read_block(name, blocks), LongContextConfig) for name in blocks)


def test_the_demo_is_the_published_recipe(demo: LongContextConfig) -> None:
    assert demo.symbols == SymbolConfig(n_keys=32, n_values=32, n_noise=16, n_active=8, n_overwrites=4)
    assert [demo.model[name] for name in ("n_layers", "d_model", "n_heads", "d_ff")] == [2, 64, 4, 128]
    assert (demo.training.learning_rate, demo.training.tokens_per_step) == (5e-3, 4096)
    assert demo.transformer("none").positions.kind == "none"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("variants", {"rope": {"positions": "rope"}}, r"variants must hold the mode none"),
        ("variants.rope", {"positions": "ropes"}, r"variants\.rope\.positions"),
        ("read_as.yarn.weights_of", "rop", r"read_as\.yarn must read the weights .* did you mean 'rope'"),
        ("streaming.modes", ["ropes"], r"streaming\.modes must be modes of the block, got 'ropes'"),
        ("evaluation.benchmarks", ["passkey"], r"benchmarks must be tasks for decoders trained here"),
        ("evaluation.benchmarks", ["needl"], r"benchmarks must be known tasks, got 'needl'"),
        ("pretrained", {"model_name_or_path": "x"}, r"symbols must be left out for a pretrained model"),
        ("symbols", None, r"symbols must be given for decoders trained here"),
        ("model.n_heads", 5, r"n_heads must divide d_model, got n_heads=5, d_model=64"),
        ("model.attracter", True, r"attracter must be a known key"),
        ("training.mix", {"dense": 0.9}, r"sum to 1, got \(0\.9, 0\.35, 0\.3\)"),
        ("training.lengths", [64, 54], r"training\.lengths must be even, from 56 .* to 4096 .*got \[54\]"),
        ("training.lengths", [65], r"training\.lengths must be even"),
        ("training.lengths", [8192], r"training\.lengths must be even, from 56"),
        ("training.lengths", [], r"training\.lengths must .*got 'none'"),
        ("evaluation.lengths", [257], r"evaluation\.lengths must be even"),
        ("evaluation.lengths", [22], r"hold 11 writes, 4 of them up to depth 0\.1, got \[22\]"),
        ("evaluation.depths", [0.0], r"4 of them up to depth 0\.0"),
        ("evaluation.depths", [1.5], r"evaluation\.depths"),
        ("symbols.n_values", 19, r"n_values must be at least 20, one per write of a sample, got 19"),
        ("symbols.n_keys", 7, r"n_keys must be at least n_active=8, got 7"),
        ("seeds", [], r"seeds"),
    ],
)
def test_what_cannot_work_is_refused_with_its_numbers(
    blocks: dict[str, Any], path: str, value: Any, message: str
) -> None:
    with pytest.raises(FinscaleError, match=message):
        read_block("cpu_demo", changed(blocks, path, value))


def test_a_mistyped_block_is_answered_with_the_nearest_one(blocks: dict[str, Any]) -> None:
    with pytest.raises(FinscaleError, match=r"long_context must name a block, got 'cpu_dmo'; did you mean"):
        read_block("cpu_dmo", blocks)


def test_the_number_of_rows_is_known_beforehand(demo: LongContextConfig) -> None:
    assert demo.n_rows == (2 * 5 * 5 + 3 * 4) * 9 * 3


def test_an_ablation_changes_one_setting_and_nothing_else(blocks: dict[str, Any]) -> None:
    for name in (name for name in blocks if name.startswith("ablation_")):
        config = read_block(name, blocks)
        setting = config.ablation.setting
        shown = [config.settings[mode] for mode in config.ablation.values]
        changed = {key for one in shown for other in shown for key in differing(one, other)}
        assert changed
        assert all(key == setting or key.startswith(f"{setting}.") for key in changed)


def differing(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    first, second = (dict(leaves_of(settings, "")) for settings in (one, other))
    return {key for key in {**first, **second} if first.get(key) != second.get(key)}


def test_one_value_of_an_ablation_can_run_alone(blocks: dict[str, Any]) -> None:
    config = read_block("ablation_irrational", blocks, value="pi")
    assert config.modes == ("none", "pi")
    assert config.settings["pi"] == read_block("ablation_irrational", blocks).settings["pi"]
    with pytest.raises(FinscaleError, match=r"ablation_value must be a value of the ablation, got 'pie'"):
        read_block("ablation_irrational", blocks, value="pie")
    with pytest.raises(FinscaleError, match=r"ablation_value must be left out of a block without"):
        read_block("cpu_demo", blocks, value="pi")


def test_a_task_is_not_asked_beyond_its_longest(blocks: dict[str, Any]) -> None:
    config = read_block("qwen_1.5b_pi_spiral", blocks)
    longest = {}
    for task, length, _ in config.evaluation.places():
        longest[task] = max(length, longest.get(task, 0))
    assert longest["needle"] == longest["latest"] == 1_048_576
    assert longest["multi_key"] == longest["common_words"] == longest["passkey"] == 262_144


def test_names_of_several_tasks_are_read(blocks: dict[str, Any]) -> None:
    block = deepcopy(blocks["base"])
    block["evaluation"]["benchmarks"] = ["multi_hop", "aggregation", "needle"]
    tasks = read_block("base", {"base": block}).evaluation.tasks
    assert tasks == ("variable_tracking", "common_words", "frequent_words", "needle")
