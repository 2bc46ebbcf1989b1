"""A report of a simulated study of each verdict, to look at: light, dark and printed.

Run it with ``python benchmarks/render_reports.py FOLDER``; each verdict's report, and the record that its
numbers cite, are written into a folder of its name.
"""

import sys
from pathlib import Path

from finscale.core.files import write_json, write_text
from finscale.reporting.report import render_report
from finscale.reporting.summary import compose, scaling_summary, summary_markdown

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit" / "reporting"))
from simulated_study import STUDIES, build_study


def main(folder: Path) -> None:
    """Write every report."""
    for name, options in STUDIES.items():
        report = compose(build_study(**options))
        verdict = report.study.verdict.overall.verdict.value
        write_text(folder / name / "report.html", render_report(report))
        write_text(folder / name / "report.md", summary_markdown(report))
        write_json(folder / name / "scaling_summary.json", scaling_summary(report))
        print(f"{name}: verdict {verdict}, {folder / name / 'report.html'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
