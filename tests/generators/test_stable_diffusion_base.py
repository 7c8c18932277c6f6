"""A base's folder: what is missed first, what its content is, and that no pickle is read."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_base
import torch
from safetensors.torch import load_file

from ray_selfloop.config.generators.diffusion import StableDiffusion
from ray_selfloop.errors import DataError
from ray_selfloop.generators.diffusion.base import check, identity, open_base

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base.make(tmp_path_factory.mktemp("base"), None)


@pytest.fixture
def base(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(whole, tmp_path / "base")


def message(base: Path, **changes: Any) -> str:
    settings = tiny_base.settings(base, **changes)
    with pytest.raises(DataError) as failure:
        check(settings)
    for other in (identity, open_base):
        with pytest.raises(DataError) as again:
            other(settings)
        assert str(again.value) == str(failure.value)
    text = str(failure.value)
    assert "\n" not in text
    return text


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_whole_base_is_taken_and_its_parts_load(base: Path) -> None:
    settings = tiny_base.settings(base)
    check(settings)
    opened = open_base(settings)
    assert opened.latent_shape(16) == (4, 8, 8)
    assert opened.scaling == 2.0
    assert opened.unet().dtype == opened.vae(CPU).dtype == torch.float32


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer_config.json",
        "scheduler/scheduler_config.json",
    ],
)
def test_a_missing_file_is_named_with_the_command_that_fetches_it(base: Path, name: str) -> None:
    (base / name).unlink()
    text = message(base)
    assert text.startswith(f"generator.base: {base} has no {name}; fetch one with: hf download ")
    assert f"--local-dir {base} --include" in text


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_folder_is_named(base: Path, part: str) -> None:
    shutil.rmtree(base / part)
    assert f"{base} has no folder {part}/;" in message(base)


def test_the_first_missing_thing_is_named(base: Path) -> None:
    for part in ("scheduler", "vae", "text_encoder"):
        shutil.rmtree(base / part)
    assert "has no folder vae/" in message(base)


def test_an_old_tokenizer_is_two_files(base: Path) -> None:
    (base / "tokenizer/tokenizer.json").unlink()
    assert "has no tokenizer/vocab.json" in message(base)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(base / "characters" / name, base / "tokenizer")
    settings = tiny_base.settings(base)
    check(settings)
    assert open_base(settings).embeddings(["beaver"], CPU).shape == (1, 77, 32)


def test_pickled_weights_are_refused(base: Path) -> None:
    weights = base / "unet/diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    assert "only diffusion_pytorch_model.bin, and pickled weights are never read" in message(base)


def test_a_part_of_sharded_weights_is_missed(base: Path) -> None:
    weights = base / "unet/diffusion_pytorch_model.safetensors"
    weights.rename(base / "unet/diffusion_pytorch_model-00001-of-00002.safetensors")
    shards = {"a": "diffusion_pytorch_model-00001-of-00002.safetensors"}
    index = weights.with_name(f"{weights.name}.index.json")
    index.write_text(json.dumps({"weight_map": shards}))
    check(tiny_base.settings(base))
    shards["b"] = "diffusion_pytorch_model-00002-of-00002.safetensors"
    index.write_text(json.dumps({"weight_map": shards}))
    assert "has no unet/diffusion_pytorch_model-00002-of-00002.safetensors" in message(base)


def test_an_unreadable_config_is_named(base: Path) -> None:
    (base / "vae/config.json").write_text("{")
    assert "vae/config.json cannot be read" in message(base)


def test_another_kind_of_model_is_refused(base: Path) -> None:
    edit(base / "model_index.json", _class_name="StableDiffusionXLPipeline")
    assert "holds a StableDiffusionXLPipeline, no StableDiffusionPipeline" in message(base)


def test_an_inpainting_base_is_refused(base: Path) -> None:
    edit(base / "unet/config.json", in_channels=9)
    assert "takes 9 channels and the VAE gives 4" in message(base)


def test_a_base_that_predicts_pictures_is_refused(base: Path) -> None:
    edit(base / "scheduler/scheduler_config.json", prediction_type="sample")
    assert "predicts 'sample', not epsilon or v_prediction" in message(base)


def test_a_resolution_that_the_vae_cannot_shrink_is_refused(base: Path) -> None:
    edit(base / "vae/config.json", block_out_channels=[8] * 5)
    assert "resolution 24 is not a multiple of 16" in message(base, resolution=24)


def test_a_folder_that_is_not_there_is_no_hub_id(tmp_path: Path) -> None:
    assert f"there is no folder {tmp_path / 'none'}; fetch one" in message(tmp_path / "none")


def test_the_identity_is_the_content_wherever_it_lies(whole: Path, base: Path) -> None:
    first = identity(tiny_base.settings(whole))
    os.utime(base / "unet/config.json", (1, 1))
    (base / "README.md").write_text("not read")
    assert identity(tiny_base.settings(base)) == first


@pytest.mark.parametrize(
    "name",
    ["unet/config.json", "vae/diffusion_pytorch_model.safetensors", "tokenizer/tokenizer.json"],
)
def test_another_content_is_another_identity(base: Path, name: str) -> None:
    settings = tiny_base.settings(base)
    first, path = identity(settings), base / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1  # of the same length
    if name == "unet/config.json":
        edit(path, norm_eps=1e-4)
    else:
        path.write_bytes(content)
    os.utime(path, ns=(2, 2))
    assert identity(settings) != first


def test_a_hub_id_is_identified_by_its_revision() -> None:
    settings = StableDiffusion(base="someone/no-such-base", revision="v2")
    assert identity(settings) == {"id": "someone/no-such-base", "revision": "v2"}


def test_a_hub_id_out_of_reach_is_one_line_with_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for ask in (check, open_base):  # before anything runs, and when it is needed
        with pytest.raises(DataError) as failure:
            ask(StableDiffusion(base="someone/no-such-base", revision="v2"))
        text = str(failure.value)
        assert "is not in the local hub cache and cannot be downloaded" in text
        assert "hf download someone/no-such-base --revision v2 --include" in text
        assert "\n" not in text


def test_a_hub_id_in_the_local_cache_needs_no_network(
    whole: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache = tmp_path / "models--someone--tiny"
    shutil.copytree(whole, cache / "snapshots" / "abc")
    (cache / "refs").mkdir()
    (cache / "refs" / "v2").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    settings = StableDiffusion(base="someone/tiny", revision="v2", resolution=16)
    check(settings)
    assert open_base(settings).folder == cache / "snapshots" / "abc"
    with pytest.raises(DataError, match=r"resolution 25 is not a multiple of"):
        check(settings.model_copy(update={"resolution": 25}))
    (cache / "snapshots/abc/vae/config.json").unlink()
    with pytest.raises(DataError, match="is not in the local hub cache and cannot be downloaded"):
        check(settings)


def test_a_damaged_base_in_the_hubs_cache_is_named(
    whole: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache = tmp_path / "models--someone--tiny"
    here = cache / "snapshots" / "abc"
    shutil.copytree(whole, here)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc")
    (cache / "blobs").mkdir()
    path = here / "unet/diffusion_pytorch_model.safetensors"
    blob = path.rename(cache / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest())
    path.symlink_to(blob)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    settings = StableDiffusion(base="someone/tiny", resolution=16)
    check(settings)
    content = bytearray(blob.read_bytes())
    content[-9] ^= 1  # of the same length, and loads
    blob.write_bytes(content)
    with pytest.raises(DataError, match=f"^generator.base: {path} is damaged; delete it"):
        check(settings)


def test_loading_says_nothing(base: Path, capfd: pytest.CaptureFixture[str]) -> None:
    opened = open_base(tiny_base.settings(base))
    opened.unet(), opened.vae(CPU), opened.embeddings(["beaver"], CPU), opened.solver("ddim")
    assert capfd.readouterr() == ("", "")
