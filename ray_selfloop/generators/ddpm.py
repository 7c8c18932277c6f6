"""A small class-conditional diffusion model: training with a stopping rule, sampling by sample id.

diffusers' UNet and schedulers: cosine noise (Nichol and Dhariwal 2021), which leaves small images
their colour for longer, and the velocity (Salimans and Ho 2022) as what is predicted, which says
something at every noise level and so decides class and colour well in few solver steps. The
weights that are sampled from are an exponential moving average over the steps, taken at the step
where the samples were nearest to held-out real images. Sees images and labels; never a subgroup.
"""

import copy
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ray_selfloop import seeding
from ray_selfloop.config.generators.ddpm import LEVELS, Ddpm
from ray_selfloop.errors import ConfigError, StageError
from ray_selfloop.generators.base import Generator, Lesson, Scene, Trained
from ray_selfloop.generators.looked import Looks, trained
from ray_selfloop.generators.stopping import Look
from ray_selfloop.images.imageset import Ids, Images

NOISE = {
    "num_train_timesteps": LEVELS,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
}
SMALLEST = 4  # pixels; the UNet halves as long as it ends at this or above
GROUPS = 8  # of channels that are normalised together
HEAD = 8  # channels of an attention head, at the lowest resolution alone
CHECK_BATCH = 100  # images at once of a look; bounds memory alone


def network(settings: Ddpm, classes: int, shape: tuple[int, ...]) -> Any:
    """The UNet for images ``(C, H, H)``: 8 pixels -> 4; 28 -> 14 -> 7; 32 -> 16 -> 8 -> 4.

    Raises ConfigError where images are not square.
    """
    from diffusers import UNet2DModel

    channels, height, width = shape
    if height != width:
        raise ConfigError(f"ddpm makes square images; the data has {height}x{width}")
    halvings = 0
    while height >> halvings > SMALLEST and (height >> halvings) % 2 == 0:
        halvings += 1
    widths = (settings.width, *[2 * settings.width] * halvings)
    return UNet2DModel(
        sample_size=height,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=widths,
        down_block_types=("DownBlock2D",) * len(widths),
        up_block_types=("UpBlock2D",) * len(widths),
        layers_per_block=settings.layers,
        norm_num_groups=GROUPS,
        attention_head_dim=HEAD,
        num_class_embeds=classes,
    )


class _Trainer:
    """The UNet, its optimiser and its average."""

    def __init__(self, lesson: Lesson, settings: Ddpm) -> None:
        from diffusers import DDPMScheduler

        self.settings, self.device = settings, lesson.device
        self.images = torch.from_numpy(np.asarray(lesson.data.images)).to(self.device)
        self.labels = torch.from_numpy(np.asarray(lesson.data.labels)).to(self.device)
        self.random = torch.Generator().manual_seed(seeding.derive(lesson.seed, "steps"))
        with torch.random.fork_rng(devices=[]):  # initial weights come from torch's own stream
            torch.manual_seed(seeding.derive(lesson.seed, "weights"))
            net = network(settings, len(lesson.class_names), tuple(self.images.shape[1:]))
        if lesson.previous is not None:
            net.load_state_dict(lesson.previous)
        self.net = net.to(self.device).train()
        self.average = copy.deepcopy(self.net).eval().requires_grad_(False)
        self.live, self.mean = list(self.net.parameters()), list(self.average.parameters())
        self.adam = torch.optim.Adam(self.live, settings.learning_rate, fused=True)
        self.noise = DDPMScheduler(**NOISE)

    def step(self, number: int) -> Tensor:
        rows = torch.randint(len(self.labels), (self.settings.batch_size,), generator=self.random)
        rows = rows.to(self.device)
        real = self.images[rows].float() / 127.5 - 1
        noise = torch.randn(real.shape, generator=self.random).to(self.device)
        times = torch.randint(LEVELS, (len(rows),), generator=self.random).to(self.device)
        seen = self.net(self.noise.add_noise(real, noise, times), times, self.labels[rows]).sample
        loss = F.mse_loss(seen, self.noise.get_velocity(real, noise, times))
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.live, self.settings.clip_norm)
        grown = min(1.0, number / (self.settings.warmup_steps or 1))
        self.adam.param_groups[0]["lr"] = self.settings.learning_rate * grown
        self.adam.step()
        # the first steps' weights are forgotten at once: the decay grows up to its value
        decay = min(self.settings.ema_decay, number / (number + 10))
        with torch.no_grad():
            torch._foreach_lerp_(self.mean, self.live, 1 - decay)
        return loss.detach()

    def finite(self) -> bool:
        return all(bool(value.isfinite().all()) for value in self.live)


def train(lesson: Lesson, settings: Ddpm) -> Trained:
    """Train as `looked.trained`; the same noise and labels at each look.

    On the CPU with one thread the result is bit-identical for the same arguments. Raises
    ConfigError where images are not square.
    """
    looks, shape = Looks(lesson.held_out, settings.check_samples), lesson.held_out.images.shape[1:]
    seed, ids = seeding.derive(lesson.seed, "looks"), np.arange(len(looks.labels))
    parts = [ids[first : first + CHECK_BATCH] for first in range(0, len(ids), CHECK_BATCH)]

    def look(net: nn.Module) -> Look:
        draws = DdpmSampler(net, tuple(shape), settings, lesson.device)
        return looks.compared([draws.sample(part, looks.labels[part], seed) for part in parts])

    return trained(_Trainer(lesson, settings), look, settings, ["loss"])


class DdpmSampler:
    """Draws from a trained UNet; see ``generators.Sampler``."""

    def __init__(
        self, net: nn.Module, shape: tuple[int, ...], settings: Ddpm, device: torch.device
    ) -> None:
        self.net, self.shape, self.settings, self.device = net, shape, settings, device

    @torch.no_grad()
    def sample(self, ids: Ids, labels: Ids, seed: int) -> Images:
        """First noise of image ``i`` is ``N(0, 1)`` from the stream ``(seed, "noise", i)``."""
        noise = [seeding.rng(seed, "noise", int(i)).standard_normal(self.shape) for i in ids]
        images = torch.from_numpy(np.stack(noise)).float().to(self.device)
        classes, solver = torch.from_numpy(labels).to(self.device), _solver(self.settings)
        for time in solver.timesteps:
            seen = self.net(images, time, classes).sample
            images = solver.step(seen, time, images).prev_sample
        whole = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        drawn: Images = whole.cpu().numpy()
        return drawn


def _solver(settings: Ddpm) -> Any:
    """Steps from the noise alone (`trailing`) to the image; without any noise of its own."""
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    own: dict[str, Any] = {"timestep_spacing": "trailing"}
    solver: Any = DDIMScheduler(**NOISE, **own, clip_sample=True)
    if settings.sampler == "dpmsolver++":  # the clipping: cosine noise ends at no signal at all
        solver = DPMSolverMultistepScheduler(**NOISE, **own, lambda_min_clipped=-5.1)
    solver.set_timesteps(settings.sampler_steps)
    return solver


def sampler(scene: Scene, settings: Ddpm) -> DdpmSampler:
    """A sampler for weights that `train` left under the same settings and image shape.

    Raises StageError where the weights do not fit them.
    """
    assert scene.weights is not None, "it is trained"
    shape = tuple(scene.original.images.shape[1:])
    with torch.device("meta"):  # no initial weights are drawn
        net = network(settings, len(scene.class_names), shape)
    try:
        net.load_state_dict(scene.weights, assign=True)
    except RuntimeError as error:
        raise StageError(f"these weights belong to another generator: {error}") from error
    return DdpmSampler(net.to(scene.device).eval(), shape, settings, scene.device)


GENERATOR = Generator(sampler=sampler, train=train)
