"""Published CLIP weights score as open_clip itself does, or fail in one line."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from torch.nn import functional as F

from ray_selfloop.config.filter import OpenClip
from ray_selfloop.errors import DataError
from ray_selfloop.filtering.scores import open_clip as published

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny_open_clip(tmp_path_factory) -> tuple[str, str]:
    """An open_clip architecture of our own and a checkpoint of it with random weights."""
    folder = tmp_path_factory.mktemp("open_clip")
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 64,
            "heads": 1,
            "layers": 1,
        },
    }
    (folder / "tiny-selfloop.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / "tiny-selfloop.json")
    model = open_clip.create_model("tiny-selfloop")
    torch.save(model.state_dict(), folder / "tiny.pt")
    return "tiny-selfloop", str(folder / "tiny.pt")


def test_a_checkpoint_scores_as_open_clip_itself_does(tiny_open_clip) -> None:
    from PIL import Image

    name, path = tiny_open_clip
    settings = OpenClip(model=name, pretrained=path, score_batch=4)
    names, rng = ["zero", "one", "a red two"], np.random.default_rng(0)
    images = rng.integers(0, 256, (10, 3, 8, 8), dtype=np.uint8)
    labels = rng.integers(0, 3, 10)
    ours = published.OpenClip(names, settings, CPU)
    model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=path)
    model.eval()
    text = open_clip.get_tokenizer(name)([f"a photo of a {word}" for word in names])
    with torch.no_grad():
        seen = torch.stack([preprocess(Image.fromarray(x.transpose(1, 2, 0))) for x in images])
        pairs = model.encode_image(seen), model.encode_text(text)[torch.from_numpy(labels)]
        expected = F.cosine_similarity(*pairs)
    assert np.allclose(ours.score(images, labels), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("model", "pretrained", "message"),
    [
        ("ViT-B-33", "openai", "open_clip has no model 'ViT-B-33'"),
        ("ViT-B-32", "laion9b", "'laion9b' is no tag of ViT-B-32; its tags: openai"),
        ("ViT-B-32", "/nowhere/weights.pt", "'/nowhere/weights.pt': there is no such checkpoint"),
    ],
)
def test_a_wrong_model_tag_or_path_is_one_line(model, pretrained, message) -> None:
    with pytest.raises(DataError, match=message):
        published.OpenClip(["a"], OpenClip(model=model, pretrained=pretrained), CPU)


def test_a_checkpoint_of_another_shape_is_one_line(tiny_open_clip, tmp_path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"visual.proj": torch.zeros(2, 2)}, path)
    with pytest.raises(DataError, match="could not be had") as caught:
        published.OpenClip(["a"], OpenClip(model=tiny_open_clip[0], pretrained=str(path)), CPU)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_shape_is_refused_before_anything_runs(
    tiny_open_clip, tmp_path: Path
) -> None:
    name, whole = tiny_open_clip
    published.check(OpenClip(model=name, pretrained=whole))
    path = tmp_path / "other.pt"
    torch.save({"visual.proj": torch.zeros(2, 2)}, path)
    with pytest.raises(DataError, match="could not be had"):
        published.check(OpenClip(model=name, pretrained=str(path)))
    shutil.copyfile(whole, path)  # mended
    published.check(OpenClip(model=name, pretrained=str(path)))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="could not be had"):
        published.check(OpenClip(model=name, pretrained=str(path)))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, empty; and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path


def lay(hub: Path, repository: str, name: str, content: bytes) -> Path:
    """A file as the hub's cache holds it: a link to what is called by its digest."""
    home = hub / f"models--{repository.replace('/', '--')}"
    blob = home / "blobs" / hashlib.sha256(content).hexdigest()
    link = home / "snapshots" / "abc" / name
    for path in (blob, link, home / "refs" / "main"):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    link.symlink_to(blob)
    (home / "refs" / "main").write_text("abc")
    return blob


def test_published_weights_are_looked_for_before_anything_runs(hub: Path) -> None:
    settings = OpenClip()
    with pytest.raises(DataError) as caught:
        published.check(settings)
    said = str(caught.value)
    assert said.startswith(
        "filter.clip: the weights laion2b_s34b_b79k of ViT-B-32 are not whole on this machine: "
        "https://huggingface.co/laion/CLIP-ViT-B-32-laion2B-s34B-b79K/resolve/main/"
        "open_clip_pytorch_model.bin cannot be reached ("
    )
    assert said.endswith("to their path, or filter.clip.kind=domain.")
    assert "\n" not in said
    assert ".." not in said
    blob = lay(hub, "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "open_clip_model.safetensors", b"ab")
    published.check(settings)
    blob.write_bytes(b"a")
    with pytest.raises(DataError, match="is damaged; delete it, so that it is downloaded again"):
        published.check(settings)


def test_what_texts_are_read_with_is_looked_for_too(hub: Path) -> None:
    settings = OpenClip(model="ViT-B-16-SigLIP", pretrained="webli")
    lay(hub, "timm/ViT-B-16-SigLIP", "open_clip_model.safetensors", b"ab")
    with pytest.raises(DataError, match=r"tokenizer_config\.json cannot be reached"):
        published.check(settings)
    lay(hub, "timm/ViT-B-16-SigLIP", "tokenizer_config.json", b"{}")
    published.check(settings)


def test_a_failing_download_is_one_sentence_with_one_full_stop(hub: Path) -> None:
    with pytest.raises(DataError) as caught:
        published.OpenClip(["a"], OpenClip(), CPU)
    assert "\n" not in str(caught.value)
    assert ".." not in str(caught.value)
    assert str(caught.value).endswith(". Give the path of a checkpoint.")
