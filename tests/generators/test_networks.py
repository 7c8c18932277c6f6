"""Networks of the conditional GAN: shapes at every image size, and what a group is judged by."""

import pytest
import torch

from ray_selfloop.config.generators.gan import ConditionalGan
from ray_selfloop.errors import ConfigError
from ray_selfloop.generators.gan.networks import DiscriminatorNet, GeneratorNet, doublings

SMALL = {
    "latent_size": 7,
    "generator_width": 32,
    "discriminator_width": 8,
    "discriminator_features": 16,
}


def _settings(**changes: object) -> ConditionalGan:
    return ConditionalGan.model_validate(SMALL | changes)


def _discriminator(group: int, num_classes: int) -> DiscriminatorNet:
    return DiscriminatorNet(_settings(group_size=group), num_classes, (3, 8, 8))


@pytest.mark.parametrize(("size", "expected"), [(8, 1), (16, 2), (28, 2), (32, 3), (64, 4)])
def test_the_generator_starts_between_four_and_eight_pixels(size: int, expected: int) -> None:
    assert doublings(size) == expected
    assert 4 <= size / 2 ** doublings(size) <= 8


@pytest.mark.parametrize("size", [2, 30, 50])
def test_a_size_that_does_not_halve_far_enough_is_named(size: int) -> None:
    with pytest.raises(ConfigError, match=f"images of {size} pixels"):
        doublings(size)


def test_images_that_are_not_square_are_refused() -> None:
    with pytest.raises(ConfigError, match="8x16"):
        GeneratorNet(_settings(), 3, (3, 8, 16))


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 28, 28), (3, 28, 28), (3, 32, 32)])
def test_generated_images_have_the_asked_shape(shape: tuple[int, int, int]) -> None:
    labels = torch.arange(8).repeat_interleave(2) % 5
    settings = _settings(group_size=2)
    images = GeneratorNet(settings, 5, shape)(torch.randn(16, 7), labels)
    assert images.shape == (16, *shape)
    image, group = DiscriminatorNet(settings, 5, shape)(images, labels)
    assert image.shape == (16,)
    assert group.shape == (8,)


def test_a_group_is_judged_as_a_set_and_apart_from_other_groups() -> None:
    torch.manual_seed(0)
    net = _discriminator(4, 3).eval()
    images, labels = torch.randn(8, 3, 8, 8), torch.tensor([0] * 4 + [2] * 4)
    group = net(images, labels)[1]
    shuffled = net(images[[2, 0, 3, 1, 4, 5, 6, 7]], labels)[1]
    torch.testing.assert_close(shuffled, group)
    changed = images.clone()
    changed[7] += 1
    other = net(changed, labels)[1]
    torch.testing.assert_close(other[0], group[0])
    assert not torch.isclose(other[1], group[1])


def test_the_discriminator_sees_one_image_four_times_where_single_images_look_real() -> None:
    torch.manual_seed(0)
    net = _discriminator(4, 1).eval()
    images, labels = torch.randn(4, 3, 8, 8), torch.zeros(4, dtype=torch.int64)
    repeated = images[:1].expand(4, -1, -1, -1)
    alone, together = net(repeated, labels)
    torch.testing.assert_close(alone, net(images, labels)[0][:1].expand(4))
    assert not torch.isclose(together, net(images, labels)[1])


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 28, 28), (3, 32, 32)])
def test_doubling_by_neighbours_makes_the_asked_shape_and_learns_in_all_weights(
    shape: tuple[int, int, int],
) -> None:
    torch.manual_seed(0)
    net = GeneratorNet(_settings(upsampling="nearest"), 2, shape)
    images = net(torch.randn(8, 7), torch.arange(8) % 2)
    assert images.shape == (8, *shape)
    images.square().sum().backward()
    grads = [weight.grad for weight in net.parameters()]
    assert all(grad is not None and bool(grad.abs().sum() > 0) for grad in grads)


def test_the_discriminators_gain_widens_its_logits() -> None:
    images, labels = torch.randn(64, 3, 32, 32), torch.zeros(64, dtype=torch.int64)

    def width(gain: float) -> float:
        torch.manual_seed(0)
        net = DiscriminatorNet(_settings(discriminator_gain=gain), 1, (3, 32, 32)).eval()
        return net(images, labels)[0].std().item()

    assert width(2.0) > 4 * width(1.0) > 0
