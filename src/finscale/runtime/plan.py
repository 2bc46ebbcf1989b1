"""What a sweep would cost, cell by cell, before anything is trained: time, memory, and what both rest on."""

from typing import Any

from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession

from finscale.core.budgets import Cell
from finscale.runtime.cell_runs import of_cell
from finscale.runtime.definition import group
from finscale.runtime.matrix import Matrix
from finscale.runtime.places import places_per_cell
from finscale.runtime.progress import track
from finscale.runtime.resolvers import project_root
from finscale.runtime.runner import ContentRunner
from finscale.runtime.search_answers import print_plan
from finscale.runtime.stopping import STOP
from finscale.runtime.sweep_cost import SweepCost
from finscale.search.forecast import Forecast, forecast_cell
from finscale.search.planner import Planner
from finscale.training.run_spec import Provenance

__all__ = ["plan_sweep"]


def plan_sweep(matrix: Matrix) -> None:
    """Make features, windows and grids, and print what every cell would cost.

    Raises
    ------
    FinscaleError
        What a cell would raise before its first trial.
    Interrupted
        When asked to stop.
    """
    forecasts = []
    with track("Plan", len(matrix.cells)) as tracker:
        for cell in matrix.cells:
            STOP.raise_if_requested("Plan stopped; nothing was trained.")
            forecasts.append(_forecast(matrix, cell))
            tracker.advance(cell.id)
    n_places = places_per_cell(matrix.hpo, at_once=matrix.at_once)
    execution = group(matrix.parameters, "execution")
    print_plan(SweepCost(forecasts, matrix.at_once, n_places, matrix.hpo, execution))


def _forecast(matrix: Matrix, cell: Cell) -> Forecast:
    """Run what comes before a search, without a tracked run, and forecast from there."""
    with KedroSession.create(
        project_root(), env=matrix.env, runtime_params=of_cell(cell, matrix.params), save_on_close=False
    ) as session:
        context = session.load_context()
        catalog, parameters = context.catalog, context.params
        ContentRunner().run(pipelines["arch_grid"], catalog)
        folds = [catalog.load("windows"), *catalog.load("later_folds")]
        training, ended = group(parameters, "training"), catalog.load("training_folder")
        return forecast_cell(
            matrix.hpo,
            _planner(catalog, parameters, cell),
            grid=catalog.load("arch_grid"),
            tolerance=group(parameters, "grid").tolerance,
            folds=folds,
            searches="hpo" in matrix.per_cell,
            n_seeds=training.n_seeds if "training" in matrix.per_cell else 0,
            n_done=len(list(ended.rglob("seed_*/result.json"))),
        )


def _planner(catalog: Any, parameters: Any, cell: Cell) -> Planner:
    definition, windows = group(parameters, "definition"), catalog.load("windows")
    hpo = group(parameters, "hpo")
    return Planner(
        experiment=definition,
        cell=cell,
        windows_directory=catalog.load("windows_folder"),
        study_directory=catalog.load("study_folder"),
        n_features=windows.n_features,
        execution=group(parameters, "execution"),
        training_defaults=group(parameters, "training").shared,
        provenance=Provenance(data_hash=windows.spec.data_hash, **parameters["provenance"]),
        batch_provider=hpo.batch_provider,
        n_sharing=hpo.n_sharing,
        seed=definition.seed,
    )
