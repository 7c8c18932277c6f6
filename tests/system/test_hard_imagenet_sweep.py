"""A sweep on Hard ImageNet: real pictures, a tiny diffusion base, two generations.

Its stages are computed in this process; that Ray gives the same stands in the contract tests.
"""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_hard_imagenet
import torch
from mlflow import MlflowClient

from ray_selfloop.__main__ import main
from ray_selfloop.evaluation.ablation.pixels import KINDS
from ray_selfloop.planning import prepare
from ray_selfloop.store.records import Record, Store
from sweeps import attempts, records, results, run, run_alone

pytestmark = pytest.mark.slow
TRAIN, VAL = 160, 40  # pictures of each of 4 classes
CONTROL = "axes={loop.arm: [treatment, no_synthetic]}"


@pytest.fixture(scope="module")
def ran(data_root: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("hard_imagenet")
    words = tiny_hard_imagenet.words(folder, data_root, TRAIN, VAL)
    words = [*words, CONTROL, "training.max_steps=100", f"storage={folder / 'store'}"]
    run_alone(words)
    assert main(["sync-mlflow", *words]) == 0
    return words


@pytest.fixture(scope="module")
def table(ran: list[str]) -> pd.DataFrame:
    return results(ran)


@pytest.fixture(scope="module")
def published(ran: list[str]) -> dict[str, Record]:
    return records(ran)


def of_kind(published: dict[str, Record], kind: str) -> list[Record]:
    return [record for record in published.values() if record.kind == kind]


def path_of(ran: list[str], record: Record, name: str) -> Path:
    return Store(prepare(ran).store.root).path(record, name)


def test_original_pictures_are_cut_packed_and_tested_with_their_masks(
    published: dict[str, Record],
) -> None:
    (dataset,) = of_kind(published, "dataset")
    assert dataset.summary["sizes"] == {"train": 576, "held_out": 64, "test": 160, "reserve": 0}
    assert {"train_images.bin", "test_masks.bin"} <= set(dataset.files)
    assert dataset.summary["subgroups_from"] == "none"


def test_latents_are_there_for_the_original_and_the_first_kept_set_alone(
    ran: list[str], published: dict[str, Record]
) -> None:
    latents = of_kind(published, "latents")
    assert sorted(next(iter(record.inputs)) for record in latents) == ["dataset", "kept"]
    (original,) = [record for record in latents if "dataset" in record.inputs]
    found = np.load(path_of(ran, original, "set/latents_mean.npy"), mmap_mode="r")
    assert found.shape == (576, 4, 16, 16)


def test_the_fine_tune_learns_from_its_pictures(
    ran: list[str], published: dict[str, Record]
) -> None:
    for record in of_kind(published, "generator"):
        history = json.loads(path_of(ran, record, "history.json").read_text())
        assert record.summary["outcome"] == "completed"
        assert history[-1]["held_out_loss"] < history[0]["held_out_loss"]


def test_60_percent_are_dropped_and_the_rest_trains_the_next_generations(
    published: dict[str, Record],
) -> None:
    for record in of_kind(published, "kept"):
        assert record.summary["generated"] == 476  # the least of which 192 stay
        assert record.summary["kept_per_class"] == [48] * 4
    trained = [r.summary["training_set"] for r in of_kind(published, "classifier")]
    mixes = {json.dumps(mixed["by_generation"]) for mixed in trained}
    assert mixes == {"{}", '{"1": 192}', '{"1": 192, "2": 192}'}


def test_every_classifier_and_generation_has_an_ablation_table(table: pd.DataFrame) -> None:
    means = table[table["loop_seed"].isna() & (table["scenario"] == "arm=treatment")]
    for kind in KINDS:
        rows = means[means["metric"] == f"ablation_drop/{kind}"]
        assert len(rows) == 2 * 3  # classifiers x generations
        assert rows[["value", "low", "high"]].notna().all().all()
    value = means.set_index(["metric", "classifier", "generation"])["value"]
    for classifier in ("lenet", "mobilenet_v3_small"):
        assert value["accuracy", classifier, 0] > 0.35  # of 4 classes


def test_there_is_no_fairness_without_subgroups_and_no_u(table: pd.DataFrame) -> None:
    named = set(table["metric"].str.replace(r"[_/].*", "", regex=True))
    assert named.isdisjoint({"meo", "di", "md", "tpr", "ranked", "worst", "u", "subgroup"})
    assert {"label", "frechet", "precision", "q", "A"} <= named


def test_samples_are_jpeg_files_at_the_size_that_they_were_drawn(
    ran: list[str], published: dict[str, Record]
) -> None:
    import pyarrow.parquet as pq

    for record in of_kind(published, "samples"):
        column = pq.read_table(path_of(ran, record, record.summary["parts"][0]))["image"]
        assert {bytes(encoded.as_py()[:3]) for encoded in column} == {b"\xff\xd8\xff"}


def test_a_stock_pipeline_loads_a_published_lora_and_draws_something_else(
    ran: list[str], published: dict[str, Record]
) -> None:
    from diffusers import StableDiffusionPipeline

    base = next(word for word in ran if word.startswith("generator.base=")).partition("=")[2]
    pipeline = StableDiffusionPipeline.from_pretrained(base, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)

    def drawn() -> np.ndarray:
        generator = torch.Generator().manual_seed(0)
        options = {"num_inference_steps": 3, "height": 32, "width": 32, "output_type": "np"}
        return pipeline("a photo of a snorkel", generator=generator, **options).images

    plain = drawn()
    assert np.array_equal(plain, drawn())
    different = []
    for record in of_kind(published, "generator"):
        pipeline.load_lora_weights(path_of(ran, record, "pytorch_lora_weights.safetensors").parent)
        different.append(drawn())
        pipeline.unload_lora_weights()
    assert all(np.abs(images - plain).mean() > 0.01 for images in different)
    assert np.abs(different[0] - different[1]).mean() > 0.001


def test_report_and_mlflow_show_the_ablations(ran: list[str]) -> None:
    plan = prepare(ran)
    page = (plan.folder / "report.html").read_text()
    for words in ("of 15 classes", "Ablation table", "domain_clip_score"):
        assert words in page
    assert not re.search(r"Figure (8|9|12):", page), "those are of other data"
    assert not re.search(r"(?<!domain_)clip_score", page.replace("domain_clip_score", ""))
    client = MlflowClient(f"sqlite:///{plan.store.root / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "tiny"]
    runs = client.search_runs([experiment.experiment_id])
    logged = [r for r in runs if "ablation_drop/object_gray" in r.data.metrics]
    assert len(logged) == 2 * 2  # arms x classifiers
    for found in logged:
        history = client.get_metric_history(found.info.run_id, "ablation_drop/object_gray")
        assert {point.step for point in history} == {0, 1, 2}


def test_the_same_command_again_computes_nothing(ran: list[str]) -> None:
    root = Path(prepare(ran).store.root)
    before = attempts(root)
    code, output = run(ran)
    assert code == 0, output
    assert attempts(root) == before
    assert not list((root / "unfinished").glob("*"))


def test_the_reference_codes_reading_is_measured_without_training_anew(ran: list[str]) -> None:
    root = Path(prepare(ran).store.root)
    before = {path for path in root.glob("stages/*/*/*") if path.is_dir()}
    other = [*ran, "evaluation.ablation.compat=reference", "name=reference"]
    run_alone(other)
    new = {path for path in root.glob("stages/*/*/*") if path.is_dir()} - before
    assert {path.parents[1].name for path in new} == {"fairness", "dynamics", "claims"}
    counts = [
        found[found["metric"].str.startswith("ablation_undefined/")]["value"].sum()
        for found in (results(ran), results(other))
    ]
    assert counts[0] > counts[1] == 0
