"""What each ablation does to pixels: by closed form, and in reference mode against another way of
writing down what the published code does."""

import numpy as np
import pytest
import torch

from ray_selfloop.config.evaluation import Ablation
from ray_selfloop.evaluation.ablation.pixels import GRAY, KINDS, NOISES, ablated, box_of

PAPER, REFERENCE = Ablation(), Ablation(compat="reference")
EACH = Ablation(boxes="each")


def picture(height=24, width=24, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (3, height, width), np.uint8))


def mask_of(*boxes, height=24, width=24):
    """True in boxes of (top, bottom, left, right), ends exclusive."""
    mask = torch.zeros(height, width, dtype=torch.bool)
    for top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


def one(image, mask, kind, settings=PAPER, number=0):
    """One picture under an ablation, or None where it is not defined."""
    changed, defined = ablated(image[None], mask[None], kind, settings, torch.tensor([number]))
    assert changed.dtype == torch.float32
    assert (changed.shape, defined.shape) == ((1, *image.shape), (1,))
    return changed[0] if defined[0] else None


def only_there(image, changed, top, bottom, left, right):
    """The pixels of the region; all others must be as they were."""
    outside = torch.ones(image.shape[1:], dtype=torch.bool)
    outside[top:bottom, left:right] = False
    assert torch.equal(changed[:, outside], image[:, outside].float())
    return changed[:, top:bottom, left:right]


def assert_equal(found, expected):
    np.testing.assert_array_equal(found.numpy(), np.asarray(expected, np.float32))


# --- the object and its box ----------------------------------------------------------------------


def test_gray_is_exactly_half_of_the_range():
    assert GRAY == 127.5


def test_object_pixels_become_gray_and_no_others():
    image, mask = picture(), mask_of((3, 9, 4, 12), (6, 14, 10, 13))
    changed = one(image, mask, "object_gray")
    assert (changed[:, mask] == GRAY).all()
    assert torch.equal(changed[:, ~mask], image[:, ~mask].float())


def test_the_box_holds_the_first_and_the_last_object_pixel():
    image, mask = picture(), mask_of((3, 9, 4, 12))
    mask[5, 6] = mask[3, 4] = False  # a hole, and a corner that does not move the box
    assert box_of(mask) == (3, 9, 4, 12)
    box = only_there(image, one(image, mask, "box_gray"), 3, 9, 4, 12)
    assert (box == GRAY).all()


def test_one_pixel_is_an_object_with_a_box():
    image, mask = picture(), mask_of((7, 8, 11, 12))
    assert (only_there(image, one(image, mask, "box_gray"), 7, 8, 11, 12) == GRAY).all()
    fill = only_there(image, one(image, mask, "box_neighbour"), 7, 8, 11, 12)
    assert_equal(fill, image[:, 8:9, 11:12])  # below there is most room


def test_several_objects_have_one_box_around_all_of_them_or_one_each():
    image, mask = picture(), mask_of((2, 5, 2, 6), (10, 13, 15, 20))
    joint = one(image, mask, "box_gray")
    assert (only_there(image, joint, 2, 13, 2, 20) == GRAY).all()
    apart = one(image, mask, "box_gray", EACH)
    assert torch.equal(apart, one(image, mask, "object_gray"))  # these objects are boxes
    for box in ((2, 5, 2, 6), (10, 13, 15, 20)):
        assert (apart[:, box[0] : box[1], box[2] : box[3]] == GRAY).all()


def test_pieces_that_touch_at_a_corner_are_one_object():
    image, mask = picture(), mask_of((2, 4, 2, 4), (4, 6, 4, 6))
    assert torch.equal(one(image, mask, "box_gray", EACH), one(image, mask, "box_gray"))


# --- the neighbouring region ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "source"),
    [
        ((8, 14, 2, 6), (8, 14, 6, 10)),  # most room to the right
        ((8, 14, 18, 22), (8, 14, 14, 18)),  # left
        ((2, 6, 8, 14), (6, 10, 8, 14)),  # below
        ((18, 22, 8, 14), (14, 18, 8, 14)),  # above
        ((8, 14, 0, 5), (8, 14, 5, 10)),  # the object touches a border
        ((10, 14, 10, 14), (10, 14, 14, 18)),  # the same room everywhere: the right is first
        ((0, 4, 0, 24), (4, 8, 0, 24)),  # as wide as the picture
    ],
)
def test_the_box_is_replaced_by_the_region_next_to_it(box, source):
    image = picture()
    fill = only_there(image, one(image, mask_of(box), "box_neighbour"), *box)
    assert_equal(fill, image[:, source[0] : source[1], source[2] : source[3]])


def test_a_side_that_fills_more_of_the_box_wins_over_one_with_more_room():
    image, box = picture(20, 30), (2, 8, 6, 24)  # right 6 of 18 columns, below all 6 rows
    fill = only_there(image, one(image, mask_of(box, height=20, width=30), "box_neighbour"), *box)
    assert_equal(fill, image[:, 8:14, 6:24])


@pytest.mark.parametrize(
    ("box", "columns"),
    [
        ((0, 24, 0, 17), [17 + j % 7 for j in range(17)]),
        ((0, 24, 5, 24), [j % 5 for j in range(1, 20)]),  # ends with the fifth column
    ],
)
def test_a_room_narrower_than_the_box_is_repeated(box, columns):
    image = picture()
    fill = only_there(image, one(image, mask_of(box), "box_neighbour"), *box)
    assert_equal(fill, image[:, :, columns])


def test_a_room_lower_than_the_box_is_repeated():
    image = picture()
    fill = only_there(image, one(image, mask_of((0, 17, 0, 24)), "box_neighbour"), 0, 17, 0, 24)
    assert_equal(fill, image[:, [17 + i % 7 for i in range(17)]])
    fill = only_there(image, one(image, mask_of((5, 24, 0, 24)), "box_neighbour"), 5, 24, 0, 24)
    assert_equal(fill, image[:, [i % 5 for i in range(1, 20)]])


def test_turning_the_picture_upside_down_turns_what_fills_the_box():
    image, mask = picture(), mask_of((4, 9, 3, 11), (6, 10, 8, 12))
    found = one(image, mask, "box_neighbour")
    turned = one(image.flip(1), mask.flip(0), "box_neighbour")
    assert torch.equal(found.flip(1), turned)


def test_each_object_is_filled_from_a_region_without_any_object():
    image = picture()
    mask = mask_of((0, 24, 4, 8), (0, 24, 10, 14))  # two columns between them
    changed = one(image, mask, "box_neighbour", EACH)
    assert_equal(changed[:, :, 4:8], image[:, :, 0:4])
    assert_equal(changed[:, :, 10:14], image[:, :, 14:18])
    assert torch.equal(changed[:, ~mask], image[:, ~mask].float())


# --- where an ablation means nothing -------------------------------------------------------------


@pytest.mark.parametrize("kind", [*KINDS, *NOISES])
def test_without_an_object_nothing_is_defined_and_the_picture_stays(kind):
    image, mask = picture(), mask_of()
    changed, defined = ablated(image[None], mask[None], kind, PAPER, torch.tensor([0]))
    assert not defined[0]
    assert torch.equal(changed[0], image.float())


@pytest.mark.parametrize("settings", [PAPER, EACH])
def test_a_mask_that_covers_everything_has_no_neighbour_and_no_background(settings):
    image, mask = picture(), mask_of((0, 24, 0, 24))
    for kind in ("object_gray", "box_gray"):
        assert (one(image, mask, kind, settings) == GRAY).all()
    for kind in ("box_neighbour", *NOISES):
        assert one(image, mask, kind, settings) is None


def test_a_box_that_reaches_all_borders_has_no_neighbour_though_there_is_background():
    mask = mask_of((0, 2, 0, 2), (22, 24, 22, 24))
    assert one(picture(), mask, "box_neighbour") is None
    assert one(picture(), mask, "box_neighbour", EACH) is not None


def test_a_batch_is_its_pictures_one_by_one():
    masks = [mask_of(), mask_of((2, 9, 3, 8)), mask_of((0, 24, 0, 24)), mask_of((5, 24, 0, 24))]
    images = torch.stack([picture(seed=i) for i in range(4)])
    for kind in (*KINDS, *NOISES):
        whole, defined = ablated(images, torch.stack(masks), kind, PAPER, torch.arange(4))
        for i, mask in enumerate(masks):
            alone = one(images[i], mask, kind, PAPER, i)
            assert bool(defined[i]) == (alone is not None)
            assert alone is None or torch.equal(whole[i], alone)


def test_floats_in_the_same_range_are_taken_as_they_are():
    image, mask = picture(), mask_of((2, 9, 3, 8))
    for kind in (*KINDS, *NOISES):
        assert torch.equal(one(image, mask, kind), one(image.float(), mask, kind))


def test_the_input_is_not_changed():
    image, mask = picture().float(), mask_of((2, 9, 3, 8))
    before = image.clone()
    for settings in (PAPER, EACH, REFERENCE):
        for kind in (*KINDS, *NOISES):
            one(image, mask, kind, settings)
    assert torch.equal(image, before)


def test_another_kind_is_an_error():
    with pytest.raises(ValueError, match="'blur' is no ablation: object_gray, box_gray"):
        one(picture(), mask_of(), "blur")


# --- noise ---------------------------------------------------------------------------------------


def test_noise_is_on_the_object_or_beside_it_and_the_same_noise():
    image, mask = torch.full((3, 24, 24), 127), mask_of((2, 20, 3, 21))
    on, beside = (one(image, mask, kind) for kind in NOISES)
    assert torch.equal(on[:, ~mask], image[:, ~mask].float())
    assert torch.equal(beside[:, mask], image[:, mask].float())
    everywhere = torch.where(mask, on, beside)
    other = mask_of((10, 24, 0, 12))
    again = torch.where(other, one(image, other, NOISES[0]), one(image, other, NOISES[1]))
    assert torch.equal(everywhere, again)


def test_noise_has_the_given_size_and_is_cut_at_the_range():
    image, mask = torch.full((3, 128, 128), 127), mask_of((0, 127, 0, 128), height=128, width=128)
    noise = one(image, mask, NOISES[0], Ablation(noise_std=0.1))[:, mask] - 127
    assert float(noise.std()) == pytest.approx(25.5, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.5)
    loud = one(image, mask, NOISES[0], Ablation(noise_std=5.0))
    assert (float(loud.min()), float(loud.max())) == (0.0, 255.0)


def test_noise_depends_on_the_picture_and_the_seed_alone():
    image, mask = picture(), mask_of((2, 9, 3, 8))
    first = one(image, mask, NOISES[0], PAPER, 3)
    assert torch.equal(first, one(image, mask, NOISES[0], PAPER, 3))
    assert not torch.equal(first, one(image, mask, NOISES[0], PAPER, 4))
    assert not torch.equal(first, one(image, mask, NOISES[0], Ablation(seed=1), 3))


# --- the reference code --------------------------------------------------------------------------


def pieces(mask):
    """Connected pieces in reading order of their first pixels, as lists of (row, column)."""
    left = {(int(r), int(c)) for r, c in np.argwhere(mask)}
    for start in sorted(left):
        if start not in left:
            continue
        found, edge = [], [start]
        left.discard(start)
        while edge:
            row, column = edge.pop()
            found.append((row, column))
            for step in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                near = row + step[0], column + step[1]
                if near in left:
                    left.discard(near)
                    edge.append(near)
        yield found


def position(flags):
    """Of the first true one; 0 where none is."""
    return next((i for i, flag in enumerate(flags) if flag), 0)


def cut_window(direction, x1, x2, y1, y2, mask):
    """(x1, x2, y1, y2) of what is left of a window, and the size it competes with."""
    side, w, h = len(mask), 0, 0
    x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(x2, side), min(y2, side)
    w, h = x2 - x1, y2 - y1
    by_x = [any(mask[y][x] for y in range(y1, y2)) for x in range(x1, x2)]
    by_y = [any(mask[y][x] for x in range(x1, x2)) for y in range(y1, y2)]
    if not any(by_x):
        return (x1, x2, y1, y2), w * h
    if direction == "right":
        kept = position(not any(by_x[:i]) for i in range(w, 0, -1))
        return (x1, x1 + kept, y1, y2), kept * h
    if direction == "left":
        gone = position(not any(by_y[i:]) for i in range(w))
        return (x1 + gone, x2, y1, y2), gone * h
    if direction == "up":
        kept = position(not any(by_x[:i]) for i in range(h, 0, -1))
        return (x1, x2, y1, y1 + kept), w * kept
    gone = position(not any(by_y[i:]) for i in range(h))
    return (x1, x2, y1 + gone, y2), w * gone


def reference_tile(image, mask):
    """Pixel by pixel, in the reference's own coordinates: corners are (row, column), windows are
    read at [y, x] with x the corner's row and y its column."""
    image, mask = image.astype(np.float32), mask.tolist()
    for piece in pieces(np.array(mask)):
        rows, columns = zip(*piece, strict=True)
        if min(rows) == max(rows) or min(columns) == max(columns):
            continue
        a, b, c, d = min(rows), max(rows) - 1, min(columns), max(columns) - 1
        wanted = {
            "right": (b, 2 * b - a, c, d),
            "left": (2 * a - b, a, c, d),
            "up": (a, b, d, 2 * d - c),
            "down": (a, b, 2 * c - d, d),
        }
        found = {name: cut_window(name, *window, mask) for name, window in wanted.items()}
        name = max(found, key=lambda n: found[n][1])
        (x1, x2, y1, y2), _ = found[name]
        before = image.copy()
        for i in range(b - a):
            for j in range(d - c):
                x, y = x1 + i, y1 + j
                if name in ("right", "left"):
                    n, back = x2 - x1, b - a - 1 - i
                    x = x1 + i % n if name == "right" and n else x2 - 1 - back % max(n, 1)
                else:
                    n, back = y2 - y1, d - c - 1 - j
                    y = y1 + j % n if name == "up" and n else y2 - 1 - back % max(n, 1)
                image[:, a + i, c + j] = before[:, y, x] if n else 0.0
    return image


def reference_box(image, mask):
    image = image.astype(np.float32)
    if mask.any():
        rows, columns = np.nonzero(mask)
        image[:, rows.min() : rows.max(), columns.min() : columns.max()] = 127.5
    return image


def blobs(rng, side):
    """A mask of a few discs and boxes, sometimes with specks as compression leaves them."""
    mask, (y, x) = np.zeros((side, side), bool), np.ogrid[:side, :side]
    for _ in range(rng.integers(0, 5)):
        height, width = rng.integers(1, side // 2 + 2, 2)
        top, left = rng.integers(0, side - height + 1), rng.integers(0, side - width + 1)
        if rng.random() < 0.5:
            mask[top : top + height, left : left + width] = True
        else:
            off = (y - top - height / 2) / height, (x - left - width / 2) / width
            mask |= off[0] ** 2 + off[1] ** 2 < 0.25
    return mask | (rng.random((side, side)) < 0.1 * (rng.random() < 0.15))


def test_reference_mode_is_the_reference_pixel_by_pixel():
    rng, filled = np.random.default_rng(1), 0
    for number in range(300):
        side = int(rng.integers(6, 22))
        image, mask = picture(side, side, number), blobs(rng, side)
        mask[:] |= number % 50 == 0  # a mask that covers everything, too
        there = torch.from_numpy(mask)
        tiled = reference_tile(image.numpy(), mask)
        assert_equal(one(image, there, "box_neighbour", REFERENCE), tiled)
        assert_equal(one(image, there, "box_gray", REFERENCE), reference_box(image.numpy(), mask))
        gray = np.where(mask, np.float32(127.5), image.numpy().astype(np.float32))
        assert_equal(one(image, there, "object_gray", REFERENCE), gray)
        filled += (tiled != image.numpy()).any()
    assert filled > 150


def test_in_the_reference_the_last_row_and_column_of_an_object_stay_visible():
    image, mask = picture(64, 64), mask_of((20, 40, 8, 48), height=64, width=64)
    box = only_there(image, one(image, mask, "box_gray", REFERENCE), 20, 39, 8, 47)
    assert (box == GRAY).all()
    assert box.shape[1] * box.shape[2] == 741  # of 800 object pixels


def test_in_the_reference_a_neighbour_is_the_mirror_image_across_the_diagonal():
    image, mask = picture(224, 224), mask_of((20, 40, 120, 160), height=224, width=224)
    fill = only_there(image, one(image, mask, "box_neighbour", REFERENCE), 20, 38, 120, 158)
    assert_equal(fill, image[:, 120:158, 20:38].transpose(1, 2))


def test_in_the_reference_a_full_mask_becomes_black_and_an_empty_one_counts():
    image = picture()
    black = only_there(
        image, one(image, mask_of((0, 24, 0, 24)), "box_neighbour", REFERENCE), 0, 22, 0, 22
    )
    assert (black == 0).all()
    for kind in (*KINDS, NOISES[0]):
        assert torch.equal(one(image, mask_of(), kind, REFERENCE), image.float())
