"""Digit scans in three colours: scikit-learn's bundled ones, and MNIST's."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ray_selfloop.config.base import Path
from ray_selfloop.config.datasets.base import (
    FEWER,
    DatasetSettings,
    Reserve,
    Share,
    Traits,
    limited,
)

MNIST_TEST = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)  # images by digit
DIGITS_TEST = (36,) * 10  # a fifth of scikit-learn's scans, to within one image


def _ratios(settings: "ColorizedDigits") -> str:
    shares = ", ".join(f"{ratio:g}" for ratio in settings.ratios)
    return "" if settings.initialization == "unbiased" else f"colour shares {shares}"


_COLOURED: dict[str, Any] = {
    "reader": "ray_selfloop.datasets.coloured:KIND",
    "subgroups": "pixels",
    "other": {"ratios": _ratios},
    "fewer": {**FEWER, "test_colours": lambda d: f"{d.test_colours} test colours"},
    "starts": ("initialization",),
    "unpublished": ("spurious",),
}


class ColorizedDigits(DatasetSettings):
    """scikit-learn's bundled 8x8 digit scans in three colours; needs no download."""

    traits: ClassVar[Traits] = Traits(
        title="Colorized digits", paper="colorized_digits", accuracy=0.93, **_COLOURED
    )

    name: Literal["colorized_digits"] = "colorized_digits"
    initialization: Literal["unbiased", "biased", "spurious"] = Field(
        default="unbiased",
        description="`unbiased`: equal colour shares. `biased`: `ratios` in every class. "
        "`spurious`: `ratios` rotated by the class, so that colour tells the class.",
    )
    ratios: tuple[Share, Share, Share] = Field(
        default=(0.7, 0.2, 0.1), description="Shares of red, blue, green; they add up to 1."
    )
    test_colours: Literal["crossed", "random"] = Field(
        default="crossed",
        description="`crossed`: every test image in every colour. `random`: shares as in training.",
    )
    reserve: Reserve = 0.0
    seed: int = Field(
        default=0,
        ge=0,
        description="Of the held-out cut and the colours: one dataset for all chains of a sweep.",
    )
    root: Path | None = Field(default=None, description="Unused: the scans come with scikit-learn.")

    @model_validator(mode="after")
    def _ratios_add_up(self) -> Self:
        if abs(sum(self.ratios) - 1) > 1e-9:
            raise ValueError(f"ratios must add up to 1, not {sum(self.ratios):g}")
        return self

    @property
    def read(self) -> Self:
        """With the default in the place of `ratios` where all colours are as frequent."""
        return self._defaulted(*(["ratios"] if self.initialization == "unbiased" else []))

    @property
    def start(self) -> str:
        return self.initialization

    @property
    def groups(self) -> int:
        return len(self.ratios)

    @property
    def pooled(self) -> bool:
        """Not where the colours' shares differ between the classes."""
        return self.initialization != "spurious"

    @property
    def alike(self) -> bool:
        """A colour is a colour."""
        return True

    @property
    def crossed(self) -> bool:
        """Whether every test image is shown in every colour."""
        return self.test_colours == "crossed"

    @property
    def test_images(self) -> list[list[float]]:
        """By digit and colour."""
        return self._coloured(DIGITS_TEST)

    def _coloured(self, images: Sequence[float]) -> list[list[float]]:
        """Images of each digit -> of each digit and colour."""
        all_ = (1.0,) * self.groups
        shares = [all_ if self.crossed else self.shares(digit) for digit in range(len(images))]
        return [[n * share for share in own] for n, own in zip(images, shares, strict=True)]

    def shares(self, digit: int) -> Sequence[float]:
        """Share of each colour among a digit's images; they add up to 1."""
        if self.initialization == "unbiased":
            return (1 / 3,) * self.groups
        turn = digit if self.initialization == "spurious" else 0
        return [self.ratios[(colour - turn) % self.groups] for colour in range(self.groups)]


class ColorizedMnist(ColorizedDigits):
    """MNIST in three colours."""

    traits: ClassVar[Traits] = Traits(
        title="Colorized MNIST",
        paper="colorized_mnist",
        figures={"unbiased": "3", "biased": "4", "grid": "10"},
        places=frozenset({"root", "download"}),
        accuracy=0.98,
        **_COLOURED,
    )

    name: Literal["colorized_mnist"] = "colorized_mnist"  # type: ignore[assignment]
    root: Path | None = Field(
        default=None,
        description="Folder that holds MNIST/raw; null: ./data. In a Ray job: absolute.",
    )
    download: bool = Field(default=False, description="Fetch MNIST when files are missing.")
    limit_train: int | None = Field(
        default=None,
        ge=200,
        description="Use only this many of the official training images (stratified, seeded); a "
        "tenth of them is held out, two digits of each class at least.",
    )
    limit_test: int | None = Field(
        default=None, ge=100, description="Use only this many of the official test images."
    )

    @property
    def test_images(self) -> list[list[float]]:
        """By digit and colour."""
        return self._coloured(limited(MNIST_TEST, self.limit_test))
