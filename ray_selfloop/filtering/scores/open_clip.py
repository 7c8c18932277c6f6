"""The CLIP score of published weights: the cosine between an image and its class's text.

Of an open_clip model by tag or by a checkpoint file. Knows nothing of the cut, and sees no
subgroup.
"""

import functools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ray_selfloop import published
from ray_selfloop.config.filter import OpenClip as OpenSettings
from ray_selfloop.errors import DataError
from ray_selfloop.filtering.scores.base import Floats, Given, Opened, cosines, texts_of
from ray_selfloop.images.imageset import Ids, Images, ImageSource

TEXT_FILES = {"hf_tokenizer_name": "tokenizer_config.json", "hf_model_name": "config.json"}


class OpenClip:
    """A published open_clip model as a scorer, preprocessing included.

    Raises DataError for an unknown model or tag, a checkpoint that is missing or does not fit, and
    a download that fails.
    """

    def __init__(
        self, class_names: Sequence[str], settings: OpenSettings, device: torch.device
    ) -> None:
        self.model, self.preprocess, tokenizer = _published(settings, device)
        self.device, self.batch = device, settings.score_batch
        text = tokenizer(texts_of(class_names, settings.prompt)).to(device)
        with torch.no_grad():
            self.texts = self.model.encode_text(text, normalize=True)

    def score(self, images: ImageSource, labels: Ids) -> Floats:
        """Cosine float32 ``(n,)``, -1..1, of each image with the text of its label."""
        from PIL import Image

        def embed(batch: Images) -> Tensor:
            pictures = [Image.fromarray(image.transpose(1, 2, 0)) for image in batch]
            x = torch.stack([self.preprocess(picture) for picture in pictures])
            return self.model.encode_image(x.to(self.device), normalize=True)

        return cosines(embed, self.texts, images, labels, self.batch)


def _is_path(pretrained: str) -> bool:
    return "/" in pretrained or Path(pretrained).suffix in (".pt", ".pth", ".bin", ".safetensors")


def check_source(settings: OpenSettings) -> None:
    """Raise DataError for a model, tag or file that cannot be meant."""
    import open_clip

    where = f"filter.clip.pretrained: {settings.pretrained!r}"
    if ":" not in settings.model and settings.model not in open_clip.list_models():
        raise DataError(f"filter.clip.model: open_clip has no model {settings.model!r}")
    if _is_path(settings.pretrained):
        if not Path(settings.pretrained).is_file():
            raise DataError(f"{where}: there is no such checkpoint file")
        return
    tags = open_clip.list_pretrained_tags_by_model(settings.model)
    if settings.pretrained not in tags:
        known = ", ".join(tags) or "none, give the path of a checkpoint"
        raise DataError(f"{where} is no tag of {settings.model}; its tags: {known}")


def check(settings: OpenSettings) -> None:
    """Raise DataError where the model cannot be had on this machine; downloads nothing.

    A checkpoint file is loaded, and must fit. Of a tag the published file must lie whole in a
    library's cache, or its address answer; so too what the model's texts are read with.
    """
    check_source(settings)
    if _is_path(settings.pretrained):
        at = Path(settings.pretrained).stat()
        _load_once(settings, at.st_mtime_ns, at.st_ctime_ns)
        return
    reasons = (published.missing_on_hub(*place) for place in _places(settings))
    reason = next(filter(None, reasons), "")
    if reason:
        raise DataError(
            f"filter.clip: the weights {settings.pretrained} of {settings.model} are not whole on "
            f"this machine: {reason}; fetch them where there is a network and set "
            "filter.clip.pretrained to their path, or filter.clip.kind=domain."
        )


def _places(settings: OpenSettings) -> Iterator[tuple[str, list[str]]]:
    """Repositories of the hub that a tag needs, and files of each of which one must be there."""
    import open_clip

    found = open_clip.get_pretrained_cfg(settings.model, settings.pretrained)
    repository, _, name = found.get("hf_hub", "").rpartition("/")
    if repository:
        yield repository, _names(name)
    text = (open_clip.get_model_config(settings.model) or {}).get("text_cfg", {})
    for part, file in TEXT_FILES.items():
        if text.get(part):
            yield text[part], [file]


def _names(name: str) -> list[str]:
    """What open_clip takes for a file of the hub, the best first."""
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    if not name or name == HF_WEIGHTS_NAME:
        return [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]
    return [f"{Path(name).stem}.safetensors", name]


@functools.cache
def _load_once(settings: OpenSettings, written: int, changed: int) -> None:
    """A checkpoint file as it was then: every scenario of a sweep asks for the same one."""
    _published(settings, torch.device("cpu"))


def _published(settings: OpenSettings, device: torch.device) -> tuple[Any, Any, Any]:
    """``(model in eval mode, preprocessing of one PIL image, tokenizer)``; raises DataError."""
    import open_clip

    check_source(settings)
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # one message: the error below
    try:
        with torch.random.fork_rng(devices=[]):
            model, _, preprocess = open_clip.create_model_and_transforms(
                settings.model, pretrained=settings.pretrained, device=device
            )
        tokenizer = open_clip.get_tokenizer(settings.model)
    except Exception as error:  # downloads and readers raise a dozen types
        reason = str(error).strip().splitlines()
        raise DataError(
            f"filter.clip: the weights {settings.pretrained} of {settings.model} could not be had: "
            f"{(reason[0] if reason else type(error).__name__).rstrip('.')}. Give the path of a "
            "checkpoint."
        ) from error
    finally:
        logging.disable(level)
    return model.eval(), preprocess, tokenizer


def opened(given: Given) -> Opened:
    """The published model; it has a picture size and a preprocessing of its own."""
    model = OpenClip(given.class_names, given.settings, given.device)
    return lambda images, labels, ids: model.score(images, labels)
