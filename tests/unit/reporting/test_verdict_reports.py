"""A report of each verdict and of each kind of task: what it says, and that nothing is fetched for it."""

import html
import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from simulated_study import STUDIES
from test_report_records import unsourced

from finscale.reporting.report import render_report
from finscale.reporting.study import ReportInput
from finscale.reporting.summary import compose, scaling_summary
from finscale.windows.measures import MEASURES
from finscale.windows.tasks import TaskKind

Make = Callable[..., ReportInput]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.parametrize("verdict", STUDIES)
def test_a_study_of_each_verdict_gets_it_and_every_number_has_its_record(
    make_study: Make, verdict: str
) -> None:
    report = compose(make_study(**STUDIES[verdict]))
    record = json.loads(json.dumps(scaling_summary(report), allow_nan=False))
    assert report.study.verdict.overall.verdict.value == record["verdict"] == verdict
    document = render_report(report)
    assert list(unsourced(document, record)) == []
    assert f'<p class="label">{verdict.replace("_", " ")}</p>' in document


@pytest.mark.parametrize("kind", ["regression", "quantile", "forecast", "classes"])
def test_a_task_is_told_in_its_own_loss_and_unit(make_study: Make, kind: TaskKind) -> None:
    study = make_study(horizons=(1,))
    measure = MEASURES[kind]
    names = {"base_rate": measure.reference}
    scored = study.cells.assign(**dict.fromkeys(measure.scores, 0.5))
    told = {"cells": scored, "measure": measure}
    told |= {
        name: table.assign(baseline=table["baseline"].replace(names))
        for name, table in (("baselines", study.baselines), ("baselines_by_date", study.baselines_by_date))
    }
    document = html.unescape(render_report(compose(make_study(horizons=(1,), **told))))
    text = re.sub(r"<script>.*?</script>|<style>.*?</style>|<[^>]+>", "", document, flags=re.DOTALL)
    figures = document.split("const figures = ")[1]
    assert f"{measure.unit} on the scoring half" in text.replace("\N{NO-BREAK SPACE}", " ")
    assert measure.unit_is in text
    for wrong in {"nats", "log loss", "base rate", "base_rate"} - set(_words_of(measure.model_dump_json())):
        assert wrong not in text.lower()
        assert wrong not in figures.lower()


def _words_of(said: str) -> list[str]:
    plain = said.replace("base_rate", "base_rate base rate")
    return [words for words in ("nats", "log loss", "base rate", "base_rate") if words in plain]


class Listener:
    """A proxy that answers nobody and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                self.asked.append(connection.recv(400).decode(errors="replace").split("\r\n")[0])


@pytest.fixture
def proxy() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.socket.close()


def opened(path: Path, proxy: Listener, profile: Path) -> str:
    """Open a page as a reader would, every request through the proxy; return what the page became."""
    assert CHROMIUM is not None
    quiet = ("background-networking", "component-update", "sync", "quic", "gpu", "default-apps")
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--no-first-run", f"--user-data-dir={profile}"),
        *(f"--disable-{name}" for name in quiet),
        *(f"--proxy-server=127.0.0.1:{proxy.port}", "--proxy-bypass-list=<-loopback>"),
        *("--virtual-time-budget=4000", "--window-size=1000,1400", "--dump-dom", path.as_uri()),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine to open the report in")
def test_a_browser_draws_the_report_and_asks_the_network_for_nothing(
    report: str, proxy: Listener, tmp_path: Path
) -> None:
    page, probe = tmp_path / "report.html", tmp_path / "probe.html"
    page.write_text(report, encoding="utf-8")
    probe.write_text(report.replace("<main>", '<main><img src="http://probe.invalid/pixel.png">', 1))
    drawn = opened(page, proxy, tmp_path / "profile")
    assert 'class="main-svg"' in drawn
    assert [asked for asked in proxy.asked if "google" not in asked] == []
    opened(probe, proxy, tmp_path / "profile")
    assert any("probe.invalid" in asked for asked in proxy.asked)
