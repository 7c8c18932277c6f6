"""Kinds of stages: what a key holds is read back whole, and nothing heavy is loaded to write it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
from conftest import TWO_STARTS

from ray_selfloop import loop, measurements
from ray_selfloop.config import load
from ray_selfloop.graph import Graph, Stage
from ray_selfloop.stages import kinds
from ray_selfloop.stages.chain import chains
from ray_selfloop.stages.kind import Kind

HEAVY = ("torch", "sklearn", "pandas", "ray", "mlflow")
SWEEPS = (
    (TWO_STARTS, "tune={}", "queue.tilt=0.5"),
    (TWO_STARTS, "loop.arm=no_synthetic", "queue.mixing={ratio: 0.5, of: total}"),
    (TWO_STARTS, "axes={}", "loop.arm=real_skewed", "dataset.reserve=0.5"),
    ("cifar20_100_small", "filter.score=clip", "filter.clip.kind=open_clip"),
    ("hard_imagenet", "training.pretrained=false", "loop.loop_seeds=[0]"),
)


def stages() -> Iterator[Stage]:
    """Of every kind, with every field that a key may hold."""
    for sweep, *words in SWEEPS:
        found, scenarios = load.load(sweep, words)
        graph, measured = Graph(), []
        for scenario in scenarios:
            for chain in chains(scenario):
                loop.add_chain(chain, "digest of the files", graph)
            placed = {
                kind: {place: node.stage for place, node in graph.placed(kind, scenario.name)}
                for kind in ("classifier", "generator_metrics")
            }
            data = graph.placed("dataset", scenario.name)[0][1].stage
            measurements.add_fairness(scenario, placed["classifier"], data, graph)
            of = measurements.published(data, placed["classifier"], placed["generator_metrics"])
            measured.append((scenario, of))
        measurements.add_equation6(found, measured, graph)
        measurements.add_claims(found, measured, graph)
        measurements.add_axes(found, measured, graph)
        yield from (node.stage for node in graph)


def test_what_a_key_holds_is_read_back_whole_by_its_kind() -> None:
    seen = set()
    for stage in stages():
        assert kinds.of(stage).read(stage.config).held() == stage.config, stage.kind
        seen.add(stage.kind)
    assert seen == set(kinds.NAMED)


@pytest.mark.parametrize("kind", kinds.ALL, ids=lambda kind: kind.name)
def test_what_computes_a_kind_is_found(kind: Kind[Any]) -> None:
    assert callable(resolve_name(kind.run))


def test_each_kind_stands_in_a_file_of_its_own() -> None:
    files = [kind.holds.__module__ for kind in kinds.ALL]
    assert len(set(files)) == len(files)
    assert all(resolve_name(file).KIND is kind for file, kind in zip(files, kinds.ALL, strict=True))


def test_the_loop_is_written_down_without_what_trains_and_measures() -> None:
    """Else a plan of nothing would take seconds: what computes is for a worker to load."""
    names = "ray_selfloop.loop, ray_selfloop.measurements, ray_selfloop.stages.kinds"
    code = f"import {names}, sys; print(*sorted({set(HEAVY)} & set(sys.modules)))"
    words = [sys.executable, "-c", code]
    loaded = subprocess.run(words, capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def test_the_loop_stands_on_one_screen() -> None:
    assert len(Path(loop.__file__).read_text(encoding="utf-8").splitlines()) <= 150
