"""The fine-tune on a tiny base: its loss, its draws, its steps, and where it goes on."""

import math
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_base
import torch
from torch import Tensor

from ray_selfloop.errors import DataError, StageError
from ray_selfloop.generators.base import Trained
from ray_selfloop.generators.diffusion import checkpoint, lora
from ray_selfloop.generators.diffusion.base import Base, open_base
from ray_selfloop.generators.diffusion.latents import (
    ENCODE_BATCH,
    Cached,
    Flips,
    Latents,
    OnTheFly,
    Posterior,
    write_latents,
)
from ray_selfloop.generators.diffusion.loss import Drawn, Draws, Objective, Pictures
from ray_selfloop.generators.diffusion.stable_diffusion import Examples, train
from ray_selfloop.generators.diffusion.workers import ALONE
from ray_selfloop.images.imageset import Ids
from ray_selfloop.store.blobs import Folder

CPU = torch.device("cpu")
NAMES = ("wolf spider", "beaver")
LABELS = np.arange(12) % 2


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base.make(tmp_path_factory.mktemp("base"), None)


@pytest.fixture(scope="module")
def cached(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Cached:
    folder = tmp_path_factory.mktemp("latents")
    write_latents(tiny_base.pictures(12), tiny_base.settings(base, flips=True), folder, CPU)
    return Cached([(folder, np.arange(12))])


def examples(latents: Latents) -> Examples:
    pictures = Pictures(latents, LABELS)
    return Examples(pictures, pictures, NAMES)


@pytest.fixture(scope="module")
def run(base: Path, cached: Cached) -> Any:
    """Train with changed settings; what was trained from the cached latents is remembered."""

    @cache
    def _run(
        seed: int = 0,
        latents: Latents = cached,
        checkpoints: Path | None = None,
        **changes: Any,
    ) -> Trained:
        settings = tiny_base.settings(base, **changes)
        place = Folder(checkpoints or Path("/nowhere"))
        return train(examples(latents), settings, seed, CPU, None, place, ALONE)

    return _run


def same(a: lora.Weights, b: lora.Weights) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def furthest(a: lora.Weights, b: lora.Weights) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def curve(trained: Trained, name: str = "train_loss") -> list[float]:
    return [row[name] for row in trained.history]


def drawn(count: int, shape: tuple[int, int, int] = (4, 8, 8)) -> Drawn:
    return Draws(0, count, shape, 1000, False).held_out(count)


# what is drawn


def test_an_epoch_shows_every_picture_once_and_the_next_in_another_order() -> None:
    rows = Draws(0, 12, (4, 2, 2), 1000, False).pictures(range(24)).rows
    assert sorted(rows[:12]) == sorted(rows[12:]) == list(range(12))
    assert list(rows[:12]) != list(rows[12:])


def test_what_is_drawn_for_a_picture_depends_on_its_number_alone() -> None:
    together = Draws(3, 12, (4, 2, 2), 1000, True).pictures(range(40))
    other = Draws(3, 12, (4, 2, 2), 1000, True)
    for number in (39, 0, 13):
        alone = other.pictures([number])
        for whole, one in zip(together, alone, strict=True):
            np.testing.assert_array_equal(whole[number], one[0])


def test_half_of_the_pictures_are_mirrored_and_none_without_flips() -> None:
    draws = partial(Draws, 0, 12, (1, 1, 1), 1000)
    assert 0.45 < draws(True).pictures(range(2_000)).flips.mean() < 0.55
    assert not draws(False).pictures(range(100)).flips.any()


def test_times_and_noise_are_drawn_from_their_distributions() -> None:
    many = Draws(0, 12, (4, 8, 8), 1000, False).pictures(range(500))
    assert many.times.min() >= 0
    assert many.times.max() < 1000
    assert abs(many.times.mean() - 499.5) < 4 * 1000 / math.sqrt(12 * 500)
    for noise in (many.spread, many.noise):
        assert abs(noise.mean()) < 0.02
        assert abs(noise.std() - 1) < 0.02
    assert abs(np.mean(many.spread * many.noise)) < 0.02


def test_held_out_pictures_are_different_ones_with_times_over_the_whole_range() -> None:
    found = Draws(0, 20, (4, 2, 2), 1000, True).held_out(10)
    assert len(set(found.rows.tolist())) == 10
    np.testing.assert_array_equal(found.times, np.arange(50, 1000, 100))
    assert len(Draws(0, 3, (4, 2, 2), 1000, True).held_out(10).rows) == 3


# the loss


class Known:
    """Latents without spread."""

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def posterior(self, rows: Ids, flips: Flips) -> Posterior:
        mean = self.values[rows]
        return Posterior(mean, torch.zeros_like(mean))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_net_that_knows_the_noise_or_velocity_has_no_loss(
    prediction: str, tmp_path: Path
) -> None:
    schedule = Base(tiny_base.make(tmp_path, None, prediction)).noise_schedule()
    values = torch.randn((5, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    chosen = drawn(5)
    scaling = 0.5
    kept = schedule.alphas_cumprod[chosen.times][:, None, None, None]
    start, noise = values[chosen.rows] * scaling, torch.from_numpy(chosen.noise)
    noisy = kept.sqrt() * start + (1 - kept).sqrt() * noise
    velocity = kept.sqrt() * noise - (1 - kept).sqrt() * start

    def oracle(seen: Tensor, times: Tensor, texts: Tensor) -> SimpleNamespace:
        torch.testing.assert_close(seen, noisy)
        np.testing.assert_array_equal(times, chosen.times)
        np.testing.assert_array_equal(texts[:, 0, 0], LABELS[chosen.rows])
        return SimpleNamespace(sample=noise if prediction == "epsilon" else velocity)

    texts = torch.arange(2.0)[:, None, None].expand(2, 77, 32)
    objective = Objective(oracle, schedule, scaling, texts)
    losses = objective.losses(Pictures(Known(values), LABELS), chosen)
    torch.testing.assert_close(losses, torch.zeros(5))


def test_the_loss_of_one_fixed_batch_falls_by_the_adapters_alone(
    base: Path, cached: Cached
) -> None:
    settings = tiny_base.settings(base, rank=8)
    opened = open_base(settings)
    unet = opened.unet()
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    lora.inject(unet, settings, 1.0)
    lora.assign(unet, lora.fresh(unet, 0))
    texts = opened.embeddings(NAMES, CPU)
    objective = Objective(unet, opened.noise_schedule(), opened.scaling, texts)
    adam = torch.optim.Adam(lora.adapters(unet).values(), 1e-2)
    fixed = drawn(8)
    losses = []
    for _ in range(40):
        adam.zero_grad()
        loss = objective.losses(Pictures(cached, LABELS), fixed).mean()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    for name, value in unet.state_dict().items():
        if "lora_" not in name:
            assert torch.equal(value, before[name.replace(".base_layer", "")])


@pytest.mark.slow
def test_the_loss_of_the_same_held_out_pictures_falls(run: Any) -> None:
    held_out = curve(run(steps=40, check_every=20), "held_out_loss")
    assert all(math.isfinite(loss) for loss in held_out)
    assert held_out[-1] < 0.97 * held_out[0]


def test_adapters_start_without_effect(base: Path) -> None:
    settings = tiny_base.settings(base)
    opened = open_base(settings)
    plain, adapted = opened.unet(), opened.unet()
    lora.inject(adapted, settings, 1.0)
    weights = lora.fresh(adapted, 0)
    lora.assign(adapted, weights)
    texts = opened.embeddings(NAMES, CPU)
    noisy = torch.from_numpy(drawn(2).noise)
    assert torch.equal(plain(noisy, 5, texts).sample, adapted(noisy, 5, texts).sample)
    downs = torch.cat([v.flatten() for name, v in weights.items() if ".down." in name])
    assert abs(float(downs.std()) * settings.rank - 1) < 0.05


# the same numbers


def test_the_same_seed_gives_the_same_bits_whatever_ran_before(run: Any, cached: Cached) -> None:
    first = run()
    torch.manual_seed(123)
    state = torch.get_rng_state()
    again = run(latents=Counting(cached))
    assert same(first.weights, again.weights)
    assert first.history == again.history
    assert torch.equal(state, torch.get_rng_state())
    assert not same(run(seed=1).weights, first.weights)


@pytest.mark.parametrize("flips", [False, True])
def test_cached_latents_train_like_encoding_on_the_fly(run: Any, base: Path, flips: bool) -> None:
    vae = open_base(tiny_base.settings(base)).vae(CPU)
    fresh = OnTheFly(tiny_base.pictures(12), vae)
    a, b = run(flips=flips, steps=10), run(flips=flips, steps=10, latents=fresh)
    assert len(a.history) == 5
    for name in ("train_loss", "held_out_loss"):
        np.testing.assert_allclose(curve(a, name), curve(b, name), atol=1e-4, rtol=0)
    assert curve(run(flips=not flips, steps=10)) != curve(a)


def test_parts_joined_are_the_pictures_one_after_another(base: Path, tmp_path: Path) -> None:
    settings, vae = tiny_base.settings(base), open_base(tiny_base.settings(base)).vae(CPU)
    images = tiny_base.pictures(6)
    for name, part in {"a": images[:4], "b": images[4:]}.items():
        (tmp_path / name).mkdir()
        write_latents(part, settings, tmp_path / name, CPU)
    parts = Cached([(tmp_path / "a", np.array([3, 1])), (tmp_path / "b", np.array([1, 0, 1]))])
    assert len(parts) == 5
    rows, none = np.array([4, 0, 3, 1, 2]), np.zeros(5, bool)
    whole = OnTheFly(images, vae).posterior(np.array([3, 1, 5, 4, 5])[rows], none)
    for ours, expected in zip(parts.posterior(rows, none), whole, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(StageError, match=r"generator\.flips is true, and latents were cached"):
        parts.posterior(np.array([0]), np.array([True]))


class Watched:
    """Pictures that note how many were asked for at once."""

    def __init__(self, count: int) -> None:
        self.images, self.most = tiny_base.pictures(count), 0
        self.shape = self.images.shape

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Any) -> Any:
        self.most = max(self.most, len(rows))
        return self.images[rows]


def test_latents_are_written_from_one_batch_of_pictures_at_a_time(
    base: Path, tmp_path: Path
) -> None:
    watched = Watched(3 * ENCODE_BATCH + 1)
    write_latents(watched, tiny_base.settings(base), tmp_path, CPU)
    assert watched.most == ENCODE_BATCH
    means = np.load(tmp_path / "latents_mean.npy")
    assert means.shape == (len(watched), 4, 8, 8)
    assert means.dtype == np.float32
    assert (np.load(tmp_path / "latents_std.npy") > 0).all()


def test_pictures_of_another_size_are_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"resolution is 32, and the pictures are read as \(3, 16"):
        write_latents(tiny_base.pictures(2), tiny_base.settings(base, resolution=32), tmp_path, CPU)


@pytest.mark.parametrize(
    "changes", [{"accumulation": 2}, {"accumulation": 4}, {"gradient_checkpointing": True}]
)
def test_what_saves_memory_changes_no_number(run: Any, changes: dict[str, Any]) -> None:
    plain, saving = run(learning_rate=1e-3), run(learning_rate=1e-3, **changes)
    np.testing.assert_allclose(curve(plain), curve(saving), atol=1e-5, rtol=0)
    assert furthest(plain.weights, saving.weights) < 1e-5


def test_the_micro_batches_of_two_workers_can_be_made_by_one(run: Any) -> None:
    assert same(run(workers=2).weights, run(accumulation=2).weights)


@pytest.mark.parametrize(("precision", "near"), [("bfloat16", 0.02), ("float16", 0.005)])
def test_half_precision_trains_nearly_the_same(run: Any, precision: str, near: float) -> None:
    full, half = run(), run(precision=precision)
    assert half.outcome == "completed"
    np.testing.assert_allclose(curve(half), curve(full), rtol=near)
    assert curve(half) != curve(full)
    assert {value.dtype for value in half.weights.values()} == {torch.float32}


def test_the_learning_rate_warms_up(run: Any) -> None:
    rates = curve(run(warmup_steps=4, learning_rate=1e-3), "learning_rate")
    np.testing.assert_allclose(rates, [0.5e-3, 1e-3, 1e-3])


def test_published_weights_hold_the_factor_of_the_adapters_output(base: Path, run: Any) -> None:
    settings = tiny_base.settings(base, alpha=8.0)
    assert settings.scale == 2.0
    weights = run(steps=2).weights
    opened = open_base(settings)
    inside, published = opened.unet(), opened.unet()
    lora.inject(inside, settings, settings.scale)
    lora.assign(inside, weights)
    lora.inject(published, settings, 1.0)
    lora.assign(published, lora.scaled(weights, settings.scale))
    texts, noisy = opened.embeddings(NAMES, CPU), torch.from_numpy(drawn(2).noise)
    ours, theirs = (net(noisy, 5, texts).sample for net in (inside, published))
    torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(ours, opened.unet()(noisy, 5, texts).sample, atol=1e-3)


# an end before the end


def test_a_fine_tune_starts_from_the_previous_adapters(
    run: Any, base: Path, cached: Cached
) -> None:
    first = run(steps=10, alpha=8.0)
    settings = tiny_base.settings(base, steps=1, alpha=8.0, learning_rate=1e-9)
    near = train(examples(cached), settings, 0, CPU, first.weights, Folder(Path("/nowhere")), ALONE)
    assert furthest(near.weights, first.weights) < 1e-6
    assert curve(near, "held_out_loss")[0] == pytest.approx(curve(first, "held_out_loss")[-1])
    settings = tiny_base.settings(base, steps=1, alpha=8.0)
    further = train(
        examples(cached), settings, 0, CPU, first.weights, Folder(Path("/nowhere")), ALONE
    )
    assert furthest(further.weights, first.weights) > 1e-3


def test_adapters_of_another_rank_are_refused(run: Any, base: Path, cached: Cached) -> None:
    other, settings = run(rank=2).weights, tiny_base.settings(base)
    with pytest.raises(StageError, match=r"belong to another base or rank: unet\..* should be \("):
        train(examples(cached), settings, 0, CPU, other, Folder(Path("/nowhere")), ALONE)


def test_divergence_is_an_outcome_that_leaves_the_last_sound_weights(run: Any) -> None:
    trained = run(learning_rate=1e30, steps=20)
    assert trained.outcome == "diverged"
    assert trained.facts["steps"] < 20
    assert not math.isfinite(curve(trained)[-1])
    assert all(bool(value.isfinite().all()) for value in trained.weights.values())


class Killed(Exception):  # noqa: N818
    """The end of a process in the middle of a fine-tune."""


class Failing:
    """Latents that fail at the n-th batch."""

    def __init__(self, latents: Latents, batches: int) -> None:
        self.latents, self.left = latents, batches

    def __len__(self) -> int:
        return len(self.latents)

    def posterior(self, rows: Ids, flips: Flips) -> Posterior:
        self.left -= 1
        if self.left < 0:
            raise Killed
        return self.latents.posterior(rows, flips)


class Counting(Failing):
    """Latents that count their batches."""

    def __init__(self, latents: Latents) -> None:
        super().__init__(latents, 1_000_000)

    @property
    def batches(self) -> int:
        return 1_000_000 - self.left


# a look takes a batch more
KEEPING = {"steps": 9, "check_every": 4, "checkpoint_every": 3}


@pytest.mark.parametrize("precision", ["float32", pytest.param("float16", marks=pytest.mark.slow)])
def test_a_killed_fine_tune_goes_on_to_the_very_same_end(
    run: Any, cached: Cached, tmp_path: Path, precision: str
) -> None:
    keeping = {**KEEPING, "precision": precision}
    whole = run(**keeping)
    # killed in step 6, then, from step 3 on, in step 8; the loss of step 5 and 6 is carried over
    for batches in (6, 5):
        with pytest.raises(Killed):
            run(latents=Failing(cached, batches), checkpoints=tmp_path, **keeping)
    rest = Counting(cached)
    resumed = run(latents=rest, checkpoints=tmp_path, **keeping)
    assert rest.batches == 3 + 2
    assert same(resumed.weights, whole.weights)
    assert resumed.history == whole.history


def _checkpoint(run: Any, folder: Path, **changes: Any) -> Path:
    run(checkpoints=folder, **{**KEEPING, **changes})
    return folder / checkpoint.FILE


@pytest.mark.parametrize("left", [5_000, -1])
def test_a_checkpoint_cut_short_is_ignored(
    run: Any, cached: Cached, tmp_path: Path, left: int
) -> None:
    path = _checkpoint(run, tmp_path)
    path.write_bytes(path.read_bytes()[:left])
    all_of_it = Counting(cached)
    trained = run(latents=all_of_it, checkpoints=tmp_path, **KEEPING)
    assert all_of_it.batches == 9 + 3
    assert same(trained.weights, run(**KEEPING).weights)


@pytest.mark.parametrize("changes", [{"seed": 1}, {"learning_rate": 1e-3}])
def test_a_checkpoint_of_another_run_is_ignored(
    run: Any, cached: Cached, tmp_path: Path, changes: dict[str, Any]
) -> None:
    _checkpoint(run, tmp_path, **changes)
    all_of_it = Counting(cached)
    trained = run(latents=all_of_it, checkpoints=tmp_path, **KEEPING)
    assert all_of_it.batches == 9 + 3
    assert same(trained.weights, run(**KEEPING).weights)


def test_checkpoints_are_written_only_where_wanted(run: Any, tmp_path: Path) -> None:
    run(checkpoints=tmp_path, steps=4, checkpoint_every=0)
    assert not list(tmp_path.iterdir())
    _checkpoint(run, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.FILE]


def test_a_prompt_too_long_for_the_text_encoder_is_an_error(base: Path) -> None:
    with pytest.raises(DataError, match=r"tokens, and the text encoder of .* reads 77"):
        open_base(tiny_base.settings(base)).embeddings(["x" * 80], CPU)


@cache
def _texts(base: Path) -> Tensor:
    return open_base(tiny_base.settings(base)).embeddings(["beaver", "wolf", "beaver"], CPU)


def test_equal_prompts_have_equal_embeddings_and_others_have_not(base: Path) -> None:
    a, b, c = _texts(base)
    assert a.shape == (77, 32)
    assert torch.equal(a, c)
    assert float((a - b).abs().max()) > 0.1
