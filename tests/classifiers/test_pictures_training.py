"""Training on encoded pictures: the same numbers as on arrays, and a backbone that stays frozen."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ray_selfloop.classifiers import train, zoo
from ray_selfloop.config.training import Training
from ray_selfloop.images.imageset import join
from ray_selfloop.images.pictures import Pictures, View, encode

CPU = torch.device("cpu")
VIEW = View(side=32, frame=36, fit="stretch")
SHORT = Training(max_steps=6, check_steps=3, batch_size=8)


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    """40 pictures whose colour tells their class (even rows are red)."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 80, (40, 3, 36, 36), dtype=np.uint8)
    images[::2, 0] += 120
    return Pictures([encode(image, "png") for image in images], VIEW)


def examples(images: object, held_out: object, augment: str) -> train.Examples:
    labels = np.arange(40) % 2
    return train.Examples(
        train.LabeledImages(images, labels), train.LabeledImages(held_out, labels), 2, augment
    )


def test_pictures_train_as_the_same_images_in_memory_do(pictures: Pictures) -> None:
    rows = np.arange(40)
    decoded = pictures[rows]
    threaded = Pictures(pictures.encoded, VIEW, threads=3)
    joined = join([(threaded, rows[:25]), (pictures, rows[25:])])
    runs = [
        train.train("lenet", examples(source, decoded, "none"), SHORT, 1, CPU)
        for source in (decoded, pictures, joined)
    ]
    assert runs[0].history == runs[1].history == runs[2].history


def test_crops_come_from_the_frame_around_what_is_seen(pictures: Pictures) -> None:
    cropped = train.train("lenet", examples(pictures, pictures, "frame_crop_flip"), SHORT, 1, CPU)
    plain = train.train("lenet", examples(pictures, pictures, "none"), SHORT, 1, CPU)
    assert cropped.history != plain.history
    assert cropped.network.side == VIEW.side


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict in the published format: MobileNet-V3 small with random weights."""
    from safetensors.torch import save_file
    from torchvision.models import mobilenet_v3_small

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "mobilenet.safetensors"
    state = mobilenet_v3_small(weights=None).state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    return path


def test_a_frozen_backbone_leaves_all_but_the_last_layer_as_they_were(
    pictures: Pictures, published: Path
) -> None:
    frozen = SHORT.model_copy(update={"pretrained": str(published), "backbone": "frozen"})
    before = zoo.build("mobilenet_v3_small", 2, 32, str(published), None, 1).state_dict()
    trained = train.train(
        "mobilenet_v3_small", examples(pictures, pictures, "frame_crop_flip"), frozen, 1, CPU
    )
    after = trained.network.state_dict()
    last = f"tail.{len(trained.network.tail) - 1}."
    moved = {key for key in after if not torch.equal(after[key], before[key])}
    assert moved == {f"{last}weight", f"{last}bias"}


def test_a_full_fine_tune_moves_the_backbone(pictures: Pictures, published: Path) -> None:
    full = SHORT.model_copy(update={"pretrained": str(published)})
    before = zoo.build("mobilenet_v3_small", 2, 32, str(published), None, 1).state_dict()
    trained = train.train("mobilenet_v3_small", examples(pictures, pictures, "none"), full, 1, CPU)
    first = next(key for key in before if key.endswith("0.0.weight"))
    assert not torch.equal(trained.network.state_dict()[first], before[first])


def test_a_frozen_backbone_of_random_weights_is_refused() -> None:
    with pytest.raises(ValidationError, match="backbone frozen needs pretrained weights"):
        Training(backbone="frozen")


def test_the_backbone_enters_a_key_only_where_it_is_frozen() -> None:
    assert "backbone" not in Training().identity()
    assert Training(backbone="frozen", pretrained=True).identity()["backbone"] == "frozen"
