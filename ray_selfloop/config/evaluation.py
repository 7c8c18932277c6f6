"""Settings of the evaluation: which numbers are computed from stored predictions, and how sure.

Decides nothing about training: none of these values is in the key of a generator, and in that of a
classifier `ablation` alone, which decides on which test pictures predictions are stored.
"""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from ray_selfloop.config.base import Path, Settings
from ray_selfloop.config.claims import Claims
from ray_selfloop.config.datasets.base import Augmentation
from ray_selfloop.config.networks import JUDGE, PROBE, Name
from ray_selfloop.config.training import Training

PIXEL_FEATURES = ("pixels8", "gray8")  # named features that need no network
JUDGING = ("ordered", "level", "resamples", "permutations", "seed", "dynamics", "claims")
"""Fields by which all scenarios are judged together (eq. 6, claims, labels): one for a sweep."""


class Judge(Settings):
    """The generation-0 classifier whose opinion is the label fidelity of generated images."""

    classifier: str = Field(default=JUDGE, description="one of the sweep's classifiers")
    seeds: tuple[int, ...] = Field(
        default=(0,),
        min_length=1,
        description="classifier seeds; several vote by their mean probability",
    )


class Probe(Training):
    """The network that reads subgroups of generated images where pixels do not tell them.

    It is trained on the original training images with their subgroup labels, once per dataset, and
    enters nothing that the loop trains. Its errors are counted on the held-out images and taken off
    every share that it reads. Beside `network` and `augment`, the fields are those of `training`;
    the held-out images choose nothing here, so that its budget alone ends its training.
    """

    network: Name = Field(
        default=PROBE,
        description="one of the program's networks; it need not be among the sweep's classifiers. "
        "Measured on 4 superclasses of CIFAR-100 from scratch, right within the superclass (chance "
        ".20) and seconds on one core: this at 30 epochs .55 and 156 s, lenet at 60 .58 and 93 s",
    )
    augment: Augmentation | None = Field(
        default=None,
        description="of its training images; `crop_flip`: shifts by up to an eighth of the side, "
        "and mirrored; `frame_crop_flip`: the same within the frame of a picture; null: as the "
        "dataset's classifiers have it",
    )
    max_epochs: int = Field(
        default=30,
        ge=1,
        description="Passes over the original training images; the cosine ends with them.",
    )


class Ablation(Settings):
    """How the object is taken out of a test picture that has a mask (sec. 4.4).

    Predictions on such pictures are stored with the trial, in both readings of `compat`: that one
    can be changed without training anew; the other fields are in the trial's key.
    """

    compat: Literal["paper", "reference"] = Field(
        default="paper",
        description="`paper`: the text of sec. 4.4; pictures in which an ablation means nothing "
        "(no object, no neighbouring region) are left out of its numbers. `reference`: pixel by "
        "pixel what Hard ImageNet's published code does: the box lacks its last row and column, "
        "what is called a neighbour comes from the mirror image across the diagonal, and every "
        "picture counts; `boxes` is ignored",
    )
    boxes: Literal["joint", "each"] = Field(
        default="joint",
        description="with several objects in one mask: one bounding box around all of them, or "
        "one around each connected piece of the mask",
    )
    noise_std: float = Field(
        default=0.25,
        gt=0,
        description="standard deviation of the Gaussian noise behind relative foreground "
        "sensitivity, as a share of the pixel range; 0.25 in Hard ImageNet's code",
    )
    seed: int = Field(default=0, ge=0, description="of that noise: one draw for each test picture")


class Dynamics(Settings):
    """How eq. 6 is fitted to the measured bias."""

    bias: Literal["gap_rms", "gap_rms_pooled", "one_minus_meo", "md", "without_object"] = Field(
        default="gap_rms",
        description="B: standard deviation of the true subgroup rates within each class, or of the "
        "rates pooled over classes (more sensitive; only for subgroups that mean the same in all); "
        "1 - MEO and MD as measured hold true gap + noise, which draws A towards 1: they are "
        "fitted for comparison, marked floor-inflated, and get no verdict. `without_object`: "
        "chance-corrected accuracy with the object gray over clean accuracy; it is B wherever "
        "there are no subgroups; a dataset without masks has no such B and gets no A",
    )
    factor_index: Literal["incoming", "literal"] = Field(
        default="incoming",
        description="which data act on the step t -> t+1: incoming = the queue that generation t+1 "
        "trains on; literal = the queue of generation t, as eq. 6 is printed",
    )
    split: Literal["kept", "generated"] = Field(
        default="kept", description="q and u of what the filter kept, or of all that was generated"
    )
    quality: Literal["q", "label_fidelity", "frechet_relative", "cas"] = Field(
        default="q",
        description="which metric of the generator is the q of eq. 6: F1 of relative precision and "
        "coverage, the judge's accuracy on generated images, the relative Frechet distance, or the "
        "classification accuracy score (train on all that was generated, test on real); all 0..1, "
        "1 is best",
    )
    growth_limit: float = Field(
        default=4.0, gt=1.0, description="A is sought in [1/growth_limit, growth_limit]"
    )
    held_out: int = Field(
        default=2,
        ge=1,
        description="last generations that the laws of bias do not see and have to predict; fewer "
        "where that would leave under three steps to fit",
    )
    least_fidelity: float = Field(
        default=0.8,
        ge=0.0,
        le=1.0,
        description="label fidelity of the images generated at generation 1, relative to the "
        "judge's own accuracy on held-out real images, below which the generator counts as too "
        "poor to ask the question: no verdict on bias. Later generations gate nothing: a generator "
        "that decays is a result. 0 switches the gate off",
    )


class Evaluation(Settings):
    """How bias and generator quality are measured."""

    judge: Judge = Judge()
    probe: Probe = Probe()
    ablation: Ablation = Ablation()
    samples: int = Field(
        default=2000,
        ge=10,
        description="generated images behind every generator metric, the same number each time",
    )
    reference: int = Field(
        default=5000,
        ge=10,
        description="most original images used for precision, recall, density, coverage and "
        "nearest neighbours (a seeded draw where there are more)",
    )
    features: tuple[str, ...] = Field(
        default=("pixels8",),
        min_length=1,
        description="named features, the first one is behind q and the unsuffixed metrics: "
        "`pixels8` (8x8 pixels), `gray8` (their mean over channels: blind to a digit's colour) "
        "and the judge's name (its penultimate layer)",
    )
    inception: Path | None = Field(
        default=None,
        description="weights of Inception-V3 for `fid` and `kid`: a file's path, or `download`; "
        "null: no FID. A file that is not the published one never gives a number named so",
    )
    cas_epochs: int = Field(
        default=0,
        ge=0,
        description="epochs of the classification accuracy score (a judge trained on generated "
        "images alone, each generation); 0: not measured",
    )
    neighbours: int = Field(
        default=5, ge=1, description="k of precision, recall, density and coverage"
    )
    ordered: bool = Field(
        default=False, description="sum MEO and DI over ordered pairs, as eq. 2 and 3 are printed"
    )
    level: float = Field(
        default=0.95, gt=0.5, lt=1.0, description="coverage of every interval and noise-floor band"
    )
    resamples: int = Field(
        default=1000, ge=20, description="bootstrap resamples of the test images"
    )
    permutations: int = Field(
        default=1000, ge=20, description="subgroup permutations behind the floors"
    )
    seed: int = Field(default=0, ge=0, description="seed of resamples, permutations and subsets")
    dynamics: Dynamics = Dynamics()
    claims: Claims = Claims()

    @field_validator("dynamics")
    @classmethod
    def _quality_is_measured(cls, value: Dynamics, info: ValidationInfo) -> Dynamics:
        if value.quality == "cas" and info.data.get("cas_epochs") == 0:
            raise ValueError(
                "quality cas is not measured while evaluation.cas_epochs is 0; write "
                "evaluation.cas_epochs=1 (or more), or another quality"
            )
        return value

    @field_validator("neighbours")
    @classmethod
    def _fewer_than_images(cls, value: int, info: ValidationInfo) -> int:
        """A k-th nearest other image exists only among more than k images."""
        most = [
            f"{name} ({info.data[name]})"
            for name in ("samples", "reference")
            if name in info.data and value >= info.data[name]
        ]
        if most:
            raise ValueError(f"must be smaller than {' and '.join(most)}")
        return value
