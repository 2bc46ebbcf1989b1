import signal

import pytest

from finscale.core.errors import FinscaleError
from finscale.search.outcomes import TrialOutcome, of_dead_process, of_exception, read_outcome


class OutOfMemoryError(RuntimeError):
    """Named as torch's is."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes"),
    ],
)
def test_every_allocators_complaint_is_an_oom(error: Exception) -> None:
    assert of_exception(error).outcome == "oom"


def test_any_other_exception_is_a_failure_with_its_reason() -> None:
    outcome = of_exception(RuntimeError("shapes do not\n  match"))
    assert (outcome.outcome, outcome.reason) == ("failed", "RuntimeError: shapes do not match")


def test_a_kill_that_we_did_not_send_is_the_memory_killers() -> None:
    assert of_dead_process(-signal.SIGKILL).outcome == "oom"
    assert "SIGSEGV" in of_dead_process(-signal.SIGSEGV).reason
    assert of_dead_process(3).reason == "the process ended with code 3 and no outcome"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), None])
def test_a_complete_trial_without_a_finite_value_has_diverged(value: float | None) -> None:
    assert read_outcome({"outcome": "complete", "value": value}).outcome == "diverged"
    with pytest.raises(ValueError, match="finite value"):
        TrialOutcome(outcome="complete", value=value)


def test_an_outcome_of_another_kind_is_refused() -> None:
    with pytest.raises(FinscaleError, match=r"outcome\.outcome must"):
        read_outcome({"outcome": "fine"})
