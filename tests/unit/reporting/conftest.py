import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from finscale.reporting.report import render_report
from finscale.reporting.study import ReportInput
from finscale.reporting.summary import Report, compose

sys.path.insert(0, str(Path(__file__).parent))
from simulated_study import build_study


@pytest.fixture
def make_study() -> Callable[..., ReportInput]:
    """Return the builder."""
    return build_study


@pytest.fixture(scope="session")
def composed() -> Report:
    """Return the content of the plain study's report."""
    return compose(build_study())


@pytest.fixture(scope="session")
def report(composed: Report) -> str:
    """Return the rendered report of the plain study."""
    return render_report(composed)
