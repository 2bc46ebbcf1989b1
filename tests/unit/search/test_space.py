import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from finscale.core.errors import FinscaleError
from finscale.search.bound_space import BoundSpace
from finscale.search.config import SearchConfig
from finscale.search.space import SearchSpace


def bound(space: dict, family: str = "patchtst", **given: object) -> BoundSpace:
    return SearchSpace.read(space, subject="hpo.space").bind(family, given=given)


def faults_of(space: dict, family: str = "patchtst", **given: object) -> str:
    with pytest.raises(FinscaleError) as caught:
        bound(space, family, **given)
    return str(caught.value)


def test_the_default_space_is_the_published_one() -> None:
    assert list(bound({}).distributions().items()) == [
        ("learning_rate", FloatDistribution(1e-4, 1e-3, log=True)),
        ("epochs", CategoricalDistribution((50, 75, 100))),
        ("weight_decay", FloatDistribution(1e-4, 5e-3, log=True)),
        ("warmup_steps", CategoricalDistribution((100, 200, 300, 500))),
        ("dropout", FloatDistribution(0.1, 0.3)),
    ]


def test_null_leaves_a_published_dimension_out_and_a_linked_list_replaces_it() -> None:
    linked = [{"epochs": [5, 10], "learning_rate": [1e-3, 1e-4]}]
    found = bound({"dropout": None, "linked": linked})
    assert set(found.training_dimensions) == {"weight_decay", "warmup_steps"}
    assert set(found.training_names) == {"weight_decay", "warmup_steps", "epochs", "learning_rate"}


def test_every_dimension_belongs_to_the_training_or_to_the_row() -> None:
    space = {
        "clip_norm": {"choices": [0.5, None]},
        "pooling": {"choices": ["mean", "last"]},
        "n_layers": {"low": 2, "high": 4},
        "context_length": {"choices": [30, 60]},
        "features": {"choices": [["a", "b"], ["a"]]},
        "linked": [
            {"d_model": [64, 128], "learning_rate": [1e-3, 1e-4]},
            {"epochs": [5, 10], "warmup_steps": [5, 9]},
        ],
    }
    found = bound(space)
    assert set(found.training_dimensions) == {"clip_norm", "weight_decay", "dropout"}
    assert set(found.row_dimensions) == {"pooling", "n_layers", "context_length", "features"}
    assert found.row_values["n_layers"] == (2, 3, 4)
    assert ([group.name for group in found.row_groups], list(found.training_groups)) == (
        ["linked_0"],
        ["linked_1"],
    )
    assert found.free["linked_1"] == IntDistribution(0, 1)
    assert found.distributions()["learning_rate"] == CategoricalDistribution((1e-3, 1e-4))


def test_choices_are_read_as_their_config_reads_them() -> None:
    found = bound({"epochs": {"choices": [50.0, "75"]}, "betas": {"choices": [[0.9, 0.95], None]}})
    assert found.free["epochs"] == CategoricalDistribution((50, 75))
    assert found.free["betas"] == CategoricalDistribution(("0.9 0.95", None))


FAULTY = {
    "hpo.space.warmup_stepz must be a known dimension, .*did you mean 'warmup_steps'": {
        "warmup_stepz": {"choices": [1]}
    },
    "hpo.space.rope_base must be a setting that patchtst reads.*model_family: transformer": {
        "rope_base": {"choices": [500]}
    },
    "hpo.space.head must be left out: the task says it": {"head": {"choices": ["logits"]}},
    "hpo.space.epochs must have at least one choice": {"epochs": {"choices": []}},
    "hpo.space.weight_decay must have low < high": {"weight_decay": {"low": 5e-3, "high": 1e-4}},
    r"hpo.space.learning_rate must .*be greater than 0": {"learning_rate": {"low": 0, "high": 1e-3}},
    "hpo.space.dropout must be less than 1": {"dropout": {"low": 0.1, "high": 1.0}},
    "hpo.space.patience must hold whole numbers": {"patience": {"low": 1, "high": 4, "step": 1.5}},
    "hpo.space.optimizer must be 'adamw', 'adam'": {"optimizer": {"choices": ["adamw", "sdg"]}},
    "hpo.space.head_dropout must be finite": {"head_dropout": {"low": 0.1, "high": 0.2}},
    "hpo.space.norm.when must name what a candidate row decides": {
        "norm": {"choices": ["layer_norm"], "when": {"schedule": "cosine"}},
        "schedule": {"choices": ["cosine", "linear"]},
    },
    "hpo.space.min_delta.when must name another dimension of the space, got 'optimiser'": {
        "min_delta": {"choices": [0.1], "when": {"optimiser": "sgd"}}
    },
    "hpo.space.nesterov.when must be among momentum's choices": {
        "nesterov": {"choices": [True], "when": {"momentum": [0.5, 0.7]}},
        "momentum": {"choices": [0.5, 0.9]},
    },
    "hpo.space.focal_gamma.when must name a dimension with choices": {
        "focal_gamma": {"choices": [1.0], "when": {"label_smoothing": 0.1}},
        "label_smoothing": {"low": 0.0, "high": 0.1},
    },
    "hpo.space must have conditions without a cycle, got .*flat_epochs": {
        "flat_epochs": {"choices": [1], "when": {"decay_per_epoch": 0.5}},
        "decay_per_epoch": {"choices": [0.5], "when": {"flat_epochs": 1}},
    },
    "hpo.space.warmup_steps must be drawn for every trial": {
        "warmup_steps": {"choices": [5], "when": {"patch_length": 5}},
        "patch_length": {"choices": [5, 10]},
    },
}
GROUPS = {
    "linked must tie lists of one length, got d_model has 2, n_heads has 3": {
        "d_model": [64, 128],
        "n_heads": [2, 4, 8],
    },
    "linked must tie at least two lists": {"d_ff": [64, 128]},
    "linked must list each combination once": {"stride": [2, 2], "pad_end": [True, True]},
    r"linked.clip_norm must be greater than 0": {"clip_norm": [0, 1], "effective_batch_size": [32, 64]},
}


@settings(deadline=None)
@given(st.sets(st.sampled_from(sorted(FAULTY))), st.sets(st.sampled_from(sorted(GROUPS))))
def test_every_fault_of_a_space_is_reported_at_once(broken: set[str], ties: set[str]) -> None:
    space = {name: written for rule in sorted(broken) for name, written in FAULTY[rule].items()}
    linked = [GROUPS[rule] for rule in sorted(ties)]
    n_faults = len(broken) + len(ties)
    if n_faults == 0:
        bound({**space, "linked": linked})
        return
    message = faults_of({**space, "linked": linked})
    lines = message.splitlines()[1:] if n_faults > 1 else [message]
    assert len(lines) == n_faults
    for rule in broken | ties:
        assert len([line for line in lines if re.search(rule, line)]) == 1


def test_a_name_belongs_to_the_space_once() -> None:
    twice = {"epochs": {"choices": [1]}, "linked": [{"epochs": [1, 2], "patience": [1, 2]}]}
    assert "hpo.space.epochs must be in the space once" in faults_of(twice)
    groups = [{"patience": [1, 2], "d_model": [64, 128]}, {"patience": [3, 4], "n_layers": [2, 3]}]
    assert "hpo.space.patience must be in the space once" in faults_of({"linked": groups})


def test_what_a_training_needs_is_searched_or_given_and_never_both() -> None:
    assert "hpo.space.epochs must be searched or given" in faults_of({"epochs": None})
    assert bound({"epochs": None}, epochs=5).training_names[0] == "learning_rate"
    assert "training.epochs must not be searched as well, got 5" in faults_of({}, epochs=5)
    searched = {"patience": {"choices": [5, 10]}}
    assert "training.patience must not be searched as well, got 3" in faults_of(searched, patience=3)
    linked = {"linked": [{"patience": [5, 10], "min_delta": [0.1, 0.2]}]}
    assert "training.patience must not be searched as well, got 3" in faults_of(linked, patience=3)


def test_a_shared_setting_at_its_default_gives_way_to_the_space() -> None:
    assert "patience" in bound({"patience": {"choices": [5, 20]}}, patience=10).training_names


def test_a_misspelt_key_of_a_dimension_is_answered_with_the_right_one() -> None:
    assert "hpo.space.epochs.chioces must be a known key" in faults_of({"epochs": {"chioces": [1]}})
    assert "did you mean 'choices'" in faults_of({"epochs": {"chioces": [1]}})


def test_families_have_their_own_row_dimensions() -> None:
    space = {"rope_base": {"choices": [500, 10_000]}, "attention": {"choices": ["mha", "mqa"]}}
    assert set(bound(space, "transformer").row_dimensions) == {"rope_base", "attention"}
    assert "patch_length must be a setting that transformer reads" in faults_of(
        {"patch_length": {"choices": [5]}}, "transformer"
    )
    assert set(bound({"time2vec": {"choices": [True, False]}}, "migt_tvdt").row_dimensions) == {"time2vec"}
    assert "hpo.space.session_bars must be a known dimension" in faults_of(
        {"session_bars": {"choices": [78, 288]}}, "migt_tvdt"
    )


def test_the_examples_of_the_guide_are_sound() -> None:
    page = Path(__file__).parents[3] / "docs" / "how-to" / "search_space.md"
    examples = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    read = [SearchConfig.read(yaml.safe_load(example)["hpo"], subject="hpo") for example in examples]
    assert [len(config.space.bind("patchtst").free) for config in read] == [5, 6, 5, 8, 6]
    assert read[0].space == SearchSpace()
