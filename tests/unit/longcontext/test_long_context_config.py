"""Blocks: what stands in conf is read whole, and what cannot work is refused with its numbers."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from finscale.core.config import leaves_of
from finscale.core.errors import Fault, FinscaleError
from finscale.longcontext.config import LongContextConfig, read_block
from finscale.longcontext.decoder_config import SymbolConfig

CONF = Path(__file__).parents[3] / "conf" / "base" / "parameters_long_context_eval.yml"
FAULTY = """
experiment_nam: x
model: {d_model: 64, n_heads: 4, n_layers: 1, d_ff: 64, attracter: 1}
variants: {rope: {positions: ropes}, none: {positions: none}, alibi: {positions: alibi}}
symbols: {n_keys: 1}
training: {n_step: 3, lengths: [64]}
evaluation: {n_samples: 2, lengths: [64], benchmarks: [needl]}
"""
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


def test_a_block_goes_to_yaml_and_comes_back_as_it_was(blocks: dict[str, Any], tmp_path: Path) -> None:
    for name in blocks:
        config, file = LongContextConfig.from_yaml(CONF, name), tmp_path / f"{name}.yml"
        assert config == read_block(name, blocks)
        file.write_text(config.to_yaml(), encoding="utf-8")
        for source in (file, str(file), config.to_yaml()):
            again = LongContextConfig.from_yaml(source)
            assert again == config
            assert again.settings == config.settings
            assert again.to_yaml() == config.to_yaml()


def test_a_block_is_found_alone_or_by_its_name(blocks: dict[str, Any]) -> None:
    alone, smoke = yaml.safe_dump({"mine": blocks["cpu_smoke"]}), read_block("cpu_smoke", blocks)
    listed = yaml.safe_dump({"long_context_blocks": {"mine": blocks["cpu_smoke"]}})
    assert LongContextConfig.from_yaml(alone, "mine") == LongContextConfig.from_yaml(listed) == smoke
    with pytest.raises(Fault, match=r"name must be a block of .*, got 'cpu_smke'; did you mean 'cpu_smoke'"):
        LongContextConfig.from_yaml(CONF, "cpu_smke")
    with pytest.raises(Fault, match=r"name must be given for the blocks of .*; use one of: .*cpu_demo"):
        LongContextConfig.from_yaml(str(CONF))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.yml", r"nowhere\.yml must be a readable UTF-8 file, got No such file"),
        ("a: [", r"the text must be valid YAML, got while parsing"),
        ("cpu_demo", r"the text must be a mapping of settings, got 'str'"),
    ],
)
def test_what_is_no_block_is_refused(source: str, message: str) -> None:
    with pytest.raises(Fault, match=message):
        LongContextConfig.from_yaml(source)


def test_every_fault_of_a_file_is_told_at_once_and_once() -> None:
    with pytest.raises(FinscaleError) as caught:
        LongContextConfig.from_yaml(FAULTY)
    said = str(caught.value)
    assert said.startswith("8 faults:")
    assert "experiment_nam must be a known key, got 'x'; did you mean 'experiment_name'?" in said
    assert "experiment_name must be given" in said
    assert "n_keys must be at least n_active=8, got 1" in said
    assert "training.n_step must be a known key, got 3; did you mean 'n_steps'?" in said
    assert "training.n_steps must be given" in said
    assert "evaluation.benchmarks must be known tasks, got 'needl'; did you mean 'needle'?" in said
    # of the three modes that have it from the model
    assert said.count("model.attracter must be a known key, got 1; did you mean 'attractor'?") == 1
    assert "variants.rope.positions must" in said


def test_faults_of_modes_stand_beside_those_of_lengths() -> None:
    block = yaml.safe_load(FAULTY) | {"experiment_name": "x", "symbols": {}}
    del block["experiment_nam"]
    block |= {"training": {"n_steps": 1, "lengths": [65]}, "evaluation": {"n_samples": 1, "lengths": [64]}}
    with pytest.raises(FinscaleError) as caught:
        LongContextConfig.read(block)
    assert str(caught.value).startswith("3 faults:")
    assert all(name in str(caught.value) for name in ("training.lengths", "attracter", "rope.positions"))


def test_a_changed_copy_is_checked_when_it_is_asked_to_be(smoke: LongContextConfig) -> None:
    assert smoke.validate() == LongContextConfig.validate(smoke) == smoke
    changed = smoke.model_copy(update={"seeds": (), "variants": {"rope": {"positions": "ropes"}}})
    with pytest.raises(FinscaleError) as caught:
        changed.validate()
    assert "seeds" in str(caught.value)
    assert "rope.positions" in str(caught.value)


def test_names_of_several_tasks_are_read(blocks: dict[str, Any]) -> None:
    block = deepcopy(blocks["base"])
    block["evaluation"]["benchmarks"] = ["multi_hop", "aggregation", "needle"]
    tasks = read_block("base", {"base": block}).evaluation.tasks
    assert tasks == ("variable_tracking", "common_words", "frequent_words", "needle")
