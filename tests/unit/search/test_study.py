import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy
from search_toys import IDENTITY, PARTS

from finscale.core.errors import Fault
from finscale.search.study import STUDY_FILE, StudyIdentity, archive_study, lease, load_study, open_study

HOLD = "from finscale.search.study import lease; from pathlib import Path; import sys, time\n"
HOLD += "with lease(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def test_sqlite_runs_in_wal_mode_with_a_long_busy_timeout(tmp_path: Path) -> None:
    study = open_study(tmp_path, name="s", identity=IDENTITY, attributes={})
    engine = study._storage._backend.engine
    with engine.connect() as connection:
        found = [
            connection.execute(sqlalchemy.text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout")
        ]
    assert found == ["wal", 1, 60_000]


@pytest.mark.parametrize("part", list(PARTS))
def test_a_study_of_another_identity_is_refused_with_the_part_and_the_remedy(
    tmp_path: Path, part: str
) -> None:
    open_study(tmp_path, name="s", identity=IDENTITY, attributes={})
    other = StudyIdentity(**{**PARTS, part: "changed"})
    with pytest.raises(Fault, match=rf"config_hash {other.config_hash}.*another {part}.*hpo\.restart=true"):
        open_study(tmp_path, name="s", identity=other, attributes={})
    assert open_study(tmp_path, name="s", identity=IDENTITY, attributes={}).study_name == "s"


def test_attributes_are_refreshed_on_opening(tmp_path: Path) -> None:
    for rate in (0.5, 0.6):
        open_study(tmp_path, name="s", identity=IDENTITY, attributes={"baselines": {"base_rate": rate}})
    assert load_study(tmp_path).user_attrs["baselines"] == {"base_rate": 0.6}


def test_loading_a_study_that_is_not_there_makes_none(tmp_path: Path) -> None:
    with pytest.raises(Fault, match=r"study\.db must exist"):
        load_study(tmp_path)
    assert not (tmp_path / STUDY_FILE).exists()


def test_a_second_driver_is_refused_with_the_holders_name(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(Fault, match=f"one driver at a time, .*process {holder.pid} on"), lease(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with lease(tmp_path):
            assert f'"pid": {os.getpid()}' in (tmp_path / "study.db.lock").read_text()


def test_a_restart_archives_everything_but_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finscale.search.study._now", lambda: "2026-01-31T12:00:00+00:00")
    assert archive_study(tmp_path, name="s") is None
    targets = []
    for run in range(2):
        with lease(tmp_path):
            open_study(tmp_path, name=f"s{run}", identity=IDENTITY, attributes={})
            (tmp_path / "best_params.json").write_text("{}")
            (tmp_path / "trials").mkdir()
            targets.append(archive_study(tmp_path, name="s"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "study.db.lock"]
    assert len(set(targets)) == 2
    assert [load_study(target).study_name for target in targets if target] == ["s0", "s1"]
    assert (targets[1] / "best_params.json").exists()
    assert (targets[1] / "trials").is_dir()
