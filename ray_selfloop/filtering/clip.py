"""CLIP scores: the cosine between an image and its class's text.

Two scorers of one form: a small open_clip model trained here on the original images and their
class names, and published open_clip weights. Their scores never share a name. Knows nothing of
the cut, and sees no subgroup.
"""

import functools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ray_selfloop import published, seeding
from ray_selfloop.config.filter import DomainClip as DomainSettings
from ray_selfloop.config.filter import OpenClip as OpenSettings
from ray_selfloop.errors import DataError
from ray_selfloop.filtering.cut import CLIP_SCORES
from ray_selfloop.images.imageset import Ids, Images, ImageSource

Floats = NDArray[np.float32]
FIRST, LAST = 32, 126  # printable ASCII: the characters a text may have
START, UNKNOWN, END = 1, 2, LAST - FIRST + 4  # END is the highest token: open_clip pools there
STANDARD = "standard."  # prefix of the input statistics among the weights
MAX_GRADIENT = 1.0  # norm
STANDARD_OF = 1000  # pictures that the input statistics are measured on
TEXT_FILES = {"hf_tokenizer_name": "tokenizer_config.json", "hf_model_name": "config.json"}
WARM_UP = 0.1  # share of the steps over which the learning rate rises


def tokens(texts: Sequence[str]) -> Tensor:
    """One token per character: int64 ``(len(texts), longest + 2)``, 0 after the end.

    A vocabulary of 99 tokens instead of open_clip's 49,408 keeps the model small.
    """
    length = max(map(len, texts)) + 2
    rows = [
        [START, *(ord(c) - FIRST + 3 if FIRST <= ord(c) <= LAST else UNKNOWN for c in text), END]
        for text in texts
    ]
    return torch.tensor([row + [0] * (length - len(row)) for row in rows])


def _domain_model(side: int, context: int, settings: DomainSettings) -> Any:
    """An untrained open_clip model for square images of ``side`` pixels."""
    from open_clip import CLIP, CLIPTextCfg, CLIPVisionCfg

    patch = math.ceil(side / settings.patches)
    vision = CLIPVisionCfg(
        layers=settings.image_layers,
        width=settings.image_width,
        head_width=16,
        patch_size=patch,
        image_size=patch * settings.patches,
    )
    text = CLIPTextCfg(
        context_length=context,
        vocab_size=END + 1,
        width=settings.text_width,
        heads=max(1, settings.text_width // 16),
        layers=settings.text_layers,
    )
    return CLIP(settings.embed_dim, vision, text)


class Standard(NamedTuple):
    """Mean and deviation of each channel of the original images, float32 ``(3, 1, 1)``.

    Without it dark images all look alike at first, and the texts collapse onto one another
    before the images come apart.
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, images: ImageSource) -> "Standard":
        """Measured on uint8 ``(n, 3, H, W)``; a constant channel counts as deviation 1.

        Of pictures that are decoded by need, a thousand spread over all of them.
        """
        few = np.unique(np.linspace(0, len(images) - 1, STANDARD_OF).astype(np.int64))
        values = np.asarray(images if isinstance(images, np.ndarray) else images[few], np.float64)
        mean, std = values.mean((0, 2, 3)), np.maximum(values.std((0, 2, 3)), 1.0)
        return cls(*(torch.tensor(v, dtype=torch.float32).view(3, 1, 1) for v in (mean, std)))

    def inputs(self, images: Tensor, side: int) -> Tensor:
        """uint8 ``(n, 3, H, W)`` -> standardised float32 ``(n, 3, side, side)``."""
        x = (images.float() - self.mean.to(images.device)) / self.std.to(images.device)
        if x.shape[-1] != side:
            x = F.interpolate(x, size=(side, side), mode="bilinear")
        return x


def contrastive_loss(images: Tensor, texts: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    """The symmetric CLIP loss with one text per class; unit rows ``(b, e)`` and ``(C, e)``.

    Image to text: cross-entropy over all C class texts. Text to image: for each class in the
    batch, cross-entropy between the softmax over the batch's images and the uniform distribution
    over all images of that class. CLIP's own loss would count another image of the same class as
    a negative (multi-positive form: Khosla et al. 2020, Yang et al. 2022).
    """
    similarity = scale * images @ texts.T  # (b, C)
    to_text = F.cross_entropy(similarity, labels)
    positive = F.one_hot(labels, len(texts)).to(similarity)  # (b, C)
    count = positive.sum(0)
    log_share = similarity.log_softmax(dim=0)
    per_class = -(positive * log_share).sum(0) / count.clamp(min=1)
    to_image = per_class.sum() / (count > 0).sum()
    return (to_text + to_image) / 2


def _texts(class_names: Sequence[str], prompt: str) -> list[str]:
    return [prompt.replace("{}", name.replace("_", " ")) for name in class_names]


def _learning_rate(step: int, settings: DomainSettings) -> float:
    """Linear warm-up, then cosine to zero."""
    warm = max(1, round(WARM_UP * settings.steps))
    if step < warm:
        return settings.learning_rate * (step + 1) / warm
    done = (step - warm) / max(1, settings.steps - warm)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def _pixels(images: ImageSource, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Row numbers -> uint8 images on the device: from an array there, or decoded by the batch."""
    if isinstance(images, np.ndarray):
        writable = np.require(images, requirements=("C", "W"))  # a copy only of a read-only array
        whole = torch.from_numpy(writable).to(device)
        return lambda rows: whole[rows.to(device)]
    return lambda rows: torch.from_numpy(images[rows.numpy()]).to(device)


def train_domain_clip(
    images: ImageSource,
    labels: Ids,
    class_names: Sequence[str],
    settings: DomainSettings,
    seed: int,
    device: torch.device,
) -> dict[str, Tensor]:
    """Train the in-domain model on the original images: its weights and ``Standard``, on the CPU.

    images: uint8 ``(n, 3, H, H)``; labels: ``(n,)``, numbers of ``class_names``. Adam on
    ``contrastive_loss``, ``settings.steps`` batches drawn from one permutation after another.
    """
    text = tokens(_texts(class_names, settings.prompt)).to(device)
    with torch.random.fork_rng(devices=[]):  # open_clip draws weights from torch's own stream
        torch.default_generator.manual_seed(seeding.derive(seed, "weights"))
        model = _domain_model(images.shape[-1], text.shape[1], settings).to(device).train()
    standard, side = Standard.of(images), model.visual.image_size[0]
    adam = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, fused=True)
    draw = torch.Generator().manual_seed(seeding.derive(seed, "order"))
    pixels = _pixels(images, device)
    classes = torch.tensor(labels, device=device)
    order = torch.empty(0, dtype=torch.int64)
    for step in range(settings.steps):
        while len(order) < settings.batch_size:
            order = torch.cat([order, torch.randperm(len(labels), generator=draw)])
        rows, order = order[: settings.batch_size], order[settings.batch_size :]
        for group in adam.param_groups:
            group["lr"] = _learning_rate(step, settings)
        seen = model.encode_image(standard.inputs(pixels(rows), side), normalize=True)
        read = model.encode_text(text, normalize=True)
        loss = contrastive_loss(seen, read, classes[rows.to(device)], model.logit_scale.exp())
        adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT)
        adam.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
    weights = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    return weights | {f"{STANDARD}{key}": value for key, value in standard._asdict().items()}


class DomainClip:
    """The in-domain model as a scorer; ``weights`` from ``train_domain_clip``."""

    name = CLIP_SCORES["domain"]

    def __init__(
        self,
        weights: dict[str, Tensor],
        class_names: Sequence[str],
        image_size: int,
        settings: DomainSettings,
        device: torch.device,
    ) -> None:
        text = tokens(_texts(class_names, settings.prompt)).to(device)
        with torch.random.fork_rng(devices=[]):
            self.model = _domain_model(image_size, text.shape[1], settings)
        own = {key: value for key, value in weights.items() if not key.startswith(STANDARD)}
        self.model.load_state_dict(own)
        self.standard = Standard(weights[f"{STANDARD}mean"], weights[f"{STANDARD}std"])
        self.model.to(device).eval()
        self.device, self.batch = device, settings.score_batch
        with torch.no_grad():
            self.texts = self.model.encode_text(text, normalize=True)  # (C, e)

    def score(self, images: ImageSource, labels: Ids) -> Floats:
        """Cosine float32 ``(n,)``, -1..1, of each image with the text of its label."""
        side = self.model.visual.image_size[0]

        def embed(batch: Images) -> Tensor:
            x = self.standard.inputs(torch.from_numpy(batch).to(self.device), side)
            return self.model.encode_image(x, normalize=True)

        return _cosines(embed, self.texts, images, labels, self.batch)


class OpenClip:
    """A published open_clip model as a scorer, preprocessing included.

    Raises DataError for an unknown model or tag, a checkpoint that is missing or does not fit, and
    a download that fails.
    """

    name = CLIP_SCORES["open_clip"]

    def __init__(
        self, class_names: Sequence[str], settings: OpenSettings, device: torch.device
    ) -> None:
        self.model, self.preprocess, tokenizer = _published(settings, device)
        self.device, self.batch = device, settings.score_batch
        text = tokenizer(_texts(class_names, settings.prompt)).to(device)
        with torch.no_grad():
            self.texts = self.model.encode_text(text, normalize=True)

    def score(self, images: ImageSource, labels: Ids) -> Floats:
        """Cosine float32 ``(n,)``, -1..1, of each image with the text of its label."""
        from PIL import Image

        def embed(batch: Images) -> Tensor:
            pictures = [Image.fromarray(image.transpose(1, 2, 0)) for image in batch]
            x = torch.stack([self.preprocess(picture) for picture in pictures])
            return self.model.encode_image(x.to(self.device), normalize=True)

        return _cosines(embed, self.texts, images, labels, self.batch)


@torch.no_grad()
def _cosines(embed: Any, texts: Tensor, images: ImageSource, labels: Ids, batch: int) -> Floats:
    """Cosine of each image with its class's text, in batches of one shape."""
    parts, n = [np.empty(0, np.float32)], len(images)
    for start in range(0, n, batch):
        rows = np.minimum(np.arange(start, start + batch), n - 1)
        seen = embed(np.ascontiguousarray(images[rows]))
        read = texts[torch.from_numpy(labels[rows]).to(texts.device)]
        parts.append((seen * read).sum(1)[: n - start].float().cpu().numpy())
    return np.concatenate(parts)


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
