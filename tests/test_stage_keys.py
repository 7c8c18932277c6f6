"""No stage of a shipped sweep gets another key unless its result means something else.

``stage_keys.txt`` holds, for every shipped sweep, every arm on it and some settings that no sweep
uses, how many stages of each kind a scenario has and a digest of their keys. A change of the code
that moves no result must leave it as it is; what moves on purpose is written anew by

    python tests/test_stage_keys.py
"""

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_selfloop import loop, measurements
from ray_selfloop.config import load
from ray_selfloop.errors import ConfigError
from ray_selfloop.graph import Graph, digest
from ray_selfloop.stages.chain import chains
from ray_selfloop.stages.kinds import VERSIONS

GOLDEN = Path(__file__).with_name("stage_keys.txt")
SWEEPS = sorted(path.stem for path in Path(__file__).parents[1].glob("sweeps/*.yaml"))
ARMS = (
    "treatment", "no_synthetic", "held_out_real", "real_skewed", "unfiltered", "duplicate_real",
    "subgroup_matched", "frozen_expert", "random_kept", "worst_kept",
    "subgroup_balanced", "majority_kept", "a_a",
)  # fmt: skip
OTHERS = (
    ("quickstart", "loop.chain=per_classifier"),
    ("quickstart", "loop.regime=replace", "axes={}"),
    ("quickstart", "loop.regime=accumulate", "queue.mixing={ratio: 0.5, of: total}", "axes={}"),
    ("quickstart", "loop.regime=accumulate_subsample", "axes={}"),
    ("quickstart", "filter.score=none", "axes={}"),
    ("quickstart", "filter.score=clip", "filter.cut=global", "axes={}"),
    ("quickstart", "filter.score=uncertainty", "axes={}"),
    ("quickstart", "generator.start=previous", "queue.tilt=0.5", "axes={}"),
    (
        "quickstart",
        "tune={}",
        "training.learning_rate=null",
        "compute.threads=2",
        "queue.volume=300",
        "axes={}",
    ),
    ("cifar20_100_small", "dataset.variant=imbalanced", "queue.count=before_filtering"),
    ("hard_imagenet", "filter.clip.kind=domain", "training.pretrained=false"),
    ("hard_imagenet", "generator.cache_latents=false", "generator.start=previous"),
)


def cases() -> Iterator[tuple[str, ...]]:
    """Every command line whose keys are kept."""
    yield from ((sweep,) for sweep in SWEEPS)
    for sweep in SWEEPS:
        for arm in ARMS:
            yield sweep, "axes={}", f"loop.arm={arm}", "loop.loop_seeds=[0]"
            yield sweep, "axes={}", f"loop.arm={arm}", "loop.loop_seeds=[0]", "dataset.reserve=0.5"
    yield from OTHERS


def keys(words: tuple[str, ...]) -> list[str]:
    """A line for each scenario and kind of stage: how many, and a digest of their keys."""
    try:
        sweep, scenarios = load.load(words[0], list(words[1:]))
    except ConfigError as error:
        return [f"  refused: {digest(str(error))}"]
    graph, measured = Graph(), []
    for scenario in scenarios:
        for chain in chains(scenario):
            loop.add_chain(chain, "digest of the files", graph)
    for scenario in scenarios:
        placed = {
            kind: {place: node.stage for place, node in graph.placed(kind, scenario.name)}
            for kind in ("classifier", "generator_metrics")
        }
        data = graph.placed("dataset", scenario.name)[0][1].stage
        trials = placed["classifier"]
        measurements.add_fairness(scenario, trials, data, graph)
        found = measurements.published(data, trials, placed["generator_metrics"])
        measured.append((scenario, found))
    measurements.add_equation6(sweep, measured, graph)
    measurements.add_claims(sweep, measured, graph)
    measurements.add_axes(sweep, measured, graph)
    of: dict[tuple[str, str], list[str]] = defaultdict(list)
    for key, node in graph.nodes.items():
        for place in node.places:
            of[place.scenario, node.stage.kind].append(key)
    return [f"  {s} | {kind}: {len(k)} {digest(sorted(k))}" for (s, kind), k in of.items()]


def lines(words: tuple[str, ...]) -> list[str]:
    return [" ".join(words), *sorted(keys(words))]


def golden() -> dict[str, list[str]]:
    """Command line -> its lines."""
    found: dict[str, list[str]] = {}
    for line in GOLDEN.read_text(encoding="utf-8").splitlines():
        if not line.startswith(" "):
            of = found.setdefault(line, [line])
        else:
            of.append(line)
    return found


@pytest.mark.parametrize("sweep", SWEEPS)
def test_no_stage_key_has_changed(sweep: str) -> None:
    kept = golden()
    mine = [words for words in cases() if words[0] == sweep]
    assert mine
    for words in mine:
        assert lines(words) == kept[" ".join(words)]


def test_what_is_kept_holds_every_kind_and_every_arm() -> None:
    text = GOLDEN.read_text(encoding="utf-8")
    assert set(golden()) == {" ".join(words) for words in cases()}
    missing = [kind for kind in VERSIONS if f" | {kind}: " not in text]
    assert not missing
    taken = {arm for arm in ARMS for of in golden().values()
             if f"loop.arm={arm} " in of[0] and "refused" not in of[1]}  # fmt: skip
    assert taken == set(ARMS)


if __name__ == "__main__":
    everything = "\n".join(line for words in cases() for line in lines(words))
    GOLDEN.write_text(everything + "\n", encoding="utf-8")
    sys.stdout.write(f"{GOLDEN}: {len(everything.splitlines())} lines\n")
