"""What Optuna says while we hold the pen."""

import contextlib
from collections.abc import Iterator

import optuna

__all__ = ["quiet_optuna"]


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep news of studies, and advice on optional packages, out of the log; errors still show."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
