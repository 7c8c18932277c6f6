"""What the filter keeps of a generation's samples, and what the cut did."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from ray_selfloop import seeding
from ray_selfloop.config.filter import Filter
from ray_selfloop.config.scores import IN_ALL_KEYS, SCORES
from ray_selfloop.filtering import cut, tilt
from ray_selfloop.images.imageset import Ids
from ray_selfloop.stages import kind
from ray_selfloop.stages.chain import Chain, Who
from ray_selfloop.stages.inputs import Inputs, save_array, save_images
from ray_selfloop.stages.kind import Held, Kind, Needs, Summary, Work
from ray_selfloop.stages.samples import Drawn, identity, read_samples

APART = {"expert", "review", *(score.group for score in SCORES.values())}
"""Settings of the filter that the cut does not read."""


class Tilt(Held):
    """Other subgroup shares that the kept set is resampled to: `queue.tilt`, by this seed."""

    tilt: float
    seed: int


class Settings(kind.Settings):
    """Beside this the filter's own settings, but for those of other stages.

    draw: the seed of ``keep: random``. labelled: whether it is published what subgroup each image
    shows, for `queue.balance`.
    """

    model_config = ConfigDict(extra="allow")

    tilt: Tilt | None = None
    draw: int = 0
    labelled: bool = False

    @property
    def filter(self) -> Filter:
        return Filter.model_validate(self.model_extra)


def settings(chain: Chain, n: int, who: Who) -> Settings:
    filters, wanted = chain.sweep.filter, chain.sweep.queue.tilt
    seed = chain.seed("tilt", n)
    tilted: dict[str, Any] = {} if wanted is None else {"tilt": Tilt(tilt=wanted, seed=seed)}
    own = filters.model_dump(mode="json", exclude=APART)
    if own["keep"] == "best":
        del own["keep"]
    elif own["keep"] == "random":
        own["draw"] = chain.seed("keep", n)
    if chain.sweep.queue.balance == "parity":
        own["labelled"] = True
    scores = {group: identity(getattr(filters, group)) for group in IN_ALL_KEYS}
    return Settings.model_validate({**own, **scores, **tilted})


def run(work: Work[Settings]) -> Summary:
    """Cut by rank, write the kept images as arrays, and audit what the cut did.

    With a ``tilt`` the kept set is then resampled to other subgroup shares; the audit speaks of
    the cut alone.
    """
    from ray_selfloop.stages.subgroups import reader

    drawn, settings = read_samples(work.inputs), work.settings.filter
    mask = _cut(drawn, work.settings)
    names = work.inputs.record("dataset").summary
    shape = len(names["class_names"]), len(names["subgroup_names"])
    subgroups = reader(work.inputs, work.device)(drawn.images, drawn.labels)
    rows: Ids = np.flatnonzero(mask)
    view = names.get("pictures")
    resampled: Summary = {}
    if work.settings.tilt is not None:
        rows, resampled = _tilted(work.settings.tilt, work.inputs, drawn.labels, subgroups, rows)
        rows = np.sort(rows) if view else rows  # pictures are read in their order
    save_images(work.folder, "images", drawn.images, rows)
    for name, values in (("labels", drawn.labels), ("ids", drawn.ids)):
        save_array(work.folder, name, values[rows])
    if work.settings.labelled:
        save_array(work.folder, "subgroups", subgroups[rows])
    return {
        **({"pictures": view} if view else {}),
        **cut.audit(drawn.scores, mask, drawn.labels, shape[0], settings),
        **cut.audit_subgroups(mask, drawn.labels, subgroups, shape),
        **resampled,
    }


def _cut(drawn: Drawn, settings: Settings) -> NDArray[np.bool_]:
    return cut.keep(drawn.scores, drawn.labels, drawn.ids, settings.filter, settings.draw)


def _tilted(
    wanted: Tilt, inputs: Inputs, labels: Ids, subgroups: Ids, rows: Ids
) -> tuple[Ids, Summary]:
    """Rows of the samples after resampling the kept ``rows``, and what that repeated."""
    shares = tilt.target(inputs.split("train").subgroup_shares(), wanted.tilt)
    found = tilt.resample(labels[rows], subgroups[rows], shares, seeding.rng(wanted.seed, "tilt"))
    return rows[found.rows], {"repeated": found.repeated, "missing": found.missing}


def stays(inputs: Inputs, drawn: Drawn) -> NDArray[np.bool_]:
    """Which samples the cut let through, ``(n,)``: where a tilt resampled them, it is cut anew."""
    settings = KIND.read(inputs.record("kept").config)
    if settings.tilt is not None:
        return _cut(drawn, settings)
    return np.isin(drawn.ids, inputs.array("kept", "ids"))


def designed(inputs: Inputs, name: str) -> bool:
    """Whether a tilt set the subgroup shares of this kept set."""
    return KIND.read(inputs.record(name).config).tilt is not None


KIND = Kind(
    "kept",
    version=1,
    holds=Settings,
    run="ray_selfloop.stages.kept:run",
    needs=Needs(gpu="gpus_per_trial"),
    settings=settings,
    threaded=False,
)
