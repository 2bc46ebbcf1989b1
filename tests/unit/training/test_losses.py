import numpy as np
import pytest
import torch

from finscale.core.errors import Fault
from finscale.metrics.probabilistic import pinball_rows
from finscale.models.contract import ModelOutput
from finscale.training.heads import HEADS
from finscale.training.losses import LOSSES, PREDICTIONS, answer_of, pinball
from finscale.training.scoring import SCORINGS
from finscale.windows.baselines import BASELINES


def _output(**prediction: torch.Tensor) -> ModelOutput:
    return ModelOutput(prediction=prediction, embedding=torch.zeros(5, 2))


def test_every_kind_of_task_has_a_loss_a_prediction_a_head_a_scoring_and_baselines() -> None:
    assert LOSSES.keys() == PREDICTIONS.keys() == HEADS.keys() == SCORINGS.keys() == BASELINES.keys()


def test_the_pinball_loss_is_that_of_the_metrics() -> None:
    random, levels = np.random.default_rng(0), (0.05, 0.5, 0.9)
    y, q = random.standard_normal(40), random.standard_normal((40, 3))
    found = pinball(torch.from_numpy(q), torch.from_numpy(y), torch.tensor(levels, dtype=torch.float64))
    np.testing.assert_allclose(found.numpy(), pinball_rows(y, q, levels), rtol=1e-12)


def test_an_answer_is_the_prediction_of_its_kind_in_the_shape_of_the_targets() -> None:
    logits, q = torch.randn(5, 1), torch.randn(5, 2, 3)
    assert torch.equal(answer_of(_output(logits=logits), "binary", torch.zeros(5)), logits[:, 0])
    assert torch.equal(answer_of(_output(quantiles=q), "quantile", torch.zeros(5, 2)), q)


def test_a_model_with_another_head_is_refused_and_not_broadcast() -> None:
    with pytest.raises(Fault, match=r"head must be forecast for a forecast task, got .?logits"):
        answer_of(_output(logits=torch.zeros(5, 1)), "forecast", torch.zeros(5, 4, 3))
    with pytest.raises(Fault, match=r"one value per target, got \(5, 4, 1\) for targets \(5, 4, 3\)"):
        answer_of(_output(forecast=torch.zeros(5, 4, 1)), "forecast", torch.zeros(5, 4, 3))
    with pytest.raises(Fault, match=r"got \(5, 1, 3\) for targets \(5, 2\)"):
        answer_of(_output(quantiles=torch.zeros(5, 1, 3)), "quantile", torch.zeros(5, 2))
