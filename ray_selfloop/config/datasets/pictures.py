"""What all datasets of encoded pictures have in common."""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from ray_selfloop.config.base import Path
from ray_selfloop.config.datasets.base import FEWER, DatasetSettings, Reserve, Words

SEEN: Mapping[str, Words] = {
    **FEWER,
    "side": lambda d: f"{d.side} pixels",
    "frame": lambda d: f"framed at {d.frame} pixels",
    "fit": lambda d: {"stretch": "stretched", "crop": "cropped"}[d.fit],
}
"""What is told of how many pictures there are, and of how they are seen."""


class PictureDataset(DatasetSettings):
    """Pictures of any size, decoded when they are asked for."""

    root: Path | None = Field(
        default=None,
        description="Folder of the pictures; null: ./data. In a Ray job: absolute.",
    )
    side: int = Field(
        default=224,
        ge=8,
        le=1024,
        description="Pixels of a picture as classifiers and filter see it: the centre of `frame`.",
    )
    frame: int = Field(
        default=256,
        ge=8,
        le=1024,
        description="Pixels that a picture is resized to (bilinear) before its centre is cut out.",
    )
    fit: Literal["stretch", "crop"] = Field(
        default="crop",
        description="`stretch`: to frame x frame whatever the picture's shape. `crop`: its shorter "
        "side to frame.",
    )
    reserve: Reserve = 0.0
    seed: int = Field(
        default=0,
        ge=0,
        description="Of the limits and the cuts: one dataset for all chains of a sweep.",
    )
    limit_train: int | None = Field(
        default=None,
        ge=10,
        description="Use only this many of the training images (stratified, seeded); a tenth of "
        "them is held out.",
    )
    limit_test: int | None = Field(
        default=None, ge=10, description="Use only this many test images (stratified, seeded)."
    )
    damaged: Literal["refuse", "leave_out"] = Field(
        default="refuse",
        description="What to do where a picture or a mask is damaged. `refuse`: name it and stop, "
        "before anything runs. `leave_out`: go on without it; the record and the report name it. "
        "Damaged is what cannot be read, what no decoder reads without a warning, and what differs "
        "from a SHA256SUMS (as `sha256sum` writes it) beside `train` and `val`.",
    )

    @model_validator(mode="after")
    def _side_within_frame(self) -> Self:
        if self.side > self.frame:
            raise ValueError(f"side must be at most frame ({self.frame}), not {self.side}")
        return self

    def _require_limits(self, train: int, test: int, cells: str, count: int) -> None:
        """Raise where a limit is under what each of ``count`` cells needs."""
        for name, each in {"limit_train": train, "limit_test": test}.items():
            found = getattr(self, name)
            if found is not None and found < each * count:
                raise ValueError(
                    f"{name} must be at least {each * count} here, {each} for each of {count} "
                    f"{cells} (found {found})"
                )
