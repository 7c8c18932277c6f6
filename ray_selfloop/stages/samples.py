"""Drawing, scoring and cutting: the samples stage and the kept stage.

Samples are drawn and scored in batches of one fixed shape. A batch is named by its first id, and
nothing in it depends on another batch or on the worker that draws it, so that the stage can run as
a loop here or as a stream over many workers with the same result.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import TypeAdapter

from ray_selfloop import queue, seeding
from ray_selfloop.classifiers import zoo
from ray_selfloop.config.filter import Clip, Filter, Uncertainty
from ray_selfloop.config.loop import Queue
from ray_selfloop.errors import StageError
from ray_selfloop.filtering import clip, cut, tilt, uncertainty
from ray_selfloop.generators import control
from ray_selfloop.generators.base import TrainingImages, worker
from ray_selfloop.graph import Stage
from ray_selfloop.images import tables
from ray_selfloop.images.imageset import Ids, ImageSource
from ray_selfloop.images.pictures import EncodedParts, Pictures, View, encode, seen
from ray_selfloop.stages.inputs import Inputs, save_array, save_images
from ray_selfloop.stages.lessons import scene_of, settings_of
from ray_selfloop.stages.subgroups import reader, within_class_shares
from ray_selfloop.stages.training import clip_view, load_classifier, pretrained, torch_device

Scores = dict[str, NDArray[Any]]


class Batch(NamedTuple):
    """Sample ids ``first .. first + size - 1``."""

    first: int
    size: int


class Plan(NamedTuple):
    """What one samples stage draws: the label of each sample id, and the batches."""

    labels: Ids
    batches: list[Batch]


def plan(config: Mapping[str, Any], train_labels: NDArray[np.int64], classes: int) -> Plan:
    """Labels in the class shares of the original data, so many that S is left after the cut."""
    settings = Queue(volume=config["volume"], count=config["count"])
    total = queue.volume(settings, "stack", len(train_labels))
    counts = queue.class_draws(
        settings, total, train_labels, classes, config["drop"], config["cut"]
    )
    labels = np.repeat(np.arange(classes), counts)
    size = config["batch"]
    starts = range(0, len(labels), size)
    batches = [Batch(start, min(size, len(labels) - start)) for start in starts]
    return Plan(labels, batches)


def plan_of(stage: Stage, inputs: Inputs) -> Plan:
    """The plan of a samples stage whose dataset is published."""
    classes = len(inputs.record("dataset").summary["class_names"])
    return plan(stage.config, inputs.array("dataset", "train_labels"), classes)


def open_sampler(stage: Stage, inputs: Inputs, device: str) -> Any:
    """What draws images: ``sample(ids, labels, seed) -> uint8 (b, C, H, W)``."""
    if stage.config.get("skewed"):
        return _skewed(stage, inputs, _read_shares(inputs, device))
    settings = settings_of(stage)
    by_turn = stage.config.get("reserve")
    labels = plan_of(stage, inputs).labels if by_turn else np.empty(0, np.int64)
    scene = scene_of(stage, inputs, torch_device(device), labels)
    return worker(settings).sampler(scene, settings)


def _skewed(stage: Stage, inputs: Inputs, read: list[NDArray[np.float64]]) -> control.SkewedReal:
    """Reserve images with the within-class subgroup shares of the unfiltered chain's kept sets.

    read: as `_read_shares` gives them; a class that is NaN there keeps the original data's shares.
    """
    reserve = inputs.split("reserve")
    original = inputs.split("train").subgroup_shares()
    return control.SkewedReal(
        TrainingImages(reserve.images, reserve.labels),
        np.asarray(reserve.subgroups),
        plan_of(stage, inputs).labels,
        [np.where(np.isnan(shares), original, shares) for shares in read],
        stage.config["reserve"]["seed"],
    )


def _read_shares(inputs: Inputs, device: str) -> list[NDArray[np.float64]]:
    """Of each kept set ``shares.<g>`` the shares ``(C, G)``; NaN for a class with none clear."""
    return [
        within_class_shares(inputs, inputs.images(name), inputs.array(name, "labels"), device)
        for name in inputs.named("shares")
    ]


class Draw:
    """Draws one batch of a samples stage."""

    def __init__(self, stage: Stage, inputs: Inputs, device: str) -> None:
        self._plan = plan_of(stage, inputs)
        self._sampler = open_sampler(stage, inputs, device)
        self._seed, self._shape = stage.config["seed"], stage.config["batch"]
        self._view, self._form = (
            picture_view(inputs),
            stage.config["generator"].get("picture_format"),
        )

    def __call__(self, batch: Batch) -> ImageSource:
        """uint8 ``(size, C, H, W)``; always drawn at the stage's one batch shape.

        Pictures are given as they will be stored: who scores them sees what will be trained on.
        """
        rows = np.arange(batch.first, batch.first + batch.size)
        padded = np.resize(rows, self._shape)
        images: ImageSource = self._sampler.sample(padded, self._plan.labels[padded], self._seed)
        if isinstance(images, Pictures):
            return images.take(np.arange(batch.size))
        if self._view and self._form:
            return Pictures([encode(i, self._form) for i in images[: batch.size]], self._view)
        return np.asarray(images[: batch.size])


def picture_view(inputs: Inputs) -> View | None:
    """How the dataset's pictures are seen; None where its images are arrays."""
    found = inputs.record("dataset").summary.get("pictures")
    return View(**found) if found else None


class Score:
    """Scores one batch of a samples stage: the CLIP score and the expert's uncertainty."""

    def __init__(self, stage: Stage, inputs: Inputs, device: str) -> None:
        self._plan = plan_of(stage, inputs)
        self._seed, self._device = stage.config["seed"], torch_device(device)
        self._clip = _open_clip(stage, inputs, device)
        self._clip_view = clip_view(stage.config["clip"], picture_view(inputs))
        self._uncertainty = stage.config["uncertainty"] and Uncertainty.model_validate(
            stage.config["uncertainty"]
        )
        self._experts: list[zoo.Classifier] = [
            load_classifier(inputs, name, device) for name in inputs.named("expert")
        ]

    def __call__(self, batch: Batch, images: ImageSource) -> Scores:
        """Score name -> ``(size,)``."""
        rows = np.arange(batch.first, batch.first + batch.size)
        scores: Scores = {}
        if self._clip:
            at = seen(images, self._clip_view) if self._clip_view else images
            scores[self._clip.name] = self._clip.score(at, self._plan.labels[rows])
        if self._uncertainty:
            passes = uncertainty.probabilities(
                self._experts, images, rows, self._uncertainty, self._seed, self._device
            )
            scores[cut.UNCERTAINTY] = uncertainty.uncertainty(passes, self._uncertainty)
        return scores


def _open_clip(stage: Stage, inputs: Inputs, device: str) -> Any:
    if stage.config["clip"] is None:
        return None
    chosen: Clip = TypeAdapter(Clip).validate_python({**stage.config["clip"], **pretrained(stage)})
    names, where = inputs.record("dataset").summary["class_names"], torch_device(device)
    if chosen.kind == "domain":
        at = clip_view(stage.config["clip"], picture_view(inputs))
        side = at.side if at else inputs.images("dataset", "train_images").shape[-1]
        return clip.DomainClip(inputs.weights("scorer"), names, side, chosen, where)
    return clip.OpenClip(names, chosen, where)


def write_part(
    folder: Path, batch: Batch, labels: Ids, images: ImageSource, scores: Scores
) -> Path:
    """One parquet file per batch, named by its first id; whole or not there.

    Column ``image``: the pixels of an array, whose shape stands in the schema's metadata; of a
    picture its file.
    """
    rows = np.arange(batch.first, batch.first + batch.size)
    encoded = isinstance(images, Pictures)
    column = (
        list(images.encoded)
        if isinstance(images, Pictures)
        else [i.tobytes() for i in np.asarray(images)]
    )
    table = pa.table({"id": rows, "label": labels[rows], "image": column, **scores})
    shape = {} if encoded else {"shape": str(list(images.shape[1:]))}
    table = table.replace_schema_metadata(shape)
    draft = folder / f".part-{batch.first:08d}"
    pq.write_table(table, draft, compression="zstd")
    return draft.rename(folder / part_of(batch))


def part_of(batch: Batch) -> str:
    """The name of a batch's file."""
    return f"part-{batch.first:08d}.parquet"


def samples(stage: Stage, inputs: Inputs, folder: Path, device: str) -> Mapping[str, Any]:
    """Draw, score and write all batches, one after another."""
    draw, score = Draw(stage, inputs, device), Score(stage, inputs, device)
    todo = plan_of(stage, inputs)
    written = []
    for batch in todo.batches:
        images = draw(batch)
        part = write_part(folder, batch, todo.labels, images, score(batch, images))
        written.append(part.name)
    return samples_summary(stage, inputs, written, device)


def samples_summary(
    stage: Stage, inputs: Inputs, written: Iterable[str], device: str
) -> Mapping[str, Any]:
    """What a finished samples stage publishes; raises StageError where a batch is missing.

    written: names of the parts that there are. Of arm `real_skewed` also ``repeated`` (draws that
    had come before in the chain) and ``unread_classes`` (no clear subgroup among their generated
    images).
    """
    todo = plan_of(stage, inputs)
    wanted = {part_of(batch) for batch in todo.batches}
    missing = wanted.difference(written)
    if missing:
        raise StageError(f"samples: {len(missing)} of {len(wanted)} batches are missing")
    skewed: dict[str, int] = {}
    if stage.config.get("skewed"):
        read = _read_shares(inputs, device)
        unread = int(np.isnan(read[-1]).any(axis=1).sum())
        skewed = {"repeated": _skewed(stage, inputs, read).repeated, "unread_classes": unread}
    return {"count": len(todo.labels), "parts": sorted(wanted), **skewed}


class Drawn(NamedTuple):
    """A samples stage read back: ids and labels ``(n,)``, images ``(n, C, H, W)``, scores."""

    ids: Ids
    labels: Ids
    images: ImageSource
    scores: Scores


def read_samples(inputs: Inputs, name: str = "samples") -> Drawn:
    """All samples by id; pictures are read when they are asked for."""
    record = inputs.record(name)
    paths = inputs.store.paths(record, record.summary["parts"])
    columns = pa.concat_tables([_without_images(path) for path in paths])
    scores = {c: columns[c].to_numpy() for c in columns.column_names if c not in ("id", "label")}
    images = _images_of(paths, inputs)
    return Drawn(columns["id"].to_numpy(), columns["label"].to_numpy(), images, scores)


def _images_of(paths: list[Path], inputs: Inputs) -> ImageSource:
    metadata = pq.read_metadata(paths[0]).metadata or {}
    if b"shape" not in metadata:
        view = picture_view(inputs)
        assert view is not None, "files are stored of picture datasets alone"
        return Pictures(EncodedParts(paths, "image"), view, inputs.decoders)
    shape = tuple(int(side) for side in metadata[b"shape"].strip(b"[]").split(b","))
    parts = [tables.read(path, ["image"])["image"].to_pylist() for path in paths]
    flat = np.frombuffer(b"".join(image for part in parts for image in part), np.uint8)
    return flat.reshape(-1, *shape)


def _without_images(path: Path) -> pa.Table:
    names = pq.read_metadata(path).schema.to_arrow_schema().names
    return tables.read(path, [n for n in names if n != "image"]).replace_schema_metadata(None)


def kept(stage: Stage, inputs: Inputs, folder: Path, device: str) -> Mapping[str, Any]:
    """Cut by rank, write the kept images as arrays, and audit what the cut did.

    With a ``tilt`` the kept set is then resampled to other subgroup shares; the audit speaks of
    the cut alone.
    """
    drawn = read_samples(inputs)
    settings = cut_settings(stage.config)
    mask = cut.keep(drawn.scores, drawn.labels, drawn.ids, settings)
    names = inputs.record("dataset").summary
    shape = len(names["class_names"]), len(names["subgroup_names"])
    subgroups = reader(inputs, device)(drawn.images, drawn.labels)
    rows: Ids = np.flatnonzero(mask)
    view = names.get("pictures")
    resampled: dict[str, Any] = {}
    if "tilt" in stage.config:
        rows, resampled = _tilted(stage.config["tilt"], inputs, drawn.labels, subgroups, rows)
        rows = np.sort(rows) if view else rows  # pictures are read in their order
    save_images(folder, "images", drawn.images, rows)
    for name, values in (("labels", drawn.labels), ("ids", drawn.ids)):
        save_array(folder, name, values[rows])
    return {
        **({"pictures": view} if view else {}),
        **cut.audit(drawn.scores, mask, drawn.labels, shape[0], settings),
        **cut.audit_subgroups(mask, drawn.labels, subgroups, shape),
        **resampled,
    }


def cut_settings(config: Mapping[str, Any]) -> Filter:
    """The settings of the cut in a kept stage's config, which may have a ``tilt`` beside them."""
    return Filter.model_validate({k: v for k, v in config.items() if k != "tilt"})


def _tilted(
    config: Mapping[str, Any], inputs: Inputs, labels: Ids, subgroups: Ids, rows: Ids
) -> tuple[Ids, dict[str, Any]]:
    """Rows of the samples after resampling the kept ``rows``, and what that repeated."""
    wanted = tilt.target(inputs.split("train").subgroup_shares(), config["tilt"])
    rng = seeding.rng(config["seed"], "tilt")
    found = tilt.resample(labels[rows], subgroups[rows], wanted, rng)
    return rows[found.rows], {"repeated": found.repeated, "missing": found.missing}
