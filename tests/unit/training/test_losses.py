from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax

from finscale.core.errors import Fault
from finscale.metrics.probabilistic import pinball_rows
from finscale.models.contract import ModelOutput
from finscale.training.config import SharedTraining, TrainingConfig
from finscale.training.heads import HEADS
from finscale.training.loss_options import loss_faults
from finscale.training.losses import LOSSES, PREDICTIONS, answer_of, build_loss, class_losses, pinball
from finscale.training.scoring import SCORINGS
from finscale.windows.baselines import BASELINES
from finscale.windows.spec import WindowSpec

Array = NDArray[np.float64]
LEVELS, HORIZONS, N_CLASSES = (0.1, 0.5, 0.9), (1, 4), (2, 3)


def _spec(task: str) -> WindowSpec:
    return WindowSpec(
        experiment="tiny",
        task=task,
        touch="high",
        horizon=4,
        context_length=8,
        features=("a", "b", "c"),
        data_hash="random",
        title="Random windows",
        horizons=HORIZONS if task == "quantile" else (4,),
        quantile_levels=LEVELS if task == "quantile" else (),
        target_columns={"forecast": ("a", "b", "c"), "classes": ("b", "c")}.get(task, ()),
        n_classes=N_CLASSES if task == "classes" else (),
    )


def _loss(task: str, said: Array, y: Array, train: Array | None = None, **options: Any) -> float:
    """The summed loss of a task as it is trained."""
    training, seen = SharedTraining.read(options), np.zeros(0) if train is None else train
    loss = build_loss(training, _spec(task), train_targets=seen, device=torch.device("cpu"))
    return float(loss(torch.from_numpy(said), torch.from_numpy(y)))


def _faults(task: str, **options: Any) -> str:
    return "\n".join(str(fault) for fault in loss_faults(SharedTraining.read(options), _spec(task)))


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


def test_logits_of_several_columns_of_classes_answer_as_many_labels_per_window() -> None:
    logits = torch.randn(5, 5)
    assert torch.equal(answer_of(_output(classes=logits), "classes", torch.zeros(5, 2).long()), logits)
    with pytest.raises(Fault, match=r"one value per target, got \(5, 5\) for targets \(4, 2\)"):
        answer_of(_output(classes=logits), "classes", torch.zeros(4, 2).long())


@pytest.fixture
def asked() -> tuple[Array, Array]:
    """Logits and answers of 60 yes-or-no questions, a third of them yes."""
    random = np.random.default_rng(1)
    return random.standard_normal(60) * 2, np.tile([1.0, 0.0, 0.0], 20)


def test_class_weights_and_label_smoothing_are_those_of_the_definition(asked: tuple[Array, Array]) -> None:
    z, y = asked
    p, weight, smooth = 1 / (1 + np.exp(-z)), np.where(y == 1, 4.0, 0.5), y * 0.8 + 0.1
    expected = -(weight * (smooth * np.log(p) + (1 - smooth) * np.log(1 - p))).sum()
    found = _loss("direction", z, y, class_weights=(0.5, 4.0), label_smoothing=0.2)
    assert found == pytest.approx(expected, rel=1e-12)


def test_the_focal_loss_is_that_of_the_paper(asked: tuple[Array, Array]) -> None:
    """Lin et al. 2017, equation 5."""
    z, y = asked
    p_true = 1 / (1 + np.exp(-np.where(y == 1, z, -z)))
    weight = np.where(y == 1, 0.25, 0.75)
    expected = -(weight * (1 - p_true) ** 1.5 * np.log(p_true)).sum()
    found = _loss("direction", z, y, class_weights=(0.75, 0.25), focal_gamma=1.5)
    assert found == pytest.approx(expected, rel=1e-9)


def test_balanced_weights_give_both_classes_the_same_sum_and_a_training_window_weight_one(
    asked: tuple[Array, Array],
) -> None:
    _, y = asked
    nothing_said = np.zeros_like(y)
    yes, no = y[y == 1], y[y == 0]
    by_class = [
        _loss("direction", np.zeros_like(part), part, train=y, class_weights="balanced") for part in (yes, no)
    ]
    assert by_class[0] == pytest.approx(by_class[1], rel=1e-6)
    assert sum(by_class) == pytest.approx(_loss("direction", nothing_said, y), rel=1e-6)


def test_a_class_that_no_training_window_has_weighs_nothing() -> None:
    train = np.array([[0, 0], [1, 0], [1, 2]])
    said, y = np.zeros((1, 5)), np.array([[0, 1]])
    found = _loss("classes", said, y, train=train, class_weights="balanced")
    assert found == pytest.approx(1.5 * np.log(2) / 2)
    found = _loss("classes", said, np.array([[0, 2]]), train=train, class_weights="balanced")
    assert found == pytest.approx(1.5 * (np.log(2) + np.log(3)) / 2)


@pytest.mark.parametrize("option", [{"label_smoothing": 0.2}, {"focal_gamma": 1.0}])
def test_smoothing_or_focus_alone_changes_the_loss_of_a_question(
    option: dict[str, float], asked: tuple[Array, Array]
) -> None:
    unweighted = _loss("direction", *asked, **option)
    assert unweighted == _loss("direction", *asked, class_weights=(1, 1), **option)
    assert unweighted != pytest.approx(_loss("direction", *asked))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_the_focal_loss_of_a_certain_answer_has_a_finite_gradient(gamma: float) -> None:
    logits = torch.tensor([[-200.0, 200.0], [200.0, -200.0], [0.0, 30.0]], requires_grad=True)
    class_losses(logits, torch.tensor([1, 1, 1]), gamma=gamma).sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[1].abs().max() > 0.5


def test_the_loss_of_several_columns_of_classes_is_their_weighted_mean_cross_entropy() -> None:
    random = np.random.default_rng(2)
    said = random.standard_normal((9, 5))
    y = np.stack([random.integers(0, 2, 9), random.integers(0, 3, 9)], axis=1)
    rows = np.arange(9)
    first, second = (log_softmax(part, axis=1) for part in (said[:, :2], said[:, 2:]))
    sums = [-first[rows, y[:, 0]].sum(), -second[rows, y[:, 1]].sum()]
    assert _loss("classes", said, y) == pytest.approx(sum(sums) / 2, rel=1e-12)
    weighted = 0.5 * sums[0] + 1.5 * sums[1]
    assert _loss("classes", said, y, loss_weights=(1, 3)) == pytest.approx(weighted / 2, rel=1e-12)
    smooth = -0.7 * second[rows, y[:, 1]].sum() - 0.3 * second.mean(axis=1).sum()
    smooth_first = -0.7 * first[rows, y[:, 0]].sum() - 0.3 * first.mean(axis=1).sum()
    found = _loss("classes", said, y, label_smoothing=0.3)
    assert found == pytest.approx((smooth + smooth_first) / 2, rel=1e-12)


def test_explicit_class_weights_go_to_the_classes_of_each_column_in_turn() -> None:
    said, y = np.zeros((1, 5)), np.array([[1, 2]])
    found = _loss("classes", said, y, class_weights=(9, 2, 9, 9, 4))
    assert found == pytest.approx((2 * np.log(2) + 4 * np.log(3)) / 2)


@pytest.mark.parametrize("task", ["regression", "forecast"])
def test_the_huber_loss_is_a_square_up_to_its_delta_and_a_line_beyond(task: str) -> None:
    random = np.random.default_rng(3)
    said, y = random.standard_normal((2, 6)) if task == "regression" else random.standard_normal((2, 6, 4, 3))
    error = np.abs(said - y)
    losses = np.where(error <= 0.7, 0.5 * error**2, 0.7 * (error - 0.35))
    found = _loss(task, said, y, loss="huber", huber_delta=0.7)
    assert found == pytest.approx(losses.reshape(6, -1).mean(axis=1).sum(), rel=1e-12)
    squares = np.square(error).reshape(6, -1).mean(axis=1).sum()
    assert _loss(task, said, y) == _loss(task, said, y, loss="mse") == pytest.approx(squares, rel=1e-12)


def test_loss_weights_have_mean_one_and_go_to_columns_and_horizons() -> None:
    random = np.random.default_rng(4)
    said, y = random.standard_normal((2, 6, 4, 3))
    weighted = np.square(said - y) * np.array([0.5, 0.5, 2.0])
    expected = weighted.mean(axis=(1, 2)).sum()
    assert _loss("forecast", said, y, loss_weights=(2, 2, 8)) == pytest.approx(expected, rel=1e-12)
    q, y = random.standard_normal((6, 2, 3)), random.standard_normal((6, 2))
    at = [pinball_rows(y[:, h], q[:, h], LEVELS).mean(axis=1).sum() for h in range(2)]
    found = _loss("quantile", q, y, loss_weights=(3, 1))
    assert found == pytest.approx((1.5 * at[0] + 0.5 * at[1]) / 2, rel=1e-6)
    assert _loss("quantile", q, y, loss_weights=(5, 5)) == pytest.approx(_loss("quantile", q, y), rel=1e-12)


@pytest.mark.parametrize(
    ("task", "options", "line"),
    [
        ("regression", {"focal_gamma": 2}, "focal_gamma must be left out for a regression task"),
        ("quantile", {"loss": "mse"}, "training.loss must be left out for a quantile task"),
        ("direction", {"loss": "huber", "huber_delta": 1}, "huber_delta must be left out for a binary task"),
        ("direction", {"loss_weights": (1,)}, "loss_weights must be left out for a binary task"),
        ("forecast", {"label_smoothing": 0.1}, "label_smoothing must be left out for a forecast task"),
        ("forecast", {"loss_weights": (1, 2)}, "hold 3 weights, one each of a, b, c, got (1.0, 2.0)"),
        ("quantile", {"loss_weights": (1,)}, "hold 2 weights, one each of horizon 1, horizon 4"),
        ("classes", {"loss_weights": (1,)}, "hold 2 weights, one each of b, c"),
        ("classes", {"class_weights": (1, 2)}, "hold 5 weights, one each of b=0, b=1, c=0, c=1, c=2"),
        ("direction", {"class_weights": (1, 2, 3)}, "hold 2 weights, one each of class 0, class 1"),
    ],
)
def test_an_option_the_task_does_not_read_or_a_wrong_number_of_weights_is_named(
    task: str, options: dict[str, Any], line: str
) -> None:
    assert line in _faults(task, **options)


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("direction", {"class_weights": "balanced", "label_smoothing": 0.1}),
        ("classes", {"class_weights": (1, 2, 1, 2, 3), "focal_gamma": 2, "loss_weights": (1, 2)}),
        ("regression", {"loss": "huber", "huber_delta": 1}),
        ("forecast", {"loss": "mse", "loss_weights": (1, 2, 3)}),
        ("quantile", {"loss_weights": (1, 2)}),
    ],
)
def test_options_that_the_task_reads_are_no_fault(task: str, options: dict[str, Any]) -> None:
    assert _faults(task, **options) == ""


def test_options_that_the_task_does_not_read_stop_a_run_before_its_first_step(
    make_data: Any, make_spec: Any, train_tiny: Any
) -> None:
    data, events = make_data(), list[Any]()
    spec = make_spec(data, loss_weights=(1.0,))
    assert isinstance(spec.training, TrainingConfig)
    with pytest.raises(Fault, match=r"training.loss_weights must be left out for a binary task"):
        train_tiny(spec, data, on_event=events.append)
    assert events == []


def test_what_is_validated_is_the_plain_loss_whatever_is_trained(
    make_data: Any, make_spec: Any, train_tiny: Any
) -> None:
    """With a rate of almost zero both runs keep their first weights."""
    data, still = make_data(bias=1.5), {"learning_rate": 1e-12, "epochs": 1}
    plain = train_tiny(make_spec(data, dropout=0.0, **still), data, name="plain")
    options = {"class_weights": (1.0, 8.0), "label_smoothing": 0.3}
    weighted = train_tiny(make_spec(data, dropout=0.0, **still, **options), data, name="weighted")
    assert weighted.best_val_loss == pytest.approx(plain.best_val_loss, abs=1e-6)
    assert weighted.curve[0].train_loss > 2 * plain.curve[0].train_loss
