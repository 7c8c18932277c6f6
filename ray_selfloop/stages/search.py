"""The search for learning rate and weight decay of one architecture on one dataset.

Decides what is tried, what a candidate's score is and which candidate wins; the held-out images
are the criterion, the test images are never read. Who runs the candidates and gives up the worse
ones early is not this module's business: that is a ``Halving``, which `run` is given.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ray_selfloop import seeding
from ray_selfloop.classifiers import weights
from ray_selfloop.config.training import Training
from ray_selfloop.config.tune import Between, Tune
from ray_selfloop.errors import StageError
from ray_selfloop.graph import Stage
from ray_selfloop.stages import classifier
from ray_selfloop.stages.chain import Chain, Who
from ray_selfloop.stages.inputs import finite
from ray_selfloop.stages.kind import Kind, Needs, Summary, Work

if TYPE_CHECKING:
    from ray_selfloop.classifiers import train

HALVED = "halved"  # the outcome of a candidate that was given up
DIGITS = 3  # significant digits of a candidate's values: what is printed is what was used


class Settings(classifier.Trained):
    """tune: what is tried, and when a candidate is given up."""

    tune: Tune


def settings(chain: Chain, n: int, who: Who) -> Settings:
    sweep, training = chain.sweep, chain.networks[who.network]
    assert sweep.tune is not None
    return Settings(
        network=who.network,
        training=training.identity(sweep.tune.searched),
        tune=sweep.tune,
        source=weights.source(who.network, training.pretrained),
        augment=sweep.dataset.traits.augment,
        seed=seeding.derive(sweep.tune.seed, "search", who.network),
    )


def needed(chain: Chain) -> bool:
    return chain.sweep.tune is not None


class Candidate(NamedTuple):
    """One point that is tried: field of `training` -> its value."""

    number: int
    values: Mapping[str, float]


class Standing(NamedTuple):
    """How a candidate stands at a look at the held-out images.

    look: 1, 2, ... accuracy, loss: of its best weights so far. outcome: empty while it trains.
    """

    number: int
    look: int
    accuracy: float
    loss: float
    outcome: str = ""


class Rungs(NamedTuple):
    """When a candidate may be given up, in looks: at ``first``, ``first * factor``, ... <= last."""

    first: int
    last: int
    factor: int


Halving = Callable[[Stage, str, Sequence[Candidate], Rungs], list[Standing]]
"""``(stage, root of the store, candidates, rungs)`` -> each candidate's last standing."""


def candidates(settings: Tune) -> list[Candidate]:
    """What is tried, in order: each range is drawn from once in each of its equal log parts."""
    draw = seeding.rng(settings.seed, "tune")
    ranges = {"learning_rate": settings.learning_rates, "weight_decay": settings.weight_decays}
    columns = {name: _column(r, settings.samples, draw) for name, r in ranges.items() if r}
    return [
        Candidate(number, {name: values[number] for name, values in columns.items()})
        for number in range(settings.samples)
    ]


def _column(between: Between, samples: int, draw: Any) -> list[float]:
    places = (draw.permutation(samples) + draw.random(samples)) / samples  # in [0, 1)
    low, high = math.log(between.low), math.log(between.high)
    values = [math.exp(low + place * (high - low)) for place in places]
    return [min(max(float(f"{v:.{DIGITS}g}"), between.low), between.high) for v in values]


def training_of(work: Work[Settings], values: Mapping[str, float]) -> Training:
    training = work.settings.recipe(work.places, values)
    cap = work.settings.tune.max_epochs or training.max_epochs
    return training.model_copy(update={"max_epochs": min(cap, training.max_epochs)})


def rungs(work: Work[Settings], n: int) -> Rungs:
    """The rungs of a search on ``n`` training images."""
    from ray_selfloop.classifiers import train

    settings = work.settings.tune
    last = train.looks(n, training_of(work, {}))
    first = max(1, math.ceil(settings.grace * last - 1e-9))  # 1/9 of 9 looks is one look
    return Rungs(first, last, settings.reduction_factor)


def attempt(work: Work[Settings], candidate: Candidate, report: Callable[[Standing], None]) -> None:
    """Train one candidate; every look at the held-out images is reported, then the outcome.

    All candidates start from the same weights and see the images in the same order.
    """
    from ray_selfloop.classifiers import train

    best = Standing(candidate.number, 0, -1.0, math.inf)

    def on_look(look: "train.Look") -> bool:
        nonlocal best
        loss = look["held_out_loss"]
        found = look["held_out_accuracy"], loss if math.isfinite(loss) else math.inf
        better = (found[0], -found[1]) > (best.accuracy, -best.loss)
        accuracy, loss = found if better else (best.accuracy, best.loss)
        best = Standing(candidate.number, best.look + 1, accuracy, loss)
        report(best)
        return False

    original = work.inputs.split("train")
    images = train.LabeledImages(original.images, original.labels)
    trained = train.train(
        work.settings.network,
        classifier.examples_of(work.settings, work.inputs, images),
        training_of(work, candidate.values),
        work.settings.seed,
        work.torch_device,
        on_look,
    )
    report(best._replace(outcome=trained.outcome))


def _nowhere(*search: object) -> list[Standing]:
    raise StageError(
        "search: a search for learning rate and weight decay (`tune`) runs on Ray Tune, and Ray "
        "does not run here"
    )


def run(work: Work[Settings], halving: Halving = _nowhere) -> Summary:
    """Try the candidates and name the best: highest held-out accuracy, then lowest loss."""
    tried = candidates(work.settings.tune)
    rules = rungs(work, len(work.inputs.split("train")))
    ends = halving(work.stage, work.inputs.store.address, tried, rules)
    assert [end.number for end in ends] == list(range(len(tried)))
    best = max(ends, key=lambda end: (end.accuracy, -end.loss, -end.number))
    chosen = tried[best.number].values
    values = {name: [candidate.values[name] for candidate in tried] for name in chosen}
    return {
        "chosen": dict(chosen),
        "held_out_accuracy": best.accuracy,
        "held_out_loss": finite(best.loss),
        "at_edge": [name for name, own in values.items() if chosen[name] in (min(own), max(own))],
        "looks": rules.last,
        "tried": [_row(candidate, ends[candidate.number]) for candidate in tried],
    }


def _row(candidate: Candidate, end: Standing) -> dict[str, Any]:
    return {
        **candidate.values,
        "held_out_accuracy": end.accuracy,
        "held_out_loss": finite(end.loss),
        "looks": end.look,
        "outcome": end.outcome,
    }


def sentence(network: str, summary: Mapping[str, Any]) -> str:
    """What a search found, for people."""
    values = ", ".join(f"{n.replace('_', ' ')} {v:g}" for n, v in summary["chosen"].items())
    given_up = sum(row["outcome"] == HALVED for row in summary["tried"])
    edges = " and ".join(name.replace("_", " ") for name in summary["at_edge"])
    edge = f"; the {edges} lies at the edge of what was tried: widen the range" if edges else ""
    return (
        f"{network}: {values} (held-out accuracy {summary['held_out_accuracy']:.3f}; "
        f"{len(summary['tried'])} tried, {given_up} given up early{edge})"
    )


KIND = Kind(
    "search",
    version=1,
    holds=Settings,
    run="ray_selfloop.stages.search:run",
    needs=Needs(how="search", gpu="gpus_per_trial", training=classifier.training),
    settings=settings,
    trains=True,
    needed=needed,
    places=classifier.places,
    by_network=True,
    of_data=True,
)
