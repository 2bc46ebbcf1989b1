"""Two providers of batch configurations behind one interface."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finscale.archgrid import probe
from finscale.archgrid.batching import (
    BatchConfig,
    BatchProvider,
    BatchRequest,
    choose_batch,
    measured_batch,
    split_batch,
    table_batch,
)
from finscale.archgrid.memory import predict_memory
from finscale.core.errors import Fault
from finscale.models.config import DLinearConfig, ModelConfig, PatchTSTConfig

SIZES = {"n_features": 3, "context_length": 24}
CONFIG = PatchTSTConfig(d_model=16, n_layers=2, n_heads=2, d_ff=32)


@given(micro=st.integers(1, 300), effective=st.integers(1, 300))
def test_a_split_covers_the_effective_batch_and_not_a_step_more(micro: int, effective: int) -> None:
    batch = split_batch(micro, effective_batch_size=effective)
    before_last = (batch.accumulation_steps - 1) * batch.micro_batch_size
    assert batch.effective_batch_size == effective
    assert before_last < effective <= before_last + batch.micro_batch_size
    assert batch.micro_batch_size <= micro


@pytest.mark.parametrize(("micro", "steps"), [(48, 2), (48, 4), (200, 1)])
def test_parts_that_do_not_make_the_whole_are_refused(micro: int, steps: int) -> None:
    fields = {"micro_batch_size": micro, "accumulation_steps": steps, "effective_batch_size": 128}
    with pytest.raises(Fault, match=f"got {steps} x {micro} for 128; use "):
        BatchConfig.read(fields)


@pytest.mark.parametrize(
    ("d_model", "n_layers", "micro", "steps"),
    [
        (128, 10, 128, 1),
        (1000, 49, 128, 1),
        (1000, 50, 64, 2),
        (1000, 199, 64, 2),
        (1000, 200, 32, 4),
        (1000, 500, 16, 8),
        (1000, 1000, 16, 8),
        (1000, 1001, 8, 16),
        (2048, 256, 8, 16),
    ],
)
def test_the_table_goes_by_the_memory_score(d_model: int, n_layers: int, micro: int, steps: int) -> None:
    batch = table_batch(d_model=d_model, n_layers=n_layers)
    assert (batch.micro_batch_size, batch.accumulation_steps, batch.effective_batch_size) == (
        micro,
        steps,
        128,
    )


def test_the_table_keeps_another_effective_batch_exactly() -> None:
    batch = choose_batch("table", CONFIG, **SIZES, effective_batch_size=48)
    assert (batch.micro_batch_size, batch.accumulation_steps, batch.effective_batch_size) == (48, 1, 48)


def test_an_unknown_provider_and_an_unknown_device_are_refused() -> None:
    with pytest.raises(
        Fault, match="batch provider must be a known one, got 'measurd'; did you mean 'measured'"
    ):
        choose_batch("measurd", CONFIG, **SIZES)
    with pytest.raises(Fault, match="device must be cpu, mps, cuda or cuda:<index>, got 'tpu'"):
        choose_batch("table", CONFIG, **SIZES, device="tpu")


class Device:
    """A device with ``n_bytes`` free on which steps above ``n_windows`` run out of memory.

    With activation checkpointing they do so above ``n_recomputed``.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        n_bytes: float,
        n_windows: float = 1e9,
        n_recomputed: float = 0,
    ) -> None:
        self.n_windows, self.n_recomputed = n_windows, n_recomputed
        self.steps, self.recomputed = list[int](), list[int]()
        monkeypatch.setattr(probe, "free_bytes", lambda device: n_bytes)
        monkeypatch.setattr(probe, "step_fits", self.step_fits)
        monkeypatch.setattr("finscale.archgrid.batching._measured", {})
        monkeypatch.setattr("finscale.archgrid.batching._free_at_first", {})
        monkeypatch.setattr("finscale.archgrid.batching._PLAINLY_SMALL", 0.0)

    def step_fits(self, request: BatchRequest, micro: int, *, activation_checkpointing: bool) -> bool:
        (self.recomputed if activation_checkpointing else self.steps).append(micro)
        return micro <= (self.n_recomputed if activation_checkpointing else self.n_windows)


def test_a_batch_that_fits_is_taken_whole_after_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, n_bytes=1e12)
    assert choose_batch("measured", CONFIG, **SIZES) == split_batch(128, effective_batch_size=128)
    assert device.steps == [128]


@pytest.mark.parametrize(
    ("device", "share", "steps"), [("cpu", 0.2, []), ("cpu", 0.3, [128]), ("cuda", 0.2, [128])]
)
def test_on_a_cpu_a_plainly_small_model_is_believed_without_a_step(
    monkeypatch: pytest.MonkeyPatch, device: str, share: float, steps: list[int]
) -> None:
    peak = predict_memory(CONFIG, **SIZES, micro_batch_size=128, device_type=device).total
    fake = Device(monkeypatch, n_bytes=peak / share)
    monkeypatch.setattr("finscale.archgrid.batching._PLAINLY_SMALL", 0.25)
    assert choose_batch("measured", CONFIG, **SIZES, device=device).micro_batch_size == 128
    assert fake.steps == steps


def test_what_is_predicted_not_to_fit_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    at_32 = predict_memory(CONFIG, **SIZES, micro_batch_size=32, device_type="cpu").total
    device = Device(monkeypatch, n_bytes=at_32 / 0.9 + 1)
    assert choose_batch("measured", CONFIG, **SIZES).micro_batch_size == 32
    assert device.steps == [32]


def test_each_of_several_trainings_has_an_even_share_of_what_was_free_before_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def needs(config: ModelConfig, micro: int) -> float:
        return predict_memory(config, **SIZES, micro_batch_size=micro, device_type="cpu").total / 0.9 + 1

    first, second, third = (CONFIG.model_copy(update={"n_layers": n}) for n in (2, 3, 4))
    Device(monkeypatch, n_bytes=4 * needs(second, 32))
    assert choose_batch("measured", second, **SIZES).micro_batch_size == 128
    assert choose_batch("measured", second, **SIZES, n_sharing=4).micro_batch_size == 32
    # that one now holds its share, which the others are not to share again
    monkeypatch.setattr(probe, "free_bytes", lambda device: 3 * needs(second, 32))
    assert choose_batch("measured", first, **SIZES, n_sharing=4).micro_batch_size == 32
    # but no more than is there
    monkeypatch.setattr(probe, "free_bytes", lambda device: needs(third, 8))
    assert choose_batch("measured", third, **SIZES, n_sharing=4).micro_batch_size == 8


def test_running_out_of_memory_halves_the_micro_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, n_bytes=1e12, n_windows=20)
    batch = choose_batch("measured", CONFIG, **SIZES, effective_batch_size=100)
    assert device.steps == [100, 50, 25, 12]
    assert (batch.micro_batch_size, batch.accumulation_steps) == (12, 9)


@pytest.mark.parametrize("limit", [{"n_bytes": 1000.0}, {"n_bytes": 1e12, "n_windows": 0}])
def test_a_model_of_which_not_one_window_fits_is_refused(
    monkeypatch: pytest.MonkeyPatch, limit: dict[str, float]
) -> None:
    Device(monkeypatch, **limit)
    with pytest.raises(
        Fault, match=r"model must fit cpu, got 0\.00 GiB predicted for one window and .* GiB free"
    ):
        choose_batch("measured", CONFIG, **SIZES)


def test_where_not_one_window_fits_blocks_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, n_bytes=1e12, n_windows=0, n_recomputed=40)
    batch = choose_batch("measured", CONFIG, **SIZES)
    assert (device.steps[-1], device.recomputed) == (1, [128, 64, 32])
    assert batch == split_batch(32, effective_batch_size=128, activation_checkpointing=True)
    assert batch.activation_checkpointing


def test_activation_checkpointing_is_left_alone_where_a_window_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, n_bytes=1e12, n_windows=1, n_recomputed=128)
    batch = choose_batch("measured", CONFIG, **SIZES)
    assert (batch.micro_batch_size, batch.activation_checkpointing, device.recomputed) == (1, False, [])


def test_the_memory_model_too_goes_on_with_activation_checkpointing(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = CONFIG.model_copy(update={"n_layers": 64})
    sizes = {**SIZES, "micro_batch_size": 1, "device_type": "cuda"}
    whole = predict_memory(deep, **sizes).total
    recomputed = predict_memory(deep, **sizes, activation_checkpointing=True).total
    device = Device(monkeypatch, n_bytes=(whole + recomputed) / 2 / 0.9, n_recomputed=128)
    batch = choose_batch("measured", deep, **SIZES, device="cuda")
    assert batch.activation_checkpointing
    assert device.steps == []


def test_a_model_without_blocks_has_nothing_to_compute_again(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, n_bytes=1e12, n_windows=0, n_recomputed=128)
    with pytest.raises(Fault, match="model must fit cpu"):
        choose_batch("measured", DLinearConfig(), **SIZES)
    assert device.recomputed == []


@pytest.mark.parametrize("provider", ["measured", "table"])
def test_either_provider_takes_a_model_without_blocks(
    monkeypatch: pytest.MonkeyPatch, provider: BatchProvider
) -> None:
    Device(monkeypatch, n_bytes=1e12)
    assert choose_batch(provider, DLinearConfig(), **SIZES) == split_batch(128, effective_batch_size=128)


def test_a_measurement_is_kept_for_the_same_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, n_bytes=1e12)
    request = BatchRequest(config=CONFIG, **SIZES)
    dropped_more = request.model_copy(update={"config": CONFIG.model_copy(update={"dropout": 0.4})})
    assert measured_batch(request) == measured_batch(request) == measured_batch(dropped_more)
    assert len(device.steps) == 1
    changes = [
        {"precision": "bf16"},
        {"effective_batch_size": 64},
        {"context_length": 25},
        {"n_features": 4},
        {"device": "cuda:1"},
        {"config": CONFIG.model_copy(update={"n_layers": 3})},
        {"config": CONFIG.model_copy(update={"dropout": 0.0})},
    ]
    for change in changes:
        measured_batch(request.model_copy(update=change))
    assert len(device.steps) == 1 + len(changes)
