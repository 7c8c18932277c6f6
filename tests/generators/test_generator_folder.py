"""Images that somebody else's generator has made, drawn from folders."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MICRO
from PIL import Image
from pydantic import ValidationError

from ray_selfloop.config.datasets.coloured import ColorizedDigits
from ray_selfloop.config.generators.folder import FolderOfImages
from ray_selfloop.datasets import colours, digits
from ray_selfloop.errors import DataError
from ray_selfloop.generators import folder
from ray_selfloop.generators.base import Demand, Scene, TrainingImages, Turn
from ray_selfloop.graph import Stage
from ray_selfloop.images.pictures import Pictures, View
from ray_selfloop.planning import Plan, prepare
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.run import execute
from ray_selfloop.stages.samples import read_samples

NAMES = colours.DIGIT_NAMES
EACH = 5  # images of a class that a generation's folder has


def made(root: Path, generations: int = 2) -> Path:
    """A folder as another program leaves it: real digits, other ones in each generation."""
    settings = ColorizedDigits(initialization="unbiased")
    train = colours.colorize(*digits.scans(), settings).train
    for label in range(10):
        rows = np.flatnonzero(train.labels == label)
        for generation in range(1, generations + 1):
            of = root / f"gen_{generation}" / NAMES[label]
            of.mkdir(parents=True)
            for n, row in enumerate(rows[EACH * (generation - 1) : EACH * generation]):
                Image.fromarray(train.images[row].transpose(1, 2, 0)).save(of / f"{n}.png")
    return root


def plan(root: Path, store: Path, *words: str) -> Plan:
    own = [word for word in MICRO if not word.startswith("generator")]
    theirs = f"generator={{name: folder, root: {root}}}"
    few = ("queue.volume=20", "filter.score=none", f"storage={store}")
    return prepare([*own, theirs, *few, *words])


def samples(of: Plan) -> dict[int, Stage]:
    """Generation -> its samples stage."""
    return {n.places[0].generation: n.stage for n in of.graph.of_kind("samples")}


def drawn(of: Plan, generation: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of a generation's samples."""
    (data,) = of.graph.of_kind("dataset")
    stage = samples(of)[generation]
    for each in (data.stage, stage):
        execute(each, of.store)
    reader = Inputs(
        Stage("reader", 0, {}, {"samples": stage.key, "dataset": data.stage.key}), of.store
    )
    found = read_samples(reader)
    return np.asarray(found.images), found.labels


def test_each_generation_draws_its_own_images_none_of_them_twice(tmp_path: Path) -> None:
    of = plan(made(tmp_path / "theirs"), tmp_path / "store")
    assert not of.graph.of_kind("generator")
    for generation in (1, 2):
        images, labels = drawn(of, generation)
        assert len(images) == 20
        for label in range(10):
            where = tmp_path / "theirs" / f"gen_{generation}" / NAMES[label]
            pixels = (np.asarray(Image.open(path)) for path in where.iterdir())
            theirs = {image.transpose(2, 0, 1).tobytes() for image in pixels}
            ours = [image.tobytes() for image in images[labels == label]]
            assert len(ours) == len(set(ours)) == 2
            assert set(ours) <= theirs


def test_too_few_images_are_refused_before_anything_runs_and_counted(tmp_path: Path) -> None:
    root = made(tmp_path / "theirs")
    (root / "gen_2" / "seven" / "0.png").unlink()
    plan(root, tmp_path / "store", "queue.volume=40")
    with pytest.raises(
        DataError, match=r"gen_2/seven has 4 of the 5 images of class 'seven' that a gen"
    ):
        plan(root, tmp_path / "store", "queue.volume=50")


def test_a_class_that_no_folder_can_be_called_is_refused(tmp_path: Path) -> None:
    settings = FolderOfImages(root=str(made(tmp_path / "theirs")))
    asked = Demand(np.array([1, 1]), np.array([0, 0]), 1, lambda: ("n/a", "two"))
    with pytest.raises(DataError, match="class folder cannot be called 'n/a'; rename that class"):
        folder.check(settings, lambda: asked)


def test_a_generation_without_a_folder_is_refused_and_named(tmp_path: Path) -> None:
    root = made(tmp_path / "theirs")
    with pytest.raises(DataError, match=r"no folder .*/gen_3 for generation 3"):
        plan(root, tmp_path / "store", "loop.generations=3")


def test_a_key_holds_what_the_files_of_its_own_generation_hold(tmp_path: Path) -> None:
    root = made(tmp_path / "theirs")
    before = samples(plan(root, tmp_path / "store"))
    moved = root.rename(tmp_path / "elsewhere")
    same = samples(plan(moved, tmp_path / "store"))
    assert [same[n].key for n in (1, 2)] == [before[n].key for n in (1, 2)]
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(moved / "gen_2" / "three" / "1.png")
    after = samples(plan(moved, tmp_path / "store"))
    assert after[1].key == before[1].key
    assert after[2].key != before[2].key


def test_files_that_change_after_the_plan_are_not_drawn(tmp_path: Path) -> None:
    root = made(tmp_path / "theirs")
    of = plan(root, tmp_path / "store")
    (root / "gen_1" / "three" / "1.png").unlink()
    with pytest.raises(
        DataError, match=r"gen_1/three is not what it was when this sweep was planned"
    ):
        drawn(of, 1)


def test_a_damaged_image_is_refused_by_name(tmp_path: Path) -> None:
    root = made(tmp_path / "theirs")
    (root / "gen_1" / "three" / "1.png").write_bytes(b"no picture")
    with pytest.raises(
        DataError, match=r"generator\.root: .*gen_1/three/1\.png is no readable JPEG"
    ):
        plan(root, tmp_path / "store")


def scene(root: Path, labels: list[int], view: View | None = None) -> folder.FolderSampler:
    settings, none = (
        FolderOfImages(root=str(root)),
        TrainingImages(np.zeros((0, 3, 8, 8), np.uint8), []),
    )
    turn = Turn(1, 0, np.array(labels))
    names, cpu = NAMES, torch.device("cpu")
    content = folder.content(settings, 1)
    return folder.sampler(Scene(none, none, names, view, cpu, None, turn, content), settings)


def test_an_image_is_the_same_whatever_is_drawn_beside_it(tmp_path: Path) -> None:
    labels = [0, 0, 0, 4, 4]
    opened = scene(made(tmp_path), labels)
    whole = opened.sample(np.arange(5), np.array(labels), 0)
    some = opened.sample(np.array([3, 1]), np.array([4, 0]), 9)
    np.testing.assert_array_equal(some, whole[[3, 1]])


def test_an_image_of_another_size_is_refused_not_resized(tmp_path: Path) -> None:
    root = made(tmp_path, 1)
    for file in (root / "gen_1" / "four").iterdir():
        Image.new("RGB", (16, 8)).save(file)
    with pytest.raises(DataError, match=r"has 16 x 8 pixels, the dataset's images 8 x 8; give"):
        scene(root, [4]).sample(np.array([0]), np.array([4]), 0)


def test_a_dataset_of_pictures_gets_the_files_as_they_are(tmp_path: Path) -> None:
    root = made(tmp_path, 1)
    found = scene(root, [2], View(6, 8, "crop")).sample(np.array([0]), np.array([2]), 0)
    assert isinstance(found, Pictures)
    assert found.encoded[0] in {path.read_bytes() for path in (root / "gen_1" / "two").iterdir()}


@pytest.mark.parametrize("name", ["gen", "{}/{}", "a/{}", "{n}"])
def test_a_generations_folder_needs_its_number_once(name: str) -> None:
    with pytest.raises(ValidationError, match=r"must hold \{\} exactly once"):
        FolderOfImages(root="there", generation=name)
