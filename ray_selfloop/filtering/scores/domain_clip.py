"""The in-domain CLIP score: the cosine between an image and its class's text.

By a small open_clip model that is trained here, on the original images and their class names.
Knows nothing of the cut, and sees no subgroup.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ray_selfloop import seeding
from ray_selfloop.config.filter import DomainClip as DomainSettings
from ray_selfloop.filtering.scores.base import Floats, Given, Opened, cosines, texts_of
from ray_selfloop.images.imageset import Ids, Images, ImageSource
from ray_selfloop.images.pictures import View, seen

FIRST, LAST = 32, 126  # printable ASCII: the characters a text may have
START, UNKNOWN, END = 1, 2, LAST - FIRST + 4  # END is the highest token: open_clip pools there
STANDARD = "standard."  # prefix of the input statistics among the weights
MAX_GRADIENT = 1.0  # norm
STANDARD_OF = 1000  # pictures that the input statistics are measured on
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
    text = tokens(texts_of(class_names, settings.prompt)).to(device)
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

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        class_names: Sequence[str],
        image_size: int,
        settings: DomainSettings,
        device: torch.device,
    ) -> None:
        text = tokens(texts_of(class_names, settings.prompt)).to(device)
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

        return cosines(embed, self.texts, images, labels, self.batch)


def view_of(settings: DomainSettings, view: View | None) -> View | None:
    """How it sees pictures: all of what classifiers see, but smaller. None for arrays."""
    if view is None:
        return None
    side = min(settings.picture_side, view.side)
    return View(side, max(side, round(view.frame * side / view.side)), view.fit)


def opened(given: Given) -> Opened:
    """The model that stage `scorer` has trained, and pictures in the size that it sees."""
    view = view_of(given.settings, given.view)
    side = view.side if view else given.side
    model = DomainClip(given.trained(), given.class_names, side, given.settings, given.device)
    return lambda images, labels, ids: model.score(seen(images, view) if view else images, labels)
