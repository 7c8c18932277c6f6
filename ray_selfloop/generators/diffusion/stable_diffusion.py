"""Stable Diffusion with LoRA: the fine-tune of one generation.

The base's own objective (predicted noise or velocity, mean square error) on latents of the
training pictures, the class name as prompt. No state but adapters and optimiser lasts from step to
step, so that a fine-tune goes on from any checkpoint, and is the same however many processes share
it. Sees images and labels; never a subgroup, never a test image.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ray_selfloop.config.generators.diffusion import StableDiffusion
from ray_selfloop.generators.base import Trained
from ray_selfloop.generators.diffusion import checkpoint, lora
from ray_selfloop.generators.diffusion.base import DTYPES, Base, identity, open_base, placed
from ray_selfloop.generators.diffusion.lora import Weights
from ray_selfloop.generators.diffusion.loss import Draws, Objective, Pictures
from ray_selfloop.generators.diffusion.workers import World


class Examples(NamedTuple):
    """What one fine-tune is given; ``held_out``: for the losses of looks alone."""

    train: Pictures
    held_out: Pictures
    class_names: Sequence[str]


class Master:
    """The optimiser's copy of the adapters: one float32 vector, whatever the UNet's precision.

    ``sums`` holds its gradient and, last, the loss, so that processes add both up at once.
    """

    def __init__(self, unet: nn.Module, initial: Weights, device: torch.device) -> None:
        live = lora.adapters(unet)
        self._live = list(live.values())
        self._shapes = {name: parameter.shape for name, parameter in live.items()}
        values = torch.cat([initial[name].float().flatten() for name in live]).to(device)
        self.vector = nn.Parameter(values)
        self.sums = torch.zeros(len(values) + 1, device=device)
        self.vector.grad = self.sums[:-1]

    @torch.no_grad()
    def gather(self, loss: Tensor) -> None:
        """Add the adapters' gradients, and the loss that they are of; the former are cleared."""
        grads = [p.grad.flatten().float() for p in self._live if p.grad is not None]
        self.sums.add_(torch.cat([*grads, loss.detach().reshape(1)]))
        for parameter in self._live:
            parameter.grad = None

    @torch.no_grad()
    def spread(self) -> None:
        """Set the adapters to the vector's values."""
        torch._foreach_copy_(list[Tensor](self._live), self._parts(self.vector))

    def weights(self, vector: Tensor) -> Weights:
        """Name -> CPU tensor of such a vector."""
        parts = self._parts(vector.detach().cpu().clone())
        return {name: part.clone() for name, part in zip(self._shapes, parts, strict=True)}

    def _parts(self, vector: Tensor) -> list[Tensor]:
        parts = vector.detach().split([shape.numel() for shape in self._shapes.values()])
        return [part.view(s) for part, s in zip(parts, self._shapes.values(), strict=True)]


@dataclass
class Progress:
    """How far a fine-tune is.

    losses: of the steps since the last look. sound: the adapters' vector at the last look at
    which all was finite.
    """

    sound: Tensor
    step: int = field(default=0)
    losses: list[Tensor] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)


class _Trainer:
    """The adapters, their optimiser, and the losses of one process of a fine-tune."""

    def __init__(
        self, objective: Objective, master: Master, draws: Draws, settings: StableDiffusion
    ) -> None:
        self.objective, self.master, self.draws = objective, master, draws
        self.settings, self.device = settings, master.vector.device
        self.optimiser = torch.optim.AdamW(
            [master.vector],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        enabled = settings.precision == "float16"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=enabled)
        self.progress = Progress(master.vector.detach().clone())

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 1."""
        grown = min(1.0, step / self.settings.warmup_steps) if self.settings.warmup_steps else 1.0
        return self.settings.learning_rate * grown

    def advance(self, pictures: Pictures, world: World) -> None:
        self.progress.step += 1
        self.master.sums.zero_()
        for numbers in self._micro_batches(world):
            losses = self.objective.losses(pictures, self.draws.pictures(numbers))
            loss = losses.sum() / self.settings.batch_size
            self.scaler.scale(loss).backward()
            self.master.gather(loss)
        world.sum_(self.master.sums)
        self.progress.losses.append(self.master.sums[-1].clone())
        self.scaler.unscale_(self.optimiser)
        torch.nn.utils.clip_grad_norm_([self.master.vector], self.settings.clip_norm)
        self.optimiser.param_groups[0]["lr"] = self.rate(self.progress.step)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.master.spread()

    def _micro_batches(self, world: World) -> Iterator[range]:
        """Numbers of the pictures of this process's micro-batches of the step."""
        first = (self.progress.step - 1) * self.settings.batch_size
        size = self.settings.batch_size // self.settings.micro_batches
        for micro in range(world.rank, self.settings.micro_batches, world.size):
            yield range(first + micro * size, first + (micro + 1) * size)

    def look(self, held_out_loss: float) -> bool:
        """Note the losses; False where they or the adapters are not finite."""
        progress = self.progress
        train_loss = float(torch.stack(progress.losses).mean())
        progress.losses = []
        progress.history.append(
            {
                "step": float(progress.step),
                "learning_rate": self.rate(progress.step),
                "train_loss": train_loss,
                "held_out_loss": held_out_loss,
            }
        )
        if not (math.isfinite(train_loss) and bool(self.master.vector.isfinite().all())):
            return False
        progress.sound = self.master.vector.detach().clone()
        return True

    def trained(self, outcome: str) -> Trained:
        sound = self.master.weights(self.progress.sound)
        weights = lora.scaled(sound, self.settings.scale)
        return Trained(weights, self.progress.history, outcome, {"steps": self.progress.step})

    def state(self) -> checkpoint.State:
        """All that the steps to come depend on."""
        progress, moments = self.progress, self.optimiser.state_dict()["state"][0]
        tensors = {
            "vector": self.master.vector,
            "sound": progress.sound,
            "losses": torch.stack(progress.losses) if progress.losses else torch.zeros(0),
            **{f"adam.{name}": value for name, value in moments.items()},
        }
        facts = {"step": progress.step, "history": progress.history}
        return checkpoint.State(tensors, {**facts, "scaler": self.scaler.state_dict()})

    @torch.no_grad()
    def restore(self, state: checkpoint.State) -> None:
        """Be as the trainer was that gave the state."""
        there = {name: value.to(self.device) for name, value in state.tensors.items()}
        self.master.vector.copy_(there["vector"])
        self.master.spread()
        moments = {
            name.removeprefix("adam."): value
            for name, value in there.items()
            if name.startswith("adam.")
        }
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": {0: moments}, "param_groups": groups})
        self.scaler.load_state_dict(dict(state.facts["scaler"]))
        self.progress = Progress(
            there["sound"],
            state.facts["step"],
            list(there["losses"].unbind()),
            list(state.facts["history"]),
        )


def train(
    examples: Examples,
    settings: StableDiffusion,
    seed: int,
    device: torch.device,
    previous: Weights | None,
    checkpoints: checkpoint.Place,
    world: World,
) -> Trained:
    """Fine-tune for ``settings.steps``; every process of ``world`` calls it, and gets the same.

    previous: the last generation's adapters (``start: previous``), or None. checkpoints: a place
    for them; where it holds one of this very run, training goes on there. On the CPU with one
    thread the result is bit-identical for the same arguments, with a checkpoint or without.
    Returns the adapters in diffusers' names, see `lora`: CPU tensors, float32. Of each look: step,
    learning_rate, train_loss (mean since the last look) and held_out_loss (same pictures, noise and
    times each time). Outcome ``completed`` (all steps made) or ``diverged`` (loss or adapters not
    finite: the weights are those of the last look at which they were).
    Raises DataError for an unfit base, StageError for adapters of another one.
    """
    base = open_base(settings)
    prompts = [settings.prompt.format(name) for name in examples.class_names]
    objective = _objective(base, prompts, settings, device)
    initial = _initial(objective.unet, settings, seed, previous)
    shape = base.latent_shape(settings.resolution)
    draws = Draws(seed, len(examples.train.labels), shape, objective.times, settings.flips)
    trainer = _Trainer(objective, Master(objective.unet, initial, device), draws, settings)
    checks = _Checks(objective, examples.held_out, settings, (seed, shape), world)
    kept = _Kept(checkpoints, _run(settings, examples, seed, initial), world)
    kept.restore(trainer)
    while (step := trainer.progress.step + 1) <= settings.steps:
        trainer.advance(examples.train, world)
        due = step % settings.check_every == 0 or step == settings.steps
        if due and not trainer.look(checks.loss()):
            return trainer.trained("diverged")
        kept.write(trainer)
    return trainer.trained("completed")


def _objective(
    base: Base, prompts: Sequence[str], settings: StableDiffusion, device: torch.device
) -> Objective:
    """The loss of a UNet with adapters, on the device in the precision of ``settings``."""
    dtype = DTYPES[settings.precision]
    embeddings = base.embeddings(prompts, device).to(dtype)
    unet = base.unet()
    lora.inject(unet, settings, settings.scale)
    if settings.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    unet = placed(unet, device, dtype)
    if settings.compile:
        unet.compile()
    return Objective(unet, base.noise_schedule(), base.scaling, embeddings)


def _initial(
    unet: nn.Module, settings: StableDiffusion, seed: int, previous: Weights | None
) -> Weights:
    """The adapters' float32 values before the first step, set in the UNet."""
    initial = lora.scaled(previous, 1 / settings.scale) if previous else lora.fresh(unet, seed)
    lora.assign(unet, initial)
    return initial


class _Checks:
    """The loss on held-out pictures, always the same ones with the same noise and times."""

    def __init__(
        self,
        objective: Objective,
        pictures: Pictures,
        settings: StableDiffusion,
        drawn: tuple[int, tuple[int, int, int]],
        world: World,
    ) -> None:
        """drawn: the seed, and the shape of a latent."""
        self._objective, self._pictures, self._world = objective, pictures, world
        self._size = settings.batch_size // settings.micro_batches
        seed, shape = drawn
        draws = Draws(seed, len(pictures.labels), shape, objective.times, False)
        self._drawn = draws.held_out(settings.check_pictures)

    @torch.no_grad()
    def loss(self) -> float:
        """Mean over the pictures."""
        count = len(self._drawn.rows)
        total = torch.zeros((), device=self._objective.device)
        starts = range(0, count, self._size)
        for start in starts[self._world.rank :: self._world.size]:
            part = self._drawn.part(slice(start, start + self._size))
            total += self._objective.losses(self._pictures, part).sum()
        self._world.sum_(total)
        return float(total) / count


class _Kept:
    """The checkpoint of one run; process 0 alone reads and writes it, and judges it."""

    def __init__(self, place: checkpoint.Place, run: str, world: World) -> None:
        self._place, self._run, self._world = place, run, world

    def restore(self, trainer: _Trainer) -> None:
        first = self._world.rank == 0
        found = checkpoint.found(self._place, self._run) if first else None
        content = self._world.first_ones(found, trainer.device)
        if content is not None:
            trainer.restore(checkpoint.read(content))

    def write(self, trainer: _Trainer) -> None:
        """Where the settings want one after the step just made."""
        step, settings = trainer.progress.step, trainer.settings
        if self._world.rank or not settings.checkpoint_every:
            return
        if step % settings.checkpoint_every == 0 and step < settings.steps:
            checkpoint.write(self._place, self._run, trainer.state())


def _run(settings: StableDiffusion, examples: Examples, seed: int, initial: Weights) -> str:
    """A digest of what the adapters depend on; of the pictures by their number and labels."""
    values = settings.model_dump(mode="json") | {"base": identity(settings), "revision": ""}
    labels = [examples.train.labels, examples.held_out.labels]
    facts = [values, seed, list(examples.class_names), [len(part) for part in labels]]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for part in labels:
        digest.update(np.ascontiguousarray(part).tobytes())
    for name, value in sorted(initial.items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()
