import numpy as np
import pytest
import torch
from scipy import optimize
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from finscale.core.errors import Fault
from finscale.models.config import PatchTSTConfig, TransformerConfig
from finscale.models.contract import Batch
from finscale.models.counting import count_params, n_tokens
from finscale.models.head_config import ForecastHead
from finscale.models.registry import build_meta_model
from finscale.scalinglaws.compute import compute_optimal, isoflop_curve, training_flops
from finscale.scalinglaws.joint import predict_joint

LAW = {"E": 1.69, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28}
SIZES = {"n_features": 25, "context_length": 60}
WINDOWS = 3


def counted(config: PatchTSTConfig | TransformerConfig, context_length: int) -> int:
    """What torch counts for one training step on three windows."""
    model = build_meta_model(config, n_features=25, context_length=context_length).train()
    batch = Batch(values=torch.zeros(WINDOWS, context_length, 25, device="meta"))
    if isinstance(config, TransformerConfig):
        batch = Batch(tokens=torch.zeros(WINDOWS, context_length, dtype=torch.int64, device="meta"))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        (prediction,) = model(batch).prediction.values()
        prediction.sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("pooling", ["mean", "flatten"])
@pytest.mark.parametrize(("d_model", "n_layers"), [(128, 10), (384, 11), (1024, 16)])
def test_a_pooled_encoder_costs_what_torch_counts(d_model: int, n_layers: int, pooling: str) -> None:
    config = PatchTSTConfig(d_model=d_model, n_layers=n_layers, n_heads=8, d_ff=4 * d_model, pooling=pooling)
    count, tokens = count_params(config, **SIZES), n_tokens(config, context_length=60)
    ours = training_flops(
        n_body=count.body + count.embedding,
        n_head=count.head,
        n_tokens=WINDOWS * tokens,
        n_sequences=WINDOWS,
        n_layers=n_layers,
        d_model=d_model,
        tokens_per_sequence=tokens,
    )
    assert ours == pytest.approx(counted(config, 60), rel=0.02)


def test_a_head_larger_than_the_body_is_met_once_a_window() -> None:
    head = ForecastHead(horizon=96, n_channels=25)
    config = PatchTSTConfig(d_model=128, n_layers=4, n_heads=8, d_ff=512, pooling="flatten", head=head)
    count, tokens = count_params(config, **SIZES), n_tokens(config, context_length=60)
    assert count.head > count.body
    sizes = {"n_layers": 4, "d_model": 128, "tokens_per_sequence": tokens}
    counts = {"n_body": count.body + count.embedding, "n_head": count.head}
    ours = training_flops(**counts, n_tokens=WINDOWS * tokens, n_sequences=WINDOWS, **sizes)
    assert ours == pytest.approx(counted(config, 60), rel=0.02)


@pytest.mark.parametrize("context_length", [64, 1024])
def test_a_decoder_costs_what_torch_counts(context_length: int) -> None:
    config = TransformerConfig(vocab_size=256, d_model=256, n_layers=8, n_heads=4, d_ff=1024, conv_taps=0)
    count = count_params(config, n_features=25, context_length=context_length)
    ours = training_flops(
        n_body=count.body + count.head,
        n_head=0,
        n_tokens=WINDOWS * context_length,
        n_sequences=WINDOWS,
        n_layers=8,
        d_model=256,
        tokens_per_sequence=context_length,
    )
    assert ours == pytest.approx(counted(config, context_length), rel=0.02)


@pytest.mark.parametrize("flops", [1e17, 1e21])
def test_no_other_allocation_at_the_same_cost_has_a_lower_loss(flops: float) -> None:
    found = compute_optimal(LAW, flops=flops)

    def loss(log_n: float) -> float:
        return float(predict_joint(LAW, np.exp(log_n), flops / 6 / np.exp(log_n)))

    best = optimize.minimize_scalar(
        loss, bounds=(np.log(1e4), np.log(1e14)), method="bounded", options={"xatol": 1e-9}
    )
    assert found.n_params == pytest.approx(np.exp(best.x), rel=1e-4)
    assert found.loss == pytest.approx(best.fun, rel=1e-10)
    assert 6 * found.n_params * found.n_tokens == pytest.approx(flops)
    assert found.tokens_per_param == pytest.approx(found.n_tokens / found.n_params)


def test_the_optimal_size_grows_with_its_exponent() -> None:
    small, large = compute_optimal(LAW, flops=1e18), compute_optimal(LAW, flops=1e20)
    assert large.n_params / small.n_params == pytest.approx(100**small.size_exponent)
    assert small.size_exponent == pytest.approx(0.28 / 0.62)


def test_an_isoflop_curve_turns_at_the_optimum() -> None:
    sizes = np.geomspace(1e7, 1e11, 401)
    found = isoflop_curve(LAW, flops=1e20, n_params=sizes)
    assert np.array(found.n_params) * found.n_tokens * 6 == pytest.approx(1e20)
    assert found.n_params[int(np.argmin(found.loss))] == pytest.approx(found.optimum.n_params, rel=0.03)
    assert min(found.loss) >= found.optimum.loss


def test_a_law_without_a_term_has_no_best_size() -> None:
    with pytest.raises(Fault, match="A and B must be positive"):
        compute_optimal({**LAW, "A": 0.0}, flops=1e18)
