"""How the paper's claims are judged, and what is assumed before a sweep has measured anything."""

from typing import Annotated

from pydantic import Field

from ray_selfloop.config.base import Settings

Accuracy = Annotated[float, Field(gt=0, lt=1)]


class Claims(Settings):
    """Smallest effect of interest, power, and the planning assumptions."""

    margin: float = Field(
        default=0.01,
        gt=0,
        description="smallest effect of interest of a change over all generations, in fractions; "
        "where the noise floor's band of the same change is wider, its width is taken",
    )
    distance_margin: float = Field(
        default=0.1,
        gt=0,
        description="the same for a generator's distance (FID and its kin), as a share of its "
        "value at generation 1",
    )
    power: float = Field(
        default=0.8, gt=0.5, lt=1.0, description="power behind a minimum detectable effect"
    )
    accuracy: dict[str, Accuracy] = Field(
        default={
            "colorized_mnist": 0.98,
            "colorized_digits": 0.93,
            "cifar20_100": 0.6,
            "hard_imagenet": 0.9,
            "breeds": 0.9,
        },
        description="assumed accuracy by dataset, for `plan` before any classifier is published",
    )
    other_accuracy: float = Field(
        default=0.8, gt=0, lt=1, description="the same for a dataset that is not listed"
    )
    ablated_accuracy: float = Field(
        default=0.7,
        gt=0,
        lt=1,
        description="assumed accuracy on test pictures without their object, for `plan`; the "
        "nearer to 0.5, the noisier is the drop",
    )
    chain_sd: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="assumed standard deviation between chains of a change (treatment - control, "
        "last - first) beyond test images and classifier seeds, in fractions",
    )
    image_correlation: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="assumed correlation between two classifiers' correctness on the same image",
    )
    gap: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="assumed difference between the best and the worst subgroup's rate, the effect "
        "included, for `plan`; at most 1 - accuracy. The larger, the noisier are MD and MEO",
    )
    simulations: int = Field(
        default=4000, ge=50, description="simulated chains behind `plan`'s image part"
    )
    most_chains: int = Field(
        default=100, ge=2, description="`plan` looks for the chains needed up to this many"
    )
