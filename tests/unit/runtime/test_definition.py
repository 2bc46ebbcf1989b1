"""The model of a run: its family from the experiment, its settings from conf, all faults of both at once."""

from typing import Any

import pytest

from finscale.archgrid.batching import split_batch
from finscale.core.budgets import Cell
from finscale.core.errors import FinscaleError
from finscale.models.config import DLinearConfig
from finscale.runtime.definition import resolve
from finscale.training.config import TrainingConfig
from finscale.training.run_spec import Provenance, RunSpec, plan_run
from finscale.windows.experiment import ExperimentConfig

SMALL = {"experiment_name": "s", "pretrained": {}, "evaluation": {"lengths": [64], "n_samples": 1}}


def parameters(family: str = "patchtst", **model: Any) -> dict[str, Any]:
    return {
        "experiment": "asked",
        "budget": "20K",
        "horizon": 1,
        "long_context": "small",
        "long_context_blocks": {"small": SMALL},
        "experiments": {"asked": {"title": "t", "model_family": family}},
        "feature_sets": {"a25": ["close"]},
        "paths": {"data": "data"},
        "sweep": {"budgets": ["20K"], "horizons": [1]},
        "model": model,
    }


def resolved(family: str = "patchtst", **model: Any) -> dict[str, Any]:
    return resolve(parameters(family, **model), sources=None)["model"]


def faults(family: str = "patchtst", **model: Any) -> str:
    with pytest.raises(FinscaleError) as raised:
        resolved(family, **model)
    return str(raised.value)


def test_the_length_of_a_session_is_the_windows_to_say() -> None:
    said = faults("migt_tvdt", migt_tvdt={"session_bars": 78})
    assert "model.migt_tvdt.session_bars must be left out: the windows say it, got 78" in said
    assert resolved("migt_tvdt", migt_tvdt={"time2vec": True})["time2vec"]


BLOCKS = {"patchtst": {"stride": 2}, "transformer": {"positions": "rope", "rope_base": 500, "conv_taps": 0}}


def test_an_experiment_gets_the_settings_of_its_own_family() -> None:
    patchtst, transformer = (resolved(family, **BLOCKS) for family in BLOCKS)
    assert (patchtst["family"], patchtst["stride"]) == ("patchtst", 2)
    assert (transformer["family"], transformer["conv_taps"]) == ("transformer", 0)
    assert transformer["positions"] == {"kind": "rope", "base": 500}


@pytest.mark.parametrize("family", ["patchtst", "transformer"])
def test_every_fault_of_every_block_is_listed_at_once_whichever_family_runs(family: str) -> None:
    said = faults(
        family,
        patchtst={"strid": 5, "dropout": 0.1, "d_model": 8},
        transformer={"head": {"kind": "logits"}, "family": "patchtst", "attention": "mqq"},
        transfomer={"causal": True},
    )
    assert said.startswith("7 faults:")
    assert said.count("model.transformer.family") == 1
    assert "model.patchtst.strid must be a known key, got 5; did you mean 'stride'?" in said
    assert "model.patchtst.dropout must be left out: hpo.space.dropout searches it" in said
    assert "model.patchtst.d_model must be left out: the grid lists it, got 8" in said
    assert "model.transformer.head must be left out: the task says it" in said
    assert "model.transformer.family must be left out: the experiment's model_family says it" in said
    assert "model.transformer.attention must be 'mha', 'mqa' or 'gqa', got 'mqq'" in said
    assert "model.transfomer must be the settings of a family" in said
    assert "did you mean 'transformer'?" in said


def test_settings_that_only_wider_architectures_accept_are_no_fault() -> None:
    grouped = resolved("transformer", transformer={"attention": "gqa", "n_kv_heads": 8})
    assert grouped["n_heads"] % 8 == 0
    said = faults("transformer", transformer={"attention": "gqa", "n_kv_heads": 7})
    assert "n_kv_heads must divide n_heads under attention=gqa, got n_kv_heads=7, n_heads=2" in said


@pytest.mark.parametrize("family", ["dlinear", "naive"])
def test_an_experiment_of_a_family_without_a_grid_is_told_how_to_train_it(family: str) -> None:
    said = faults(family)
    rule = "be patchtst or transformer or migt_tvdt, which have a grid of architectures"
    assert f"experiments.asked.model_family must {rule}" in said
    assert f"got '{family}'" in said
    assert "run_spec=<path>" in said
    assert "did you mean 'transformer'" in faults("transfomer")


def test_a_run_spec_brings_the_model_that_will_be_trained() -> None:
    found = resolve(parameters(**BLOCKS), sources=None, run_spec=dlinear_spec())
    assert found["definition"]["model_family"] == "dlinear"
    assert found["model"] == dlinear_spec().model.model_dump(mode="json")


def dlinear_spec() -> RunSpec:
    return plan_run(
        DLinearConfig(average_bars=5),
        TrainingConfig(learning_rate=1e-3, epochs=1, weight_decay=0.0, warmup_steps=1),
        experiment=ExperimentConfig(name="asked", title="t", model_family="dlinear"),
        cell=Cell.parse("5K", 1),
        n_features=1,
        batch=split_batch(128, effective_batch_size=128),
        seed=1,
        provenance=Provenance(data_hash="d"),
    )


def test_a_faulty_dimension_is_told_beside_another_fault_of_the_search() -> None:
    hpo = {"n_trials": 0, "space": {"learning_rat": {"low": 1e-4, "high": 1e-3}}}
    with pytest.raises(FinscaleError) as raised:
        resolve({**parameters(), "hpo": hpo}, sources=None)
    assert "hpo.n_trials" in str(raised.value)
    assert "did you mean 'learning_rate'" in str(raised.value)


def test_a_faulty_block_is_told_beside_the_other_faults_and_before_anything_runs():
    blocks = {"small": {**SMALL, "evaluation": {"lengths": [64], "n_sample": 1}}}
    with pytest.raises(FinscaleError) as raised:
        resolve({**parameters(), "horizon": 0, "long_context_blocks": blocks}, sources=None)
    assert "horizon" in str(raised.value)
    key = "long_context_blocks.small.evaluation.n_sample"
    assert f"{key} must be a known key, got 1; did you mean 'n_samples'?" in str(raised.value)
    with pytest.raises(FinscaleError, match="ablation_value must be left out of a block without an ablation"):
        resolve({**parameters(), "ablation_value": "pi"}, sources=None)
