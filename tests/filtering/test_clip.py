"""CLIP scores: the in-domain model ranks well, published weights load or fail in one line."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from scipy.stats import mannwhitneyu
from torch.nn import functional as F

from ray_selfloop.config.filter import DomainClip, OpenClip
from ray_selfloop.datasets import colours, digits
from ray_selfloop.errors import DataError
from ray_selfloop.filtering import clip
from ray_selfloop.images.imageset import ImageSet, Splits

CPU = torch.device("cpu")
TINY = DomainClip(steps=3, batch_size=16, image_layers=1, image_width=16, score_batch=32)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def splits() -> Splits:
    colouring = colours.Colouring("unbiased", (0.7, 0.2, 0.1), "crossed")
    return colours.colorize(*digits.scans(), colouring, 0.0, 0)


def trained(part: ImageSet, settings: DomainClip, seed: int) -> dict[str, torch.Tensor]:
    names = part.class_names
    return clip.train_domain_clip(part.images, part.labels, names, settings, seed, CPU)


def scorer(weights: dict, part: ImageSet, settings: DomainClip) -> clip.DomainClip:
    size = part.images.shape[-1]
    return clip.DomainClip(weights, part.class_names, size, settings, CPU)


def test_with_defaults_the_right_label_outscores_a_wrong_one(splits: Splits) -> None:
    held, settings = splits.held_out, DomainClip()
    model = scorer(trained(splits.train, settings, 0), held, settings)
    shift = np.random.default_rng(0).integers(1, 10, len(held))
    right = model.score(held.images, held.labels)
    wrong = model.score(held.images, (held.labels + shift) % 10)
    area = mannwhitneyu(right, wrong).statistic / (len(right) * len(wrong))
    assert area > 0.95
    assert model.name == "domain_clip_score"
    assert right.dtype == np.float32
    assert np.abs(right).max() <= 1 + 1e-6


@pytest.mark.parametrize("side", [8, 28, 32])
def test_any_image_size_and_the_same_bits_for_a_seed(splits: Splits, side: int) -> None:
    rows = np.arange(60)
    part = splits.train.take(rows)
    images = np.ascontiguousarray(
        np.kron(part.images, np.ones((4, 4), np.uint8))[..., :side, :side]
    )
    part = ImageSet(images, part.labels, part.subgroups, part.units, part.class_names)
    torch.manual_seed(1)
    first = trained(part, TINY, 3)
    before = torch.random.get_rng_state()
    second = trained(part, TINY, 3)
    model = scorer(second, part, TINY)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(trained(part, TINY, 4)["logit_scale"], first["logit_scale"])
    whole = model.score(part.images, part.labels)
    assert np.array_equal(model.score(part.images[:40], part.labels[:40]), whole[:40])


def test_the_loss_counts_no_image_of_the_same_class_as_a_negative() -> None:
    texts = torch.eye(3)
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    perfect = contrastive(texts[labels], texts, labels, 50.0)
    assert perfect == pytest.approx(sum(np.log([3, 1, 2])) / 3 / 2, abs=1e-4)  # entropy of targets
    turned = contrastive(texts[(labels + 1) % 3], texts, labels, 50.0)
    assert turned > perfect + 10


def test_with_one_image_per_class_it_is_clips_own_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    images, texts = (F.normalize(torch.randn(6, 8, generator=generator)) for _ in range(2))
    ours = contrastive(images, texts, torch.arange(6), 10.0)
    theirs = open_clip.ClipLoss()(images, texts, torch.tensor(10.0))
    assert ours == pytest.approx(float(theirs), abs=1e-5)


def contrastive(images: torch.Tensor, texts: torch.Tensor, labels: torch.Tensor, scale: float):
    return float(clip.contrastive_loss(images, texts, labels, torch.tensor(scale)))


def test_tokens_are_distinct_bounded_and_end_at_the_highest() -> None:
    rows = clip.tokens(["zero", "one", "a zero", "ämter"])
    assert rows.shape == (4, 8)
    assert len({tuple(row.tolist()) for row in rows}) == 4
    assert int(rows.max()) == clip.END == 98
    assert rows.argmax(1).tolist() == [5, 4, 7, 6]


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


def test_a_checkpoint_scores_as_open_clip_itself_does(tiny_open_clip, splits: Splits) -> None:
    from PIL import Image

    name, path = tiny_open_clip
    settings = OpenClip(model=name, pretrained=path, score_batch=4)
    names = splits.test.class_names
    images, labels = splits.test.images[:10], splits.test.labels[:10]
    ours = clip.OpenClip(names, settings, CPU)
    model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=path)
    model.eval()
    text = open_clip.get_tokenizer(name)([f"a photo of a {word}" for word in names])
    with torch.no_grad():
        seen = torch.stack([preprocess(Image.fromarray(x.transpose(1, 2, 0))) for x in images])
        pairs = model.encode_image(seen), model.encode_text(text)[torch.from_numpy(labels)]
        expected = F.cosine_similarity(*pairs)
    assert np.allclose(ours.score(images, labels), expected.numpy(), atol=1e-5)
    assert ours.name == "clip_score"


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
        clip.OpenClip(["a"], OpenClip(model=model, pretrained=pretrained), CPU)


def test_a_checkpoint_of_another_shape_is_one_line(tiny_open_clip, tmp_path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"visual.proj": torch.zeros(2, 2)}, path)
    with pytest.raises(DataError, match="could not be had") as caught:
        clip.OpenClip(["a"], OpenClip(model=tiny_open_clip[0], pretrained=str(path)), CPU)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_shape_is_refused_before_anything_runs(
    tiny_open_clip, tmp_path: Path
) -> None:
    name, whole = tiny_open_clip
    clip.check(OpenClip(model=name, pretrained=whole))
    path = tmp_path / "other.pt"
    torch.save({"visual.proj": torch.zeros(2, 2)}, path)
    with pytest.raises(DataError, match="could not be had"):
        clip.check(OpenClip(model=name, pretrained=str(path)))
    shutil.copyfile(whole, path)  # mended
    clip.check(OpenClip(model=name, pretrained=str(path)))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="could not be had"):
        clip.check(OpenClip(model=name, pretrained=str(path)))


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
        clip.check(settings)
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
    clip.check(settings)
    blob.write_bytes(b"a")
    with pytest.raises(DataError, match="is damaged; delete it, so that it is downloaded again"):
        clip.check(settings)


def test_what_texts_are_read_with_is_looked_for_too(hub: Path) -> None:
    settings = OpenClip(model="ViT-B-16-SigLIP", pretrained="webli")
    lay(hub, "timm/ViT-B-16-SigLIP", "open_clip_model.safetensors", b"ab")
    with pytest.raises(DataError, match=r"tokenizer_config\.json cannot be reached"):
        clip.check(settings)
    lay(hub, "timm/ViT-B-16-SigLIP", "tokenizer_config.json", b"{}")
    clip.check(settings)


def test_a_failing_download_is_one_sentence_with_one_full_stop(hub: Path) -> None:
    with pytest.raises(DataError) as caught:
        clip.OpenClip(["a"], OpenClip(), CPU)
    assert "\n" not in str(caught.value)
    assert ".." not in str(caught.value)
    assert str(caught.value).endswith(". Give the path of a checkpoint.")
