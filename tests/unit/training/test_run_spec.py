import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from finscale.archgrid.batching import split_batch
from finscale.core.errors import Fault, FinscaleError
from finscale.training.run_spec import (
    RunSpec,
    check_data,
    fingerprint,
    plan_run,
    read_run_spec,
    write_run_spec,
)
from finscale.windows.data import WindowData
from finscale.windows.view import WindowView, view_windows

Specs = Callable[..., RunSpec]
Windows = Callable[..., WindowData]


@pytest.fixture
def spec(make_data: Windows, make_spec: Specs) -> RunSpec:
    made = make_spec(make_data(), learning_rate=1e-4)
    at = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    return made.model_copy(update={"provenance": made.provenance.model_copy(update={"created_at": at})})


@pytest.mark.parametrize("name", ["run_spec.json", "trial_0007.yaml", "trial_0007.yml"])
def test_a_written_specification_is_read_back_equal(name: str, spec: RunSpec, tmp_path: Path) -> None:
    write_run_spec(tmp_path / name, spec)
    assert read_run_spec(tmp_path / name) == spec


def test_yaml_by_hand_may_write_exponents_without_a_point(spec: RunSpec, tmp_path: Path) -> None:
    text = spec.to_yaml().replace("learning_rate: 0.0001", "learning_rate: 1e-4")
    assert "1e-4" in text
    (tmp_path / "a.yaml").write_text(text)
    assert read_run_spec(tmp_path / "a.yaml") == spec


def test_every_fault_of_a_specification_is_shown_at_once(spec: RunSpec, tmp_path: Path) -> None:
    values = spec.model_dump(mode="json")
    values["budget"] = "tiny"
    values["model"]["n_heads"] = 3
    values["training"]["epochss"] = values["training"].pop("epochs")
    (tmp_path / "a.json").write_text(json.dumps(values))
    with pytest.raises(FinscaleError) as caught:
        read_run_spec(tmp_path / "a.json")
    parts = (
        "budget must",
        "n_heads must divide d_model",
        "epochss must be a known key",
        "epochs must be given",
    )
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_yaml_cannot_execute_anything(tmp_path: Path) -> None:
    path, proof = tmp_path / "a.yaml", tmp_path / "proof"
    path.write_text(f"!!python/object/apply:os.mkdir ['{proof}']")
    with pytest.raises(Fault, match="valid JSON or YAML"):
        read_run_spec(path)
    assert not proof.exists()


@pytest.mark.parametrize("text", ["[1, 2]", "{", "\xff"])
def test_a_malformed_file_is_a_fault_that_names_it(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(Fault, match=r"a\.json must"):
        read_run_spec(path)
    with pytest.raises(Fault, match=r"missing\.json must be a readable file"):
        read_run_spec(tmp_path / "missing.json")


def test_budget_and_horizon_are_canonical(spec: RunSpec) -> None:
    values = {**spec.model_dump(), "budget": 2e6, "horizon": "3"}
    assert RunSpec.model_validate(values).cell.id == "2M_h3"


def test_the_two_statements_of_the_effective_batch_must_agree(spec: RunSpec) -> None:
    values = {**spec.model_dump(), "batch": split_batch(8, effective_batch_size=64).model_dump()}
    with pytest.raises(FinscaleError, match=r"effective_batch_size must equal .*=32, got 64"):
        RunSpec.read(values)


def test_the_fingerprint_ignores_caps_provenance_names_and_micro_batches(
    make_data: Windows, make_spec: Specs, spec: RunSpec
) -> None:
    plain = make_spec(make_data())
    twins = [
        make_spec(make_data(), max_steps=3, max_epochs=1),
        make_spec(make_data(), micro_batch_size=5),
        plain.model_copy(update={"provenance": spec.provenance, "budget": "10K"}),
    ]
    assert {fingerprint(twin) for twin in twins} == {fingerprint(plain)}


def test_the_fingerprint_changes_with_everything_that_decides_the_numbers(
    make_data: Windows, make_spec: Specs
) -> None:
    data = make_data()
    variants = [
        make_spec(data),
        make_spec(data, seed=2),
        make_spec(data, dropout=0.2),
        make_spec(data, d_model=16),
        make_spec(data, learning_rate=1e-4),
        make_spec(data, epochs=4),
        make_spec(data, weight_decay=0.5),
        make_spec(data, patience=3),
        make_spec(data, effective_batch_size=64),
        make_spec(make_data(seed=1)),
        make_spec(make_data(task="threshold_1pct")),
        make_spec(data, exact=True),
        make_spec(data, exact=True, micro_batch_size=5),
    ]
    assert len({fingerprint(variant) for variant in variants}) == len(variants)


def test_other_windows_are_refused_with_every_difference(make_data: Windows, spec: RunSpec) -> None:
    other = make_data(seed=9, task="threshold_1pct")
    with pytest.raises(FinscaleError) as caught:
        check_data(spec.model_copy(update={"horizon": 5}), other)
    assert all(f"run_spec.{name} must" in str(caught.value) for name in ("task", "horizon", "data_hash"))


def test_an_architecture_that_is_not_its_arch_id_is_refused(make_data: Windows, spec: RunSpec) -> None:
    wider = spec.model.model_copy(update={"d_ff": 32})
    with pytest.raises(FinscaleError, match=r"run_spec\.arch_id must"):
        check_data(spec.model_copy(update={"model": wider}), make_data())


def test_a_view_is_part_of_the_fingerprint_only_where_there_is_one(
    make_data: Windows, make_spec: Specs
) -> None:
    plain = make_spec(make_data())
    views = [WindowView(features=("a", "b")), WindowView(features=("a", "c")), WindowView(context_length=6)]
    viewed = [plain.model_copy(update={"view": view}) for view in views]
    assert len({fingerprint(spec) for spec in (plain, *viewed)}) == 1 + len(views)
    assert fingerprint(plain) == "74e1d718ffa6"


def test_the_architecture_of_a_view_is_counted_as_the_view_shows_it(
    make_data: Windows, make_spec: Specs, tmp_path: Path
) -> None:
    data, view = make_data(), WindowView(features=("c", "a"), context_length=6)
    plain = make_spec(data)
    spec = plan_run(
        plain.model,
        plain.training,
        experiment=plain.experiment,
        cell=plain.cell,
        n_features=data.n_features,
        batch=plain.batch,
        seed=plain.seed,
        view=view,
        provenance=plain.provenance,
    )
    alone = make_spec(view_windows(data, view))
    assert (spec.arch_id, spec.n_params) == (alone.arch_id, alone.n_params) != (plain.arch_id, plain.n_params)
    write_run_spec(tmp_path / "trial_0001.yaml", spec)
    assert read_run_spec(tmp_path / "trial_0001.yaml") == spec
    check_data(spec, view_windows(data, view))
    with pytest.raises(FinscaleError) as caught:
        check_data(spec, data)
    wrong = ("context_length", "view.features", "min_context_length", "arch_id")
    assert all(f"run_spec.{name} must" in str(caught.value) for name in wrong), str(caught.value)


def test_a_trial_file_is_plain_yaml(spec: RunSpec) -> None:
    assert yaml.safe_load(spec.to_yaml())["training"]["learning_rate"] == 1e-4
