"""One generation's samples: drawn, and scored by what the filter reads.

Samples are drawn and scored in batches of one fixed shape. A batch is named by its first id, and
nothing in it depends on another batch or on the worker that draws it, so that the stage can run as
a loop here or as a stream over many workers with the same result.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from ray_selfloop import queue
from ray_selfloop.classifiers import weights
from ray_selfloop.config.filter import Filter
from ray_selfloop.config.loop import Queue
from ray_selfloop.config.scores import IN_ALL_KEYS, SCORES, ScoreSettings
from ray_selfloop.errors import StageError
from ray_selfloop.filtering.cut import drop_share
from ray_selfloop.images import tables
from ray_selfloop.images.imageset import Ids, ImageSource
from ray_selfloop.images.pictures import EncodedParts, Pictures, View
from ray_selfloop.stages import generator, kind
from ray_selfloop.stages.chain import Chain, Who, located
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.kind import Held, Kind, Needs, Places, Summary, Work

Scores = dict[str, NDArray[Any]]


class ByTurn(Held):
    """Which generation draws, and by which seed of its chain: no two draw the same."""

    generation: int
    seed: int


class Settings(kind.Settings):
    """generator: those of its settings that drawing depends on. reserve: of one that draws by turn.

    volume, count: S. drop, cut: how much is drawn for S to be left. batch: samples drawn at once.
    scores: of those whose settings are their own, or none, and of later versions than the first,
    the version. expert: who is read. skewed: whether real images are drawn with generated ones'
    subgroup shares. Beside these the groups of `filter` that scores read, None for one that is not.
    """

    model_config = ConfigDict(extra="allow")

    generator: dict[str, Any] = Field(default_factory=dict)
    reserve: ByTurn | None = None
    volume: int | str = "D0"
    count: Literal["after_filtering", "before_filtering"] = "after_filtering"
    drop: float = 0.0
    cut: str = "per_class"
    scores: dict[str, int] = Field(default_factory=dict)
    expert: str | None = None
    seed: int = 0
    batch: int = 1
    skewed: bool = False

    def scored_by(self, places: Places) -> dict[str, Any]:
        """Each score that is asked for, with its settings."""
        held = {group: own for group, own in (self.model_extra or {}).items() if own is not None}
        there = {group: {**own, **places.scores.get(group, {})} for group, own in held.items()}
        groups = Filter.model_validate(there)
        of = {
            score: getattr(groups, score.group) for score in SCORES.values() if score.group in held
        }
        asked = {score.name: own for score, own in of.items() if score.fits(own)}
        return {**asked, **{name: None for name in self.scores if name not in asked}}


def settings(chain: Chain, n: int, who: Who) -> Settings:
    sweep, filters, own = chain.sweep, chain.sweep.filter, chain.sweep.generator
    turn = ByTurn(generation=n, seed=chain.seed("reserve")) if own.traits.by_turn else None
    versions = {s.name: s.version for s in filters.scores if s.version > 1 or not s.settings}
    groups = {group: identity(own) for group, own in filters.groups.items()}
    more: dict[str, Any] = {**dict.fromkeys(IN_ALL_KEYS), **groups}
    if versions:
        more["scores"] = versions
    if chain.arm.shares_of:
        more["skewed"] = True
    return Settings(
        generator=generator.identity(own, own.TRAINING, n),
        reserve=turn,
        volume=chain.volume,
        count=sweep.queue.count,
        drop=drop_share(filters),
        cut=filters.cut,
        expert=chain.expert[0].network if filters.uses_expert else None,
        seed=chain.seed("samples", n),
        batch=own.at_once or sweep.compute.sample_batch,
        **more,
    )


def identity(settings: ScoreSettings) -> dict[str, Any]:
    """What scores depend on of their settings: a file counts by its content."""
    found = settings.model_dump(mode="json")
    files = {name for name in settings.FILES if os.path.isfile(found[name])}
    return {**found, **{name: weights.source("", found[name]) for name in files}}


def places(chain: Chain, who: Who) -> Mapping[str, Any]:
    groups = chain.sweep.filter.groups.items()
    files = {g: {name: located(getattr(own, name)) for name in own.FILES} for g, own in groups}
    found = {group: named for group, named in files.items() if named}
    return {"scores": found} if found else {}


class Batch(NamedTuple):
    """Sample ids ``first .. first + size - 1``."""

    first: int
    size: int


class Plan(NamedTuple):
    """What one samples stage draws: the label of each sample id, and the batches."""

    labels: Ids
    batches: list[Batch]


def plan(work: Work[Settings]) -> Plan:
    """Labels in the class shares of the original data, so many that S is left after the cut.

    The dataset must be published.
    """
    held, classes = work.settings, len(work.inputs.record("dataset").summary["class_names"])
    train_labels = work.inputs.array("dataset", "train_labels")
    settings = Queue(volume=held.volume, count=held.count)
    total = queue.volume(settings, "stack", len(train_labels))
    counts = queue.class_draws(settings, total, train_labels, classes, held.drop, held.cut)
    labels = np.repeat(np.arange(classes), counts)
    starts = range(0, len(labels), held.batch)
    batches = [Batch(start, min(held.batch, len(labels) - start)) for start in starts]
    return Plan(labels, batches)


def picture_view(inputs: Inputs) -> View | None:
    """How the dataset's pictures are seen; None where its images are arrays."""
    found = inputs.record("dataset").summary.get("pictures")
    return View(**found) if found else None


def run(work: Work[Settings]) -> Summary:
    """Draw, score and write all batches, one after another."""
    from ray_selfloop.stages.drawing import Draw, Score

    draw, score, todo = Draw(work), Score(work), plan(work)
    written = []
    for batch in todo.batches:
        images = draw(batch)
        part = write_part(work.folder, batch, todo.labels, images, score(batch, images))
        written.append(part.name)
    return summary(work, written)


def summary(work: Work[Settings], written: Iterable[str]) -> Summary:
    """What a finished samples stage publishes; raises StageError where a batch is missing.

    written: names of the parts that there are. Of arm `real_skewed` also ``repeated`` (draws that
    had come before in the chain) and ``unread_classes`` (no clear subgroup among their generated
    images).
    """
    todo = plan(work)
    wanted = {part_of(batch) for batch in todo.batches}
    missing = wanted.difference(written)
    if missing:
        raise StageError(f"samples: {len(missing)} of {len(wanted)} batches are missing")
    skewed: Summary = {}
    if work.settings.skewed:
        from ray_selfloop.stages.drawing import skew

        skewed = skew(work)
    return {"count": len(todo.labels), "parts": sorted(wanted), **skewed}


def write_part(
    folder: Path, batch: Batch, labels: Ids, images: ImageSource, scores: Scores
) -> Path:
    """One parquet file per batch, named by its first id; whole or not there.

    Column ``image``: the pixels of an array, whose shape stands in the schema's metadata; of a
    picture its file.
    """
    rows = np.arange(batch.first, batch.first + batch.size)
    if isinstance(images, Pictures):
        column, shape = list(images.encoded), {}
    else:
        column = [image.tobytes() for image in np.asarray(images)]
        shape = {"shape": str(list(images.shape[1:]))}
    table = pa.table({"id": rows, "label": labels[rows], "image": column, **scores})
    table = table.replace_schema_metadata(shape)
    draft = folder / f".part-{batch.first:08d}"
    pq.write_table(table, draft, compression="zstd")
    return draft.rename(folder / part_of(batch))


def part_of(batch: Batch) -> str:
    return f"part-{batch.first:08d}.parquet"


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


KIND = Kind(
    "samples",
    version=1,
    holds=Settings,
    run="ray_selfloop.stages.samples:run",
    needs=Needs(how="stream", gpu="gpus_per_generator"),
    settings=settings,
    places=places,
)
