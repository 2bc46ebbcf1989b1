"""The house itself: imports only go down, light rooms stay light, the written reference is current."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LINT = str(Path(sys.executable).with_name("lint-imports"))


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [LINT, "--config", str(REPOSITORY / ".importlinter"), "--no-cache"]
    environment = {"PYTHONPATH": str(folder), "PATH": "", "COLUMNS": "200"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_import_contracts_hold():
    done = lint_imports(REPOSITORY / "src")
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("core/budgets.py", "import finscale.windows.tasks", "Imports only go down"),
        ("windows/tasks.py", "import finscale.training.config", "Imports only go down"),
        ("training/config.py", "import kedro.io", "Domain rooms know no framework"),
        ("scalinglaws/forms.py", "import torch", "The first floors do not know torch"),
    ],
)
def test_a_planted_import_breaks_its_contract(tmp_path, module, line, contract):
    import shutil

    copy = tmp_path / "finscale"
    shutil.copytree(REPOSITORY / "src/finscale", copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / module).write_text((copy / module).read_text() + f"\n{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode != 0
    assert f"{contract} BROKEN" in done.stdout


def test_to_import_a_module_changes_nothing_of_the_process_that_does():
    script = (
        "import gc, importlib, pkgutil, signal\n"
        "import finscale\n"
        "def state():\n"
        "    return gc.get_freeze_count(), [signal.getsignal(number) for number in (2, 10, 15)]\n"
        "before, n_modules = state(), 0\n"
        "for module in pkgutil.walk_packages(finscale.__path__, 'finscale.'):\n"
        "    importlib.import_module(module.name)\n"
        "    assert state() == before, module.name\n"
        "    n_modules += 1\n"
        "print(n_modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_feature_engineering_does_not_import_torch(project):
    script = (
        "import sys, runpy\n"
        "sys.argv = ['kedro', 'run', '--env', 'test', '--pipelines', 'feature_engineering']\n"
        "try:\n"
        "    runpy.run_module('kedro', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "print('TORCH', 'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=project.folder,
        env=project.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "TORCH False" in done.stdout
    assert (project.folder / "data/test/02_intermediate/sp500_test/data_card.json").exists()


def test_the_reference_of_parameters_is_what_the_classes_say():
    from finscale.runtime.reference import parameters_page

    page = (REPOSITORY / "docs/reference/parameters.md").read_text()
    assert page == parameters_page(), (
        "run: python -m finscale.runtime.reference > docs/reference/parameters.md"
    )


def test_the_lock_names_versions_and_no_index():
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()
    assert "torch==2.13.0" in lines
    assert all(line.count("==") == 1 and "/" not in line and "@" not in line for line in lines)
