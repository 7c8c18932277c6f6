"""From published records to what people read: results table, MLflow, report, terminal.

Everything here is derived from the store; it can be made again at any time and computes nothing
that a stage should have computed. What each of the four holds is decided beside this file.
"""

import tempfile
from hashlib import sha256
from pathlib import Path

from ray_selfloop import earlier
from ray_selfloop.conclusion import asrun
from ray_selfloop.conclusion.results import RESULTS, write_results
from ray_selfloop.conclusion.tracked import tracked_sweep
from ray_selfloop.conclusion.view import report_view
from ray_selfloop.config.plain import masked
from ray_selfloop.report import page, terminal
from ray_selfloop.running import Run
from ray_selfloop.tracking import layout, sync
from ray_selfloop.tracking.layout import Artifact

REPORT = "report.html"
OWN = (REPORT, asrun.SETTINGS, asrun.EFFECTS, RESULTS)
"""The sweep's own files; without the table all is written again."""


class Conclusion:
    """What is said of one run; the results table is written when it is made.

    The report too where there is none of the same results: files of other settings must not stay
    side by side, and a run's own report, which knows what it took, is not replaced by looking on.
    """

    def __init__(self, run: Run, wall_seconds: float = float("nan")) -> None:
        self.run, self.plan = run, run.plan
        self._say(earlier.keep(run.plan, OWN))
        before = self._files()
        self.results = write_results(run.plan)
        asrun.write(run.plan)
        self.view = report_view(run, self.results, wall_seconds)
        if self._files() != before or REPORT not in before:
            self.write_report()

    @property
    def report(self) -> str:
        return self.plan.place(REPORT)

    def write_report(self) -> None:
        """Write the report of this run, over what may be there."""
        self.plan.write(REPORT, lambda path: page.write(self.view, path))

    def _files(self) -> dict[str, bytes]:
        """Name -> digest of the files that are there."""
        with tempfile.TemporaryDirectory(prefix="selfloop-") as scratch:
            there = self.plan.copies((REPORT, RESULTS), Path(scratch))
            return {path.name: sha256(path.read_bytes()).digest() for path in there}

    def track(self) -> list[str]:
        """Write to MLflow what it lacks; trouble with it is printed and returned, never raised."""
        try:
            warnings = self._sync()
        except Exception as error:  # what is drawn for MLflow must cost no result either
            warnings = [sync.trouble(self.run.tracking_uri, error)]
        self._say(*warnings)
        return warnings

    def _sync(self) -> list[str]:
        with tempfile.TemporaryDirectory(prefix="selfloop-figures-") as scratch:
            files = {
                scenario: [Artifact(path, "figures") for path in paths]
                for scenario, paths in page.artifacts(self.view, Path(scratch)).items()
            }
            files[""] = [Artifact(path) for path in self.plan.copies(OWN, Path(scratch))]
            tracked = tracked_sweep(self.plan, self.run.progress, self.results, files)
            runs = layout.plan(tracked)
            return sync.sync(self.run.tracking_uri, self.plan.sweep.name, runs)

    def _say(self, *sentences: str) -> None:
        for sentence in filter(None, sentences):
            self.run.console.print(sentence, style="yellow", highlight=False, markup=False)

    def summarise(self) -> None:
        """The final tables, the verdicts and the paths, for a person at a terminal."""
        results = self.plan.place(RESULTS)
        paths = terminal.Paths(results, self.report, masked(self.run.tracking_uri))
        terminal.summary(self.run.console, self.view, paths)


def conclude(run: Run, wall_seconds: float) -> None:
    """Write results table, report and MLflow, and print the summary."""
    conclusion = Conclusion(run, wall_seconds)
    conclusion.write_report()
    conclusion.track()
    conclusion.summarise()
