"""What an MLflow server has of a sweep's runs, and writing what it lacks."""

import re
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ray_selfloop.tracking.layout import (
    SWEEP_TAG,
    TAG_LENGTH,
    Artifact,
    Point,
    TrackedRun,
    digest,
    metric_name,
)

KEY_TAG = "selfloop.key"
WRITTEN_TAG = "selfloop.written"
SUPERSEDED_TAG = "selfloop.superseded"
PARENT_TAG = "mlflow.parentRunId"
METRICS_PER_BATCH = 900  # MLflow takes 1000 entries, parameters and tags included


class Writer:
    """One pass over an experiment: finds what is there, writes the rest.

    Every call may be cut at any point, be repeated by the HTTP layer, and take effect although
    its answer was lost. A batch is safe: MLflow drops a row that it has already. A creation is
    not, so that runs are looked up by key, before writing and once more after a creation.
    """

    def __init__(self, client: Any, late: threading.Event, sweep: str) -> None:
        self.client, self.late, self.sweep = client, late, sweep
        self.experiment = ""
        self.known: dict[str, Any] = {}

    def open(self, name: str, location: str | None) -> None:
        """Find or make the experiment, and find the sweep's runs in it."""
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                self.client.create_experiment(name, artifact_location=location)
            except MlflowException as error:  # by another writer, or by a call whose answer is lost
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = self.client.get_experiment_by_name(name)
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        self.experiment = found.experiment_id
        self._look_up()

    def _look_up(self) -> None:
        """Key -> run. Of runs with one key, made by a repeated call, all but one are deleted."""
        found: dict[str, list[Any]] = defaultdict(list)
        for run in self._existing():
            found[run.data.tags[KEY_TAG]].append(run)
        for key, runs in found.items():
            self.known[key], *copies = sorted(  # the one with the most in it comes first
                runs,
                key=lambda r: (WRITTEN_TAG not in r.data.tags, -len(r.data.metrics), r.info.run_id),
            )
            for copy in copies:
                self.client.delete_run(copy.info.run_id)

    def _existing(self) -> Iterator[Any]:
        query, token = f"tags.`{SWEEP_TAG}` = '{self.sweep}'", None
        while True:
            page = self.client.search_runs(
                [self.experiment], query, max_results=1000, page_token=token
            )
            yield from (
                run
                for run in page
                if KEY_TAG in run.data.tags and SUPERSEDED_TAG not in run.data.tags
            )
            token = page.token
            if not token:
                return

    def write(self, runs: Sequence[TrackedRun]) -> None:
        """All numbers first: trouble with the store of artifacts costs none of them."""
        before = set(self.known)
        identities: dict[str, str] = {}
        for run in runs:
            self._stop_if_late()
            identities[run.key] = self._write_one(run, identities.get(run.parent, ""))
        if set(self.known) - before:
            self._look_up()
        for run in runs:
            self._log_artifacts(run)

    def _stop_if_late(self) -> None:
        if self.late.is_set():
            raise TimeoutError("nobody waits for it any more")

    def _write_one(self, run: TrackedRun, parent: str) -> str:
        """The run's MLflow id, after every number that it lacked is written."""
        there = self.known.get(run.key) or self._create(run, parent)
        missing = self._missing(there, run)
        if missing is None:
            self._supersede(there, run)
            there, missing = self._create(run, parent), list(run.points)
        self._log(there, run, parent, missing)
        status = "FAILED" if run.failed else "FINISHED"
        if there.info.status != status or there.info.end_time != run.end:
            self.client.set_terminated(there.info.run_id, status, end_time=run.end)
        return str(there.info.run_id)

    def _missing(self, there: Any, run: TrackedRun) -> list[Point] | None:
        """The points that MLflow lacks; None where it holds another number in a point's place.

        What the tag says is there, is; what lies beyond a metric's latest step is not. So the
        history, a call per metric, is read only after a writer was cut off or a number has moved.
        """
        written, wanted = _written(there.data.tags), _digests(run)
        latest = {metric.key: metric.step for metric in there.data.to_proto().metrics}
        unsure = [p for p in run.points if written.get(p.step) != wanted[p.step]]
        beyond = [p for p in unsure if p.key not in latest or p.step > latest[p.key]]
        within = [p for p in unsure if p.key in latest and p.step <= latest[p.key]]
        recorded = self._recorded(there.info.run_id, {p.key for p in within})
        if any(recorded.get((p.key, p.step), p.value) != p.value for p in within):
            return None
        return beyond + [p for p in within if (p.key, p.step) not in recorded]

    def _recorded(self, identity: str, keys: Iterable[str]) -> dict[tuple[str, int], float]:
        return {
            (key, point.step): point.value
            for key in sorted(keys)
            for point in self.client.get_metric_history(identity, key)
        }

    def _supersede(self, there: Any, run: TrackedRun) -> None:
        identity = there.info.run_id
        self.client.update_run(identity, name=f"{run.name} (superseded)")
        self.client.set_tag(identity, SUPERSEDED_TAG, "true", synchronous=True)  # last: the run is
        # found and superseded again where this is not reached

    def _create(self, run: TrackedRun, parent: str) -> Any:
        tags = {**run.tags, KEY_TAG: run.key, **({PARENT_TAG: parent} if parent else {})}
        made = self.client.create_run(
            self.experiment, start_time=run.start, tags=tags, run_name=run.name
        )
        self.known[run.key] = made
        return made

    def _log(self, there: Any, run: TrackedRun, parent: str, points: Sequence[Point]) -> None:
        """Parameters, numbers, and with the last of them the tag that says which are there."""
        from mlflow.entities import Metric, Param, RunTag

        digests = sorted({**_written(there.data.tags), **_digests(run)}.items())
        said = " ".join(f"{step}:{digest}" for step, digest in digests)  # 0:1a2b3c4d 1:5e6f7a8b
        tags = {**run.tags, WRITTEN_TAG: said[:TAG_LENGTH]}  # histories tell what is cut off
        if parent:
            tags[PARENT_TAG] = parent
        params = {k: str(v) for k, v in run.params.items() if k not in there.data.params}
        metrics = [Metric(p.key, p.value, p.timestamp, p.step) for p in sorted(points)]
        identity, last = there.info.run_id, METRICS_PER_BATCH * (len(metrics) // METRICS_PER_BATCH)
        for first in range(0, last, METRICS_PER_BATCH):
            batch = metrics[first : first + METRICS_PER_BATCH]
            self.client.log_batch(identity, metrics=batch, synchronous=True)
        self.client.log_batch(
            identity,
            metrics=metrics[last:],
            params=[Param(key, value) for key, value in sorted(params.items())],
            tags=[RunTag(k, v) for k, v in tags.items() if there.data.tags.get(k) != v],
            synchronous=True,
        )

    def _log_artifacts(self, run: TrackedRun) -> None:
        there = self.known[run.key]
        for artifact in run.artifacts:
            self._stop_if_late()
            name = metric_name(f"selfloop.artifact.{artifact.folder}/{artifact.path.name}")
            content = digest(artifact.path.read_bytes())
            if there.data.tags.get(name) != content:
                self._log_artifact(there.info, artifact)
                self.client.set_tag(there.info.run_id, name, content, synchronous=True)

    def _log_artifact(self, run: Any, artifact: Artifact) -> None:
        path, folder = str(artifact.path), artifact.folder or None
        if not run.artifact_uri.startswith("file:"):
            self.client.log_artifact(run.run_id, path, folder)
            return
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        # The client remembers places by a run's id alone, and a copied run has the same.
        get_artifact_repository(run.artifact_uri).log_artifact(path, folder)


def _digests(run: TrackedRun) -> dict[int, str]:
    """Step -> digest of the run's numbers of that step."""
    numbers: dict[int, list[tuple[str, float]]] = defaultdict(list)
    for point in sorted(run.points):
        numbers[point.step].append((point.key, point.value))
    return {step: digest(repr(of_step).encode())[:8] for step, of_step in numbers.items()}


def _written(tags: Mapping[str, str]) -> dict[int, str]:
    """The steps that a run's tag says are written whole, with their digests."""
    found = re.findall(r"(\d+):([0-9a-f]{8})", tags.get(WRITTEN_TAG, ""))
    return {int(step): digest for step, digest in found}
