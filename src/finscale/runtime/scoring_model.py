"""A finished run as an MLflow model. MLflow stores this file itself, beside the run's records and weights."""

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

import finscale

__all__ = ["ScoringModel"]


class ScoringModel(PythonModel):
    """Bars in, with their times in a column; one row per origin out (`finscale.predict`)."""

    def load_context(self, context: PythonModelContext) -> None:
        """Find the run: its files lie side by side among the artifacts."""
        (self._folder,) = {Path(path).parent for path in context.artifacts.values()}

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return what the run says at every bar that has a whole context."""
        return finscale.predict(self._folder, model_input)


set_model(ScoringModel())
