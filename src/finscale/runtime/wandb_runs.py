"""Weights & Biases: a run per trial and per seed, beside MLflow's. Never in the way, and offline by default.

Runs lie in ``wandb/`` of the data folder (or of ``WANDB_DIR``); ``wandb sync`` sends what was kept offline.
"""

import functools
import logging
import os
from pathlib import Path
from typing import Any

from finscale.runtime.trackers import ChildRun, answers, is_finite

__all__ = ["keep_under", "log_wandb_run"]

logger = logging.getLogger(__name__)
_WAIT_S = 10.0
_SEND = "runs are kept offline until you send them with: wandb sync"
_FAILED: set[str] = set()


def keep_under(folder: Path) -> None:
    """Have the session's runs, and the package's own logs, written under ``folder``, unless the user says."""
    os.environ.setdefault("WANDB_DIR", str(folder))
    os.environ.setdefault("WANDB_CACHE_DIR", str(folder / "wandb" / "cache"))
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")


def log_wandb_run(run: ChildRun, *, project: str) -> None:
    """Record a finished trial or seed: its cell is the group, an epoch of its curve a step.

    Whatever goes wrong is reported once, and the session goes on.
    """
    try:
        _log(run, project)
    except ImportError:
        _warn_once("is not installed, and records nothing; pip install 'finscale[wandb]'")
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        _warn_once(f"could not record something ({said}); the run goes on")


def _log(run: ChildRun, project: str) -> None:
    recorded = _begin(run, project)
    for epoch, values in sorted(_by_epoch(run).items()):
        recorded.log(values, step=epoch)
    recorded.summary.update({name: value for name, value in run.metrics.items() if is_finite(value)})
    recorded.finish(exit_code=int(run.failed))


def _begin(run: ChildRun, project: str) -> Any:
    """Open a run; a server that fails once is left alone for the rest of the session."""
    import wandb

    mode = _mode()
    try:
        return _opened(run, project, mode)
    except wandb.Error as error:
        if mode != "online":
            raise
        _FAILED.add(wandb.setup().settings.base_url)
        _warn_once(f"took no run ({str(error).splitlines()[0]}); {_SEND}")
        return _opened(run, project, "offline")


def _opened(run: ChildRun, project: str, mode: Any) -> Any:
    import wandb

    return wandb.init(
        project=project,
        name=run.name,
        group=run.tags["cell"],
        job_type=run.tags["kind"],
        tags=tuple(run.tags.values()),
        config=dict(run.params),
        mode=mode,
        reinit="create_new",
        settings=_settings(),
    )


def _settings() -> Any:
    """Nothing on the console, nothing about the machine (records hold that), and no long wait."""
    import wandb

    return wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        init_timeout=_WAIT_S,
        finish_timeout=_WAIT_S,
    )


def _mode() -> Any:
    """What the user chose; online only where they are logged in and the server answers."""
    import wandb

    settings = wandb.setup(settings=_settings()).settings
    if settings.mode != "online":
        return settings.mode
    if not wandb.login(prompt=False, verify=False):
        return "offline"
    if settings.base_url in _FAILED:
        return "offline"
    if not answers(settings.base_url):
        _warn_once(f"did not answer; {_SEND}")
        return "offline"
    return "online"


def _by_epoch(run: ChildRun) -> dict[int, dict[str, float]]:
    rows: dict[int, dict[str, float]] = {}
    for name, pairs in run.curve.items():
        for epoch, value in pairs:
            if is_finite(value):
                rows.setdefault(epoch, {})[name] = value
    return rows


@functools.cache
def _warn_once(said: str) -> None:
    logger.warning("Weights & Biases %s", said)
