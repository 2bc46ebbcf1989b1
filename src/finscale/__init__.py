"""A scaling-law laboratory for financial time-series transformers."""

__version__ = "0.1.0"
