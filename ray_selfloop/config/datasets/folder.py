"""Pictures of one's own: a folder for each class, or a table that names files and labels."""

from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from ray_selfloop.config.base import Path
from ray_selfloop.config.datasets.base import FRAMED, Reading, Traits
from ray_selfloop.config.datasets.pictures import SEEN, PictureDataset

RESERVED = ("path", "label", "split")
"""The columns of a table that mean the same in every one."""

MANY = 4  # subgroups whose MEO is no multiple of MD; how many there are is known of the data alone


class Folder(PictureDataset):
    """Pictures of one's own, of any size: `root/CLASS/*`, or what a table lists.

    Where `root` holds the folders train and test, each with a folder per class, they are the split;
    else test pictures are drawn. A table (CSV) has a line for each picture, and the columns `path`
    (relative to `root`) and `label`, `split` (train or test) if it is given, and any others.
    """

    traits: ClassVar[Traits] = Traits(
        title="Own pictures",
        reader="ray_selfloop.datasets.folder:KIND",
        pictures=True,
        subgroups="probe",
        augment=FRAMED,
        places=frozenset({"root", "table"}),
        other={
            "subgroups": lambda d: "subgroups by " + " x ".join(d.subgroups),
            "mask_column": lambda d: f"masks by {d.mask_column}",
        },
        fewer={
            **SEEN,
            "test_share": lambda d: f"{100 * d.test_share:g} % drawn as test pictures",
        },
        weights="both",
    )

    name: Literal["folder"] = "folder"
    root: Path | None = Field(
        default=None,
        description="Folder of the pictures: a folder per class, or train and test with a folder "
        "per class each; with a `table` whatever its paths are relative to. null: ./data. In a Ray "
        "job: absolute.",
    )
    table: Path | None = Field(
        default=None,
        description="CSV file (UTF-8, with a header) with a line per picture: `path`, `label`, "
        "maybe `split` (train, test), and columns for `subgroups` and `mask_column`. null: the "
        "folders are the classes. In a Ray job: absolute.",
    )
    subgroups: tuple[str, ...] = Field(
        default=(),
        description="Columns of the table whose values are the subgroups; of several columns every "
        "combination is one: [sex, age]. Each must occur in each class. []: there are none.",
    )
    mask_column: str | None = Field(
        default=None,
        min_length=1,
        description="Column of the table with the path of each test picture's mask (object white, "
        "all else black). null: there are none.",
    )
    test_share: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="Share of the pictures drawn as test pictures (stratified by class and "
        "subgroup, by `seed`) where no split is given.",
    )

    @field_validator("subgroups")
    @classmethod
    def _each_once(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(columns)) != len(columns):
            raise ValueError("a column is listed twice")
        odd = [name for name in columns if name in RESERVED]
        if odd:
            raise ValueError(f"{odd[0]} is no column of subgroups: it is each picture's {odd[0]}")
        return columns

    @model_validator(mode="after")
    def _columns_are_in_a_table(self) -> Self:
        if self.table is None and (self.subgroups or self.mask_column):
            what = "subgroups" if self.subgroups else "mask_column"
            raise ValueError(f"{what} names columns of a table; write table=FILE.csv")
        return self

    @property
    def groups(self) -> int:
        """At least so many."""
        return MANY if self.subgroups else 0

    @property
    def alike(self) -> bool:
        """Values of the table's columns."""
        return bool(self.subgroups)

    @property
    def subgroups_from(self) -> Reading:
        """A probe reads them where there are any."""
        return "probe" if self.subgroups else "none"

    @property
    def masked(self) -> bool:
        """Whether the table names masks."""
        return self.mask_column is not None
