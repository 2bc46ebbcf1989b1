"""Scaling laws without a framework: fit, judge, and say it in words. NumPy and SciPy; pandas for tables."""

from typing import TYPE_CHECKING, Any

from finscale.core.multiplicity import adjust_tests, benjamini_hochberg, holm
from finscale.scalinglaws.compute import compute_optimal, isoflop_curve, training_flops
from finscale.scalinglaws.fitting import ScalingFit, fit
from finscale.scalinglaws.joint import JointFit, fit_joint, predict_joint
from finscale.scalinglaws.joint_profile import JointProfile, profile_joint
from finscale.scalinglaws.power import PlannedPower, detectable_drop, plan_power, power_of_drop
from finscale.scalinglaws.resampling import bootstrap_joint, bootstrap_power_law, bootstrap_weights
from finscale.scalinglaws.selection import (
    SelectionTrend,
    best_of_m_table,
    expected_min_of_m,
    selection_trend,
    tuning_curve,
)
from finscale.scalinglaws.trend import slope_test

if TYPE_CHECKING:
    from finscale.scalinglaws.sentences import headline, sentences
    from finscale.scalinglaws.verdict import ScalingVerdict, TrendVerdict, Verdict, scaling_verdict

__all__ = [
    "JointFit",
    "JointProfile",
    "PlannedPower",
    "ScalingFit",
    "ScalingVerdict",
    "SelectionTrend",
    "TrendVerdict",
    "Verdict",
    "adjust_tests",
    "benjamini_hochberg",
    "best_of_m_table",
    "bootstrap_joint",
    "bootstrap_power_law",
    "bootstrap_weights",
    "compute_optimal",
    "detectable_drop",
    "expected_min_of_m",
    "fit",
    "fit_joint",
    "headline",
    "holm",
    "isoflop_curve",
    "plan_power",
    "power_of_drop",
    "predict_joint",
    "profile_joint",
    "scaling_verdict",
    "selection_trend",
    "sentences",
    "slope_test",
    "training_flops",
    "tuning_curve",
]
_OF_TABLES = {
    "ScalingVerdict": "verdict",
    "TrendVerdict": "verdict",
    "Verdict": "verdict",
    "scaling_verdict": "verdict",
    "headline": "sentences",
    "sentences": "sentences",
}


def __getattr__(name: str) -> Any:
    """Import what reads tables of runs when it is first asked for: fitting alone does without pandas."""
    if name not in _OF_TABLES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_OF_TABLES[name]}"), name)
