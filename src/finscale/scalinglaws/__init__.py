"""Scaling laws without a framework: fit, judge, and say it in words. NumPy and SciPy only."""

from finscale.scalinglaws.fitting import ScalingFit, fit
from finscale.scalinglaws.power import detectable_drop, power_of_drop
from finscale.scalinglaws.selection import best_of_m_table, expected_min_of_m, tuning_curve
from finscale.scalinglaws.sentences import headline, sentences
from finscale.scalinglaws.trend import holm, slope_test
from finscale.scalinglaws.verdict import ScalingVerdict, TrendVerdict, Verdict, scaling_verdict

__all__ = [
    "ScalingFit",
    "ScalingVerdict",
    "TrendVerdict",
    "Verdict",
    "best_of_m_table",
    "detectable_drop",
    "expected_min_of_m",
    "fit",
    "headline",
    "holm",
    "power_of_drop",
    "scaling_verdict",
    "sentences",
    "slope_test",
    "tuning_curve",
]
