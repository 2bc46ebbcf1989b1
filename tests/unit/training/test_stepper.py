"""A step does what the batch configuration says, and says what it did."""

from collections.abc import Callable

import torch

from finscale.training.config import ExecutionConfig
from finscale.training.run_spec import RunSpec
from finscale.training.stepper import Stepper
from finscale.windows.data import WindowData


def test_activation_checkpointing_is_applied_recorded_and_changes_no_number(
    make_data: Callable[..., WindowData], make_spec: Callable[..., RunSpec]
) -> None:
    data, execution, device = make_data(), ExecutionConfig(device="cpu"), torch.device("cpu")
    spec = make_spec(data)
    steppers = [
        Stepper(
            spec.model_copy(
                update={"batch": spec.batch.model_copy(update={"activation_checkpointing": active})}
            ),
            data,
            execution=execution,
            device=device,
        )
        for active in (False, True)
    ]
    origins = torch.from_numpy(data.origins["train"][:16])
    losses = [stepper.update(origins) for stepper in steppers]
    assert [stepper.model.blocks.checkpoint for stepper in steppers] == [False, True]
    assert [stepper.batch.activation_checkpointing for stepper in steppers] == [False, True]
    assert torch.equal(*losses)
    plain, again = (stepper.model.state_dict() for stepper in steppers)
    assert all(torch.equal(tensor, again[name]) for name, tensor in plain.items())
