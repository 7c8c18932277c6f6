"""The report of a sweep whose first stage has failed."""

from pathlib import Path

from ray_selfloop.conclusion.conclude import Conclusion
from ray_selfloop.planning import prepare
from ray_selfloop.running import Run


def test_a_sweep_whose_dataset_failed_has_a_report_that_says_so(micro: list[str]) -> None:
    plan = prepare(micro)
    run = Run(plan)
    (dataset,) = plan.graph.of_kind("dataset")
    run.progress.failed[dataset.stage.key] = "DataError: the scans are not there"
    conclusion = Conclusion(run, 1.0)
    page = Path(conclusion.report).read_text(encoding="utf-8")
    assert "DataError: the scans are not there" in page
    assert "not run: a stage that it needs has failed" in page
    assert len(conclusion.view.failures) == len(list(plan.graph))
    assert conclusion.results.empty
    conclusion.summarise()
