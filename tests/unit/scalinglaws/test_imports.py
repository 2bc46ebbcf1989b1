import subprocess
import sys

BLOCKED = (
    "pandas",
    "torch",
    "optuna",
    "kedro",
    "mlflow",
    "plotly",
    "arch",
    "sklearn",
    "statsmodels",
    "pyarrow",
)
SCRIPT = f"""
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED}:
            raise ImportError(name)

sys.meta_path.insert(0, Refused())
from finscale.scalinglaws import bootstrap_joint, bootstrap_weights, fit
import numpy as np

n, d = (values.ravel() for values in np.meshgrid(np.logspace(6, 8, 4), np.logspace(8, 10, 4)))
loss = 1.7 + 400 / n**0.34 + 410 / d**0.28
joint, size = fit(n, d, loss), fit(np.logspace(4, 8, 5), np.logspace(0, -1, 5))
print(joint.status, round(joint.parameters["alpha"], 3), size.form("power_law").status)
try:
    from finscale.scalinglaws import scaling_verdict
except ImportError as error:
    print("tables want", error)
"""


def test_fitting_needs_numpy_and_scipy_alone() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["ok 0.34 ok", "tables want pandas"], done.stderr


def test_every_public_name_is_there() -> None:
    import finscale.scalinglaws as room

    assert all(getattr(room, name) is not None for name in room.__all__)
    assert not hasattr(room, "no_such_name")
