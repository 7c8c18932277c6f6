"""The whole of a sweep file, and the scenarios that its axes span. Imports no torch and no ray."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pkgutil import resolve_name
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from ray_selfloop.config.arms import ARMS, TREATMENT
from ray_selfloop.config.base import Settings
from ray_selfloop.config.datasets.known import DEFAULT, Dataset
from ray_selfloop.config.decide import Decide
from ray_selfloop.config.evaluation import JUDGING, PIXEL_FEATURES, Evaluation, Judge, Probe
from ray_selfloop.config.filter import Expert, Filter
from ray_selfloop.config.generators import known
from ray_selfloop.config.generators.gan import ConditionalGan
from ray_selfloop.config.generators.known import Generator
from ray_selfloop.config.loop import Loop, Queue
from ray_selfloop.config.networks import EXPERT, TRAINED, Name
from ray_selfloop.config.tracking import Tracking
from ray_selfloop.config.training import Training
from ray_selfloop.config.tune import Tune

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
USING_SUBGROUPS = tuple(arm.name for arm in reversed(ARMS.values()) if arm.subgroups)
MOST_SCENARIOS = 1_000
OF_THE_STORE = (
    "stages", "unfinished", "leases", "drivers", "failures", "declarations", "looks",
    "mlflow.db", "mlflow-artifacts",
)  # fmt: skip
LEAST_PART = 0.01  # of a GPU, that a stage may ask for
TOGETHER = "eq. 6, claims and labels judge all scenarios together"
ONE_FOR_A_SWEEP: Mapping[str, str] = {
    "name": "it is the folder of the whole sweep's results",
    "storage": "all scenarios share their stages there",
    "storage_shared": "there is one storage",
    "axes": "axes are not nested",
    "decide": "the sweep is decided as a whole",
    "tracking": "all scenarios are tracked in one place",
    "resources": "it changes no result, and all scenarios run side by side",
    "dataset.download": "it fetches files and changes no result",
    "generator.checkpoint_every": "it saves work and changes no result",
    **{f"evaluation.{name}": TOGETHER for name in JUDGING},
}
"""Settings, or groups of them, that no axis can set, and why."""
NOT_IN_A_SCENARIO = tuple(key for key in ONE_FOR_A_SWEEP if "." not in key)


def _placeable(gpus: float) -> float:
    """What Ray can place: nothing, a part of one GPU, or whole ones."""
    if not (gpus == 0 or LEAST_PART <= gpus <= 1 or (gpus > 1 and gpus % 1 == 0)):
        raise ValueError(f"must be 0, a part of one GPU from {LEAST_PART} to 1, or a whole number")
    return gpus


Gpus = Annotated[float, AfterValidator(_placeable)]


class Resources(Settings):
    """What the sweep may use. Never in a key: it changes no result, but for whether a stage
    computes on a GPU at all, which is in its key."""

    num_cpus: int | None = Field(
        default=None,
        ge=1,
        description="CPU cores to use, on this machine no more than there are; null: as many as "
        "its quota and memory allow, or all of the cluster.",
    )
    nice: int = Field(
        default=0,
        ge=0,
        le=19,
        description="Nice level of the workers on this machine, above that of the command.",
    )
    gpus_per_trial: Gpus | Literal["auto"] = Field(
        default=0.0,
        description="GPUs of one classifier trial, and of one stage that reads with a network. A "
        "part of one is also the part of its memory that the trial may take. `auto`: by network, "
        "picture size and batch size, estimated for a GPU of 24 GB; `plan` shows it.",
    )
    gpus_of: dict[Name, Gpus] = Field(
        default_factory=dict,
        description="Per network: GPUs of one trial, where they differ from gpus_per_trial.",
    )
    gpus_per_generator: Gpus = Field(
        default=0.0,
        description="GPUs of generator training (of each worker where it has several) and of one "
        "pair of drawing and scoring workers.",
    )
    sampling_workers: int = Field(
        default=1,
        ge=1,
        description="Pairs of workers that draw and score the samples of a chain; on CPUs twice as "
        "many tasks, and no more than one for 8 batches.",
    )
    decoding_threads: int = Field(
        default=1,
        ge=1,
        description="Threads of one stage that decode pictures (Hard ImageNet, Breeds); decoding "
        "runs beside the GPU, one batch ahead.",
    )

    def on_gpu(self, asked: str, network: str) -> bool:
        """Whether a stage has a part of a GPU. asked: the field that says how much ("": none).
        network: that it trains, or ""."""
        if not asked:
            return False
        part = getattr(self, asked)
        if asked == "gpus_per_trial":
            part = self.gpus_of.get(network, part)
        return part == "auto" or part > 0


class Compute(Settings):
    """How numbers are computed; part of every key, because it changes results in the last bits.
    Whether on a GPU, which is in the keys too, follows from `resources`."""

    threads: int = Field(default=1, ge=1, description="CPU threads of one stage.")
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="Of what trains: classifiers, the probe, generators (beside the precision that "
        "diffusion models have of their own). `bfloat16`: by torch.autocast, weights stay float32; "
        "benchmarks/training.py --precision measures whether a machine gains by it, and CPUs "
        "without instructions for it do not. float32 is never TF32.",
    )
    sample_batch: int = Field(
        default=256, ge=1, description="Samples drawn and scored at once, at one fixed shape."
    )


class PartError(ValueError):
    """A group of settings that is validated apart is at fault; raised from its ValidationError.

    path: where the group stands in the sweep file. model: what it was validated as.
    """

    def __init__(self, path: str, model: type[Settings]) -> None:
        super().__init__(path)
        self.path, self.model = path, model


class AxesError(ValueError):
    """Axes are at fault. wrong: each axis ("" for all of them), and what is wrong with it."""

    def __init__(self, wrong: Sequence[tuple[str, str]]) -> None:
        super().__init__(wrong[0][1])
        self.wrong = wrong


class Sweep(Settings):
    """One sweep: the settings of its scenarios, and the axes along which they differ."""

    name: str = Field(
        default="sweep", pattern=NAME, max_length=100, description="Folder of the results."
    )
    storage: str = Field(
        default="./selfloop-results",
        min_length=1,
        description="Where everything goes: a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX.",
    )
    storage_shared: bool = Field(
        default=False,
        description="Whether a storage folder is one that every node of the cluster sees.",
    )
    dataset: Dataset = Field(default_factory=DEFAULT)
    generator: Generator = Field(default_factory=ConditionalGan)
    loop: Loop = Field(default_factory=Loop)
    queue: Queue = Field(default_factory=Queue)
    filter: Filter = Field(default_factory=Filter)
    classifiers: tuple[Name, ...] = Field(
        default=TRAINED,
        min_length=1,
        description="Networks trained in every generation; `timm/NAME` is any network of timm that "
        "takes square RGB images.",
    )
    training: Training = Field(default_factory=Training)
    training_of: dict[Name, dict[str, Any]] = Field(
        default_factory=dict,
        description="Per network: `training` fields that differ for it.",
    )
    tune: Tune | None = Field(
        default=None,
        description="Search learning rate and weight decay of each classifier at generation 0; "
        "what is found is fixed for the whole chain. null: as in `training`. `{}`: the defaults.",
    )
    evaluation: Evaluation = Field(default_factory=Evaluation)
    decide: Decide | None = Field(
        default=None,
        description="Add chains until the primary statements are decided. null: the chains of "
        "`loop.loop_seeds`, one look. `{}`: the defaults.",
    )
    tracking: Tracking = Tracking()
    resources: Resources = Field(default_factory=Resources)
    compute: Compute = Field(default_factory=Compute)
    axes: dict[str, list[Any]] = Field(
        default_factory=dict,
        description="Dotted key -> values; scenarios are their product. A value that is a group of "
        "dotted keys sets them together: {loop.regime: replace, queue.volume: D0}.",
    )

    def training_for(self, network: str) -> Training:
        """The training settings of one network."""
        own = self.training_of.get(network, {})
        return Training.model_validate({**self.training.model_dump(), **own})

    @property
    def expert(self) -> Expert:
        """Whose uncertainty the filter reads in a shared chain, by name."""
        named = self.filter.expert.classifier
        default = EXPERT if EXPERT in self.classifiers else Judge().classifier
        return self.filter.expert.model_copy(update={"classifier": named or default})

    @property
    def probe(self) -> Probe:
        """What reads the subgroups of generated images, with the dataset's own augmentation."""
        probe = self.evaluation.probe
        own = self.dataset.traits.augment
        return probe if probe.augment else probe.model_copy(update={"augment": own})

    @property
    def trials(self) -> int:
        """Classifier trainings of one scenario with these settings."""
        loop = self.loop
        each = self.decide.looks[-1] if self.decide else len(loop.loop_seeds)
        chains = each * (loop.generations + 1)
        return chains * len(self.classifiers) * len(loop.classifier_seeds)

    @field_validator("name")
    @classmethod
    def _name_is_free(cls, name: str) -> str:
        if name in OF_THE_STORE:
            raise ValueError(f"must be none of {', '.join(OF_THE_STORE)}, which the storage holds")
        return name

    @field_validator("classifiers")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            raise ValueError("a classifier is listed twice")
        return names

    @field_validator("axes")
    @classmethod
    def _axes_span_scenarios(cls, axes: dict[str, list[Any]]) -> dict[str, list[Any]]:
        wrong = [*_wrong_axes(axes)]
        if wrong:
            raise AxesError(wrong)
        return axes

    @model_validator(mode="after")
    def _training_of_is_valid(self) -> Self:
        for network in self.training_of:
            try:
                self.training_for(network)
            except ValidationError as error:
                raise PartError(f"training_of.{network}", Training) from error
        return self

    @model_validator(mode="after")
    def _what_is_searched_is_free(self) -> Self:
        for network in self.classifiers if self.tune else ():
            assert self.tune is not None
            self.tune.require_free(self.training_for(network))
        return self

    @model_validator(mode="after")
    def _chains_are_left_to_the_looks(self) -> Self:
        if self.decide and "loop.loop_seeds" in str(self.axes):
            raise ValueError(
                "axes.loop.loop_seeds: with decide every scenario gets the chains of the looks; "
                "leave the axis out, or write decide=null"
            )
        last = self.decide.looks[-1] if self.decide else len(self.loop.loop_seeds)
        if len(self.loop.loop_seeds) > last:
            raise ValueError(
                f"decide.looks: the last look has {last} chains, and loop.loop_seeds names "
                f"{len(self.loop.loop_seeds)}; add a look, or leave seeds out"
            )
        return self

    @model_validator(mode="after")
    def _roles_are_trained(self) -> Self:
        judge = self.evaluation.judge
        self._require("evaluation.judge", judge)
        unknown = set(self.evaluation.features) - {*PIXEL_FEATURES, judge.classifier}
        if unknown:
            raise ValueError(
                f"evaluation.features: {sorted(unknown)[0]} is not known; "
                f"known: {', '.join(PIXEL_FEATURES)}, {judge.classifier} (the judge's)"
            )
        if self.filter.uses_expert:
            own = self.loop.chain == "per_classifier"
            self._require("filter.expert", self.expert, any_classifier=own)
        return self

    @model_validator(mode="after")
    def _scores_have_experts(self) -> Self:
        seeds, trained = self.filter.expert.seeds, self.loop.classifier_seeds
        for own in self.filter.groups.values():
            if unmet := own.unmet(seeds, trained):
                raise ValueError(unmet)
        return self

    @model_validator(mode="after")
    def _arm_has_a_treatment(self) -> Self:
        arm, name = self.loop.arm, self.generator.name
        if arm != TREATMENT.name and self.generator.traits.real:
            raise ValueError(
                f"loop.arm: {arm} is a control of a treatment with a generator, and "
                f"generator.name is {name}, itself a control; write "
                f"generator.name={self._fitting_generator}, or loop.arm={TREATMENT.name}"
            )
        return self

    @property
    def _fitting_generator(self) -> str:
        """The generator that draws the dataset's images."""
        return known.fitting(self._images)

    @property
    def _images(self) -> str:
        """What the dataset consists of, as generators name what they draw."""
        return "pictures" if self.dataset.traits.pictures else "arrays"

    @model_validator(mode="after")
    def _generator_draws_such_images(self) -> Self:
        name, wanted = self.generator.name, self._fitting_generator
        if self.generator.traits.draws not in ("either", self._images):
            raise ValueError(
                f"generator.name: {name} does not draw the images of dataset {self.dataset.name}; "
                f"write generator.name={wanted}, or one of {', '.join(known.for_any())}"
            )
        return self

    @model_validator(mode="after")
    def _subgroups_are_there(self) -> Self:
        if self.dataset.subgroups_from != "none":
            return self
        if ARMS[self.loop.arm].subgroups:
            raise ValueError(
                f"loop.arm: {self.loop.arm} resamples by subgroup, and {self.dataset.name} has no "
                f"subgroups; write loop.arm={TREATMENT.name}, or any but "
                f"{', '.join(USING_SUBGROUPS)}"
            )
        if self.queue.tilt is not None:
            raise ValueError(
                f"queue.tilt: {self.queue.tilt:g} resamples by subgroup, and {self.dataset.name} "
                "has no subgroups; write queue.tilt=null"
            )
        if self.queue.balance != "none":
            raise ValueError(
                f"queue.balance: {self.queue.balance} resamples by subgroup, and "
                f"{self.dataset.name} has no subgroups; write queue.balance=none"
            )
        return self

    @model_validator(mode="after")
    def _mixing_has_a_meaning(self) -> Self:
        ratio, regime = self.queue.mixing.ratio, self.loop.regime
        if ratio != "all" and regime not in ("stack", "accumulate"):
            raise ValueError(
                f"queue.mixing.ratio: {ratio} has no meaning under loop.regime {regime}, "
                "which fixes the share itself; write queue.mixing.ratio=all"
            )
        return self

    def _require(self, role: str, expert: Expert | Judge, any_classifier: bool = False) -> None:
        if not any_classifier and expert.classifier not in self.classifiers:
            for name in self.classifiers:  # what a typo in a network's name comes to
                resolve_name("ray_selfloop.classifiers.known:network")(name)
            raise ValueError(
                f"{role}.classifier: {expert.classifier} is not trained; "
                f"classifiers: {', '.join(self.classifiers)}; write "
                f"{role}.classifier={self.classifiers[0]}"
            )
        seeds = self.loop.classifier_seeds
        missing = sorted(set(expert.seeds) - set(seeds))
        if missing:
            raise ValueError(
                f"{role}.seeds: {missing} are not trained; loop.classifier_seeds: {list(seeds)}; "
                f"write {role}.seeds={list(seeds[:1])}"
            )


class Scenario(Settings):
    """One point of the axes: a name, the axes' values and the whole settings there.

    short: key -> how it is called in names, see `short_keys`.
    """

    name: str
    values: Mapping[str, Any]
    sweep: Sweep
    short: Mapping[str, str]


def why_no_axis(key: str) -> str:
    """Why a key cannot differ between scenarios; empty where it can."""
    if key == "evaluation":
        return "it holds what judges them together; give its other settings one by one"
    found = (why for one, why in ONE_FOR_A_SWEEP.items() if f"{key}.".startswith(f"{one}."))
    return next(found, "")


def _wrong_axes(axes: Mapping[str, list[Any]]) -> Iterator[tuple[str, str]]:
    """Each axis that is at fault, and what is wrong with it; "" of what they are together."""
    count = math.prod(len(values) for values in axes.values())
    if count > MOST_SCENARIOS:
        yield "", f"{count:,} scenarios; at most {MOST_SCENARIOS:,} can be one sweep"
        return
    axis_of: dict[str, str] = {}
    for path, values in axes.items():
        own = _keys(path, values)
        if not values:
            yield path, f"axis {path} has no values"
        if not all(path.split(".")):
            yield path, f"{path!r} is no dotted key"
        for key in sorted(key for key in {path, *own} if why_no_axis(key)):
            yield path, f"{key} cannot differ between scenarios: {why_no_axis(key)}"
        for key in sorted(key for key in own if axis_of.setdefault(key, path) != path):
            yield path, f"{key} is set by two axes: {axis_of[key]} and {path}"
    for key, group in _inside_another({path: v for path, v in axes.items() if v}).items():
        yield (
            axis_of[key],
            f"{key} lies inside {group}, which is set whole beside it; write the keys inside "
            f"{group} one by one",
        )


def _inside_another(axes: Mapping[str, list[Any]]) -> dict[str, str]:
    """Key -> a group around it that is set too: of both the later would overwrite the earlier."""
    points = scenario_points(axes)
    return {
        key: above for point in points for key in point for above in _groups(key) if above in point
    }


def overrides(value: Any) -> bool:
    """Whether an axis value sets several keys at once: a group whose keys are all dotted."""
    return isinstance(value, dict) and bool(value) and all("." in str(key) for key in value)


def _keys(path: str, values: list[Any]) -> set[str]:
    """What the values of one axis set; its own name too, unless all of them are groups."""
    return {key for value in values for key in (value if overrides(value) else [path])}


def scenario_points(axes: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """The product of the axes, the last axis fastest; one empty point where there are no axes.

    A value that is a group of dotted keys stands for those keys; its axis is then but a name.
    """
    points = [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]
    return [
        {
            key: part
            for path, value in point.items()
            for key, part in (value if overrides(value) else {path: value}).items()
        }
        for point in points
    ]


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """Key -> its last part, with as many before it as tell it from all the others."""
    every = set(keys)
    known = Counter(ending for key in every for ending in _endings(key))
    return {key: next((e for e in _endings(key) if known[e] == 1), key) for key in every}


def _endings(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]


def _groups(key: str) -> list[str]:
    """The groups that a key lies in, the outermost first."""
    parts = key.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def scenario_name(point: Mapping[str, Any], short: Mapping[str, str]) -> str:
    """`short key=value`, joined by commas; `base` where there are no axes."""
    return ",".join(f"{short[path]}={value}" for path, value in point.items()) or "base"
