"""Which data, and how its subgroups are made.

`root` and `download` say where files are; what is in the files enters a key by content.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ray_selfloop.config.base import Settings

Share = Annotated[float, Field(ge=0, le=1)]


class ColorizedDigits(Settings):
    """scikit-learn's bundled 8x8 digit scans in three colours; needs no download."""

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
    reserve: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the training images set apart for the held_out_real control.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        description="Of the held-out cut and the colours: one dataset for all chains of a sweep.",
    )
    root: str | None = Field(default=None, description="Unused: the scans come with scikit-learn.")

    @model_validator(mode="after")
    def _ratios_add_up(self) -> Self:
        if abs(sum(self.ratios) - 1) > 1e-9:
            raise ValueError(f"ratios must add up to 1, not {sum(self.ratios):g}")
        return self


class ColorizedMnist(ColorizedDigits):
    """MNIST in three colours."""

    name: Literal["colorized_mnist"] = "colorized_mnist"  # type: ignore[assignment]
    root: str | None = Field(
        default=None,
        description="Folder that holds MNIST/raw; null: ./data. In a Ray job: absolute.",
    )
    download: bool = Field(default=False, description="Fetch MNIST when files are missing.")
    limit_train: int | None = Field(
        default=None,
        ge=100,
        description="Use only this many of the official training images (stratified, seeded).",
    )
    limit_test: int | None = Field(
        default=None, ge=100, description="Use only this many of the official test images."
    )


Dataset = Annotated[ColorizedDigits | ColorizedMnist, Field(discriminator="name")]
