"""Colours: their shares, their pixels, and how a dataset is cut."""

from dataclasses import replace

import numpy as np
import pytest

from ray_selfloop import seeding
from ray_selfloop.config.datasets.coloured import ColorizedDigits
from ray_selfloop.datasets.colours import (
    CHANNEL_OF_COLOUR,
    COLOURS,
    NONE_CLEAR,
    colorize,
    paint,
    read_colours,
)
from ray_selfloop.errors import ConfigError
from ray_selfloop.images.imageset import Ids, Images, ImageSet, Splits

RATIOS = (0.7, 0.2, 0.1)
PARTS = ("train", "held_out", "test", "reserve")


def scans(n: int, side: int = 6, seed: int = 0) -> tuple[Images, Ids]:
    """``n`` gray images with ink in each, no two alike, and uneven classes 0..9."""
    draw = seeding.rng(seed, "scans")
    gray = draw.integers(0, 256, size=(n, side, side), dtype=np.uint8)
    gray[:, 0, 0] = 255
    return gray, draw.choice(10, size=n, p=np.arange(6, 16) / 105)


TRAIN, TEST = scans(1_000, seed=1), scans(201, seed=2)


def splits(
    initialization: str = "biased", test: str = "crossed", reserve: float = 0.0, seed: int = 0
) -> Splits:
    """The dataset of these tests."""
    return colorize(TRAIN, TEST, settings(initialization, test, reserve=reserve, seed=seed))


def settings(initialization: str, test: str = "crossed", **more: float) -> ColorizedDigits:
    """Settings with the shares of these tests."""
    own = {"initialization": initialization, "test_colours": test, "ratios": RATIOS, **more}
    return ColorizedDigits.model_validate(own)


def same(one: ImageSet, other: ImageSet) -> bool:
    """Whether two sets are equal, value for value."""
    names = ("images", "labels", "subgroups", "units")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


# --- pixels --------------------------------------------------------------------------------------


def test_paint_puts_the_ink_in_the_channel_of_its_colour() -> None:
    gray, _ = scans(30)
    colours = np.arange(30) % 3
    images = paint(gray, colours)
    assert images.shape == (30, 3, 6, 6)
    assert images.dtype == np.uint8
    assert np.array_equal(images.sum(axis=1, dtype=np.uint8), gray)
    for image, colour in zip(images, colours, strict=True):
        channel = {"red": 0, "green": 1, "blue": 2}[COLOURS[colour]]
        assert image[channel].any()
        assert not np.delete(image, channel, axis=0).any()


def test_read_colours_is_the_inverse_of_paint() -> None:
    gray, _ = scans(300)
    colours = seeding.rng(0, "colours").integers(0, 3, 300)
    assert np.array_equal(read_colours(paint(gray, colours)), colours)


def test_reading_survives_noise_and_scaling_but_not_gray() -> None:
    gray, _ = scans(300)
    colours = seeding.rng(0, "colours").integers(0, 3, 300)
    images = paint(gray, colours)
    noise = seeding.rng(0, "noise").integers(0, 30, images.shape, dtype=np.uint8)
    assert np.array_equal(read_colours(np.maximum(images // 2, noise // 2)), colours)
    assert np.all(read_colours(np.repeat(gray[:, None], 3, axis=1)) == NONE_CLEAR)
    assert np.all(read_colours(np.zeros((2, 3, 6, 6), np.uint8)) == NONE_CLEAR)


@pytest.mark.parametrize(("strong", "clear"), [(59, False), (60, True), (61, True)])
def test_a_colour_is_clear_from_60_percent_of_the_intensity(strong: int, clear: bool) -> None:
    for colour in range(3):
        image = np.zeros((1, 3, 1, 2), np.uint8)
        image[0, :, 0, 0] = [100 - strong, 0, 0]
        image[0, :, 0, 0] = np.roll(image[0, :, 0, 0], CHANNEL_OF_COLOUR[colour] + 1)
        image[0, CHANNEL_OF_COLOUR[colour], 0, 1] = strong
        assert read_colours(image)[0] == (colour if clear else NONE_CLEAR)


# --- shares --------------------------------------------------------------------------------------


@pytest.mark.parametrize("initialization", ["unbiased", "biased", "spurious"])
@pytest.mark.parametrize("part", ["train", "held_out", "reserve"])
def test_colour_shares_are_exact_up_to_rounding_in_every_class(
    initialization: str, part: str
) -> None:
    own = settings(initialization)
    found: ImageSet = getattr(splits(initialization, reserve=0.3), part)
    for label in range(10):
        colours = found.subgroups[found.labels == label]
        wanted = len(colours) * np.array(own.shares(label))
        assert np.all(np.abs(np.bincount(colours, minlength=3) - wanted) < 1)


def test_what_the_initialisations_mean() -> None:
    unbiased, biased, spurious = (
        np.array([settings(name).shares(label) for label in range(10)])
        for name in ("unbiased", "biased", "spurious")
    )
    for shares in (unbiased, biased, spurious):
        assert np.allclose(shares.sum(axis=1), 1)
    assert np.allclose(unbiased, 1 / 3)
    assert np.allclose(biased, RATIOS)
    assert np.array_equal(spurious.argmax(axis=1), np.arange(10) % 3)
    assert np.allclose(np.sort(spurious, axis=1)[:, ::-1], RATIOS)


def test_pixels_have_the_colour_that_the_subgroups_say() -> None:
    found = splits(reserve=0.3)
    for part in PARTS:
        rows: ImageSet = getattr(found, part)
        assert np.array_equal(read_colours(rows.images), rows.subgroups)
        assert rows.subgroup_names == COLOURS


# --- cuts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reserve", [0.0, 0.1, 0.5, 0.9])
def test_parts_are_disjoint_exhaustive_and_stratified(reserve: float) -> None:
    gray, labels = TRAIN
    found = splits(reserve=reserve)
    parts = [found.train, found.held_out, found.reserve]
    units = np.concatenate([part.units for part in parts])
    assert np.array_equal(np.sort(units), np.arange(len(labels)))
    assert len(found.held_out) == 100
    assert len(found.reserve) == round(reserve * 900)
    for part in parts:
        assert np.array_equal(part.labels, labels[part.units])
        assert np.array_equal(part.images.max(axis=1), gray[part.units])
        expected = len(part) * np.bincount(labels) / len(labels)
        assert np.all(np.abs(np.bincount(part.labels, minlength=10) - expected) < 2)  # cut twice


def test_the_reserve_changes_neither_the_held_out_images_nor_the_test() -> None:
    plain, cut = splits(), splits(reserve=0.4)
    assert same(plain.held_out, cut.held_out)
    assert same(plain.test, cut.test)
    assert set(cut.train.units) < set(plain.train.units)


def test_a_reserve_that_leaves_a_class_empty_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^dataset.reserve: 0.999 of 900 images leaves no ori"):
        splits(reserve=0.999)


def test_a_crossed_test_shows_each_unit_in_each_colour_once() -> None:
    gray, labels = TEST
    test = splits().test
    assert len(test) == 3 * len(gray)
    pairs = set(zip(test.units.tolist(), test.subgroups.tolist(), strict=True))
    assert pairs == {(unit, colour) for unit in range(len(gray)) for colour in range(3)}
    assert np.array_equal(test.images.max(axis=1), gray[test.units])
    assert np.array_equal(test.labels, labels[test.units])


def test_a_random_test_has_each_unit_once_and_the_shares_of_training() -> None:
    test = splits("spurious", "random").test
    assert np.array_equal(test.units, np.arange(len(TEST[1])))
    for label in range(10):
        colours = test.subgroups[test.labels == label]
        wanted = len(colours) * np.roll(RATIOS, label)
        assert np.all(np.abs(np.bincount(colours, minlength=3) - wanted) < 1)


def test_the_seed_decides_cut_and_colours_and_nothing_else_does() -> None:
    first, again, other = splits(reserve=0.2), splits(reserve=0.2), splits(reserve=0.2, seed=1)
    for part in PARTS:
        assert same(getattr(first, part), getattr(again, part))
    assert set(first.train.units) != set(other.train.units)
    assert same(first.test, other.test)  # crossed: nothing is drawn
    assert not same(splits(test="random").test, splits(test="random", seed=1).test)


def test_initialisations_differ_in_their_colours_alone() -> None:
    unbiased, biased = splits("unbiased"), splits("biased")
    assert np.array_equal(unbiased.train.units, biased.train.units)
    assert np.array_equal(unbiased.train.labels, biased.train.labels)
    assert not np.array_equal(unbiased.train.subgroups, biased.train.subgroups)
    assert same(unbiased.test, biased.test)


# --- the form in which data moves ----------------------------------------------------------------


def test_take_gives_rows_in_order_with_repetition() -> None:
    train = splits().train
    rows = np.array([5, 0, 5])
    taken = train.take(rows)
    assert same(taken, replace(taken, images=train.images[rows]))
    assert np.array_equal(taken.units, train.units[rows])
    assert same(train.take(np.arange(len(train))), train)


def test_a_set_of_unequal_columns_cannot_be_made() -> None:
    train = splits().train
    with pytest.raises(AssertionError):
        replace(train, labels=train.labels[1:])
    with pytest.raises(AssertionError):
        replace(train, images=train.images.astype(np.float32))
