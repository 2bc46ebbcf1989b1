"""What a cell's process does in tests of the processes alone: no session, no project."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from finscale.runtime.cell_runs import CellOutcome
from finscale.runtime.stopping import STOP


def run(cell: str, names: list[str], env: str | None, params: dict[str, Any]) -> CellOutcome:
    folder = Path(params["folder"])
    (folder / f"{cell}.pid").write_text(str(os.getpid()))
    print(f"{cell} runs {' '.join(names)}", flush=True)
    began = time.time()
    if cell == params.get("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    while not STOP.requested() and not (folder / "go").exists():
        time.sleep(0.02)
    time.sleep(params.get("seconds", 0.0))
    (folder / f"{cell}.span").write_text(f"{began} {time.time()}")
    return CellOutcome(cell, "stopped" if STOP.requested() else "done", 0.0)
