"""How statements are judged, and what is assumed before a sweep has measured anything."""

from typing import Annotated, Literal

from pydantic import Field

from ray_selfloop.config.base import Settings
from ray_selfloop.config.datasets.known import KINDS

Accuracy = Annotated[float, Field(gt=0, lt=1)]


class Claims(Settings):
    """What is asked first, the margins, power, and the planning assumptions."""

    primary: Literal["md", "meo", "worst_subgroup", "accuracy"] = Field(
        default="md",
        description="metric of the primary statement of each setting: bias grows (a gap grows, or "
        "the accuracy named falls) from generation 0 to the last, treatment minus no_synthetic, on "
        "average over the sweep's networks. `md`: maximum disparity, eq. 4",
    )
    most_primary: int = Field(
        default=4,
        ge=1,
        le=4,
        description="most primary statements: the settings in the sweep's order; the hypothesis "
        "about any further setting is exploratory",
    )
    gap_margin: float = Field(
        default=0.02,
        gt=0,
        lt=1,
        description="smallest effect of interest of a change of MEO, MD, DI, a gap between ranks "
        "or a drop under ablation, over all generations, in fractions; of log odds four times as "
        "much. A number chosen before the data: never taken from a run's own noise",
    )
    accuracy_margin: float = Field(
        default=0.01,
        gt=0,
        lt=1,
        description="the same for accuracy, of all or of one subgroup, in fractions",
    )
    share_margin: float = Field(
        default=0.02,
        gt=0,
        lt=1,
        description="the same for a share of subgroups in generated images, in fractions",
    )
    distance_margin: float = Field(
        default=0.1,
        gt=0,
        description="the same for a generator's distance (FID and its kin), as a share of its "
        "value at generation 1, and for 1 - q",
    )
    power: float = Field(
        default=0.8, gt=0.5, lt=1.0, description="power behind a minimum detectable effect"
    )
    accuracy: dict[str, Accuracy] = Field(
        default={n: k.traits.accuracy for n, k in KINDS.items() if k.traits.accuracy is not None},
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
    gap_seed_sd: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="the same between classifier seeds of a chain, beyond test images, for all but "
        "accuracy. Subgroup rates in a class of the quickstart scatter between seeds by .016 "
        "(LeNet) and .051 (MobileNet), which over 10 classes is .010 and .032 of a change of MD",
    )
    accuracy_seed_sd: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="the same for accuracy, of a change of which it is .004 and .013",
    )
    plan_hours: float | None = Field(
        default=None,
        gt=0,
        description="core-hours that `plan` splits into chains and classifier seeds; null: what "
        "the sweep as configured costs",
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
