"""The project's commands: Kedro's own ``run`` with plain errors and skipped work, and ``sweep``."""

import contextlib
import os
import pkgutil
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import env_option, split_string

__all__ = ["cli"]

# Before any numeric library is loaded: spinning OpenMP threads on busy cores cost up to a hundredfold.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_PARAMS = next(option for option in kedro_run.params if option.name == "params")
_RUNNER = "finscale.runtime.runner.ContentRunner"


@click.group(name="finscale")
def cli() -> None:
    """Commands of the finscale project."""


def _run(**options: Any) -> None:
    from finscale.runtime.stopping import STOP

    with _plain_errors(), STOP.listening():
        _refuse_several_processes()
        _refuse_unknown([*options["pipelines"], *filter(None, [options["pipeline"]])])
        kedro_run.callback(**{**options, "runner": options["runner"] or _RUNNER})


cli.add_command(
    click.Command(
        "run", params=kedro_run.params, callback=_run, help="Run one cell (or the pipelines named)."
    )
)


@cli.command()
@env_option
@click.option(
    "-p", "--pipelines", default="", callback=split_string, help="Pipelines per cell, e.g. hpo,training."
)
@click.option(
    "--budgets", default="", callback=split_string, help="Instead of the environment's, e.g. 20K,200K."
)
@click.option("--horizons", default="", callback=split_string, help="Instead of the environment's, e.g. 1,5.")
@click.option("--from-cell", default=None, help="Begin with this cell, e.g. 20M_h3.")
@click.option(
    "--at-once",
    type=click.IntRange(min=1),
    default=None,
    help="Cells at the same time, sweep.at_once if not.",
)
@click.option("--plan", is_flag=True, help="Say what it would cost, and train nothing.")
@click.option("--params", default="", callback=_PARAMS.callback, help="Parameters of every cell, as for run.")
def sweep(
    env: str | None,
    pipelines: list[str],
    budgets: list[str],
    horizons: list[str],
    from_cell: str | None,
    at_once: int | None,
    plan: bool,
    params: dict[str, Any],
) -> None:
    """Run every cell (budget x horizon): resumable, and one failure does not stop the rest."""
    from finscale.runtime.matrix import checked_matrix
    from finscale.runtime.stopping import STOP
    from finscale.runtime.sweep import run_sweep

    with _plain_errors(), STOP.listening():
        _refuse_several_processes()
        _refuse_unknown(pipelines)
        matrix = checked_matrix(
            env=env,
            pipelines=pipelines,
            budgets=budgets,
            horizons=horizons,
            from_cell=from_cell,
            at_once=at_once,
            params=params,
        )
        if plan:
            from finscale.runtime.plan import plan_sweep

            plan_sweep(matrix)
        elif run_sweep(matrix):
            sys.exit(1)


def _refuse_several_processes() -> None:
    """Refuse to be started by torchrun: its processes would race for the files of one pipeline."""
    from finscale.core.errors import Fault

    n_processes = os.environ.get("WORLD_SIZE", "1")
    if n_processes != "1":
        remedy = "see docs/how-to/several_devices.md"
        raise Fault("a pipeline", "run in one process", f"{n_processes} of torchrun", remedy)


def _refuse_unknown(names: Sequence[str]) -> None:
    """Refuse pipelines that have no folder, with the nearest that has one."""
    from finscale import pipelines
    from finscale.core.errors import Fault, raise_faults, suggest

    legal = ["__default__", *(module.name for module in pkgutil.iter_modules(pipelines.__path__))]
    rule = "be a pipeline of this project"
    raise_faults(
        Fault("--pipelines", rule, name, suggest(name, legal)) for name in names if name not in legal
    )


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """A user's mistake is one screen of text and exit code 1; a stop is its own exit code, an answer 0."""
    from finscale.core.errors import Answered, Interrupted, user_fault

    try:
        yield
    except Answered as answer:
        click.echo(str(answer))
    except Interrupted as stop:
        click.secho(f"{stop}\nContinue with the same command: {_command()}", fg="yellow", err=True)
        sys.exit(stop.exit_code)
    except KeyboardInterrupt:
        click.secho(f"Interrupted. Continue with the same command: {_command()}", fg="yellow", err=True)
        sys.exit(130)
    except Exception as error:
        fault = user_fault(error)
        if fault is None:
            raise
        click.secho(f"Error: {fault}", fg="red", err=True)
        sys.exit(1)


def _command() -> str:
    """Return what goes on: what was typed, less ``hpo.restart``, which would begin again."""
    words = [re.sub(r"(?<![^=,])\s*hpo\.restart=[^,]*,?", "", word).rstrip(",") for word in sys.argv[1:]]
    return re.sub(r" --params(=| '')(?= |$)", "", shlex.join(["kedro", *words]))
