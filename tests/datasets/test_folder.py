"""Pictures of one's own: folders or a table, and what is said where they are at fault."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from conftest import TWO_STARTS
from extending_page import example
from PIL import Image

from ray_selfloop.config import load
from ray_selfloop.config.datasets.folder import Folder
from ray_selfloop.datasets import folder
from ray_selfloop.datasets.contents import Contents
from ray_selfloop.errors import ConfigError, DataError
from ray_selfloop.planning import prepare
from ray_selfloop.stages import claims
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.run import run_here

HEAD = "path,label,sex\n"


def touched(root: Path, *names: str) -> Path:
    """Empty files: a table is read without looking into them."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def read(root: Path, text: str | bytes, **settings: object) -> list[folder.Row]:
    table = root / "list.csv"
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder.of_table(table, root, Folder(root=str(root), table=str(table), **settings))


def fault(root: Path, text: str | bytes, **settings: object) -> str:
    """What is said of a table, without the folder that it lies in."""
    with pytest.raises(DataError) as raised:
        read(root, text, **settings)
    assert "\n" not in str(raised.value)
    return str(raised.value).replace(f"{root}/", "")


# --- a table -------------------------------------------------------------------------------------


def test_a_table_is_read_by_the_names_of_its_columns_whatever_their_order(tmp_path: Path) -> None:
    touched(tmp_path, "b.png", "a.png")
    rows = read(tmp_path, "age,label,path,sex\n9,dog,b.png,f\n8,cat,a.png,m\n", subgroups=("sex",))
    assert [row[:3] for row in rows] == [("a.png", "cat", ("m",)), ("b.png", "dog", ("f",))]
    assert [row.line for row in rows] == [3, 2]


def test_the_order_of_the_lines_means_nothing(tmp_path: Path) -> None:
    touched(tmp_path, "a.png", "b.png")
    lines = ["a.png,cat,m\n", "b.png,dog,f\n"]
    one, other = (
        [row._replace(line=0) for row in read(tmp_path, HEAD + "".join(order))]
        for order in (lines, lines[::-1])
    )
    assert one == other


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_quotes_commas_blanks_line_ends_and_a_mark_at_the_start_are_read(
    tmp_path: Path, ends: str, mark: str
) -> None:
    touched(tmp_path, "a, b.png", "größe/猫 1.png")
    lines = ["path, label ,sex", '"a, b.png","say ""cat""", m', "größe/猫 1.png,Kätzchen,f", ""]
    rows = read(tmp_path, (mark + ends.join(lines) + ends).encode(), subgroups=("sex",))
    assert [row[:3] for row in rows] == [
        ("a, b.png", 'say "cat"', ("m",)),
        ("größe/猫 1.png", "Kätzchen", ("f",)),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "list.csv, line 1: column path is missing; columns: "),
        ("path;label\na;b\n", "list.csv, line 1: column path is missing; columns: path;label; it "
         "is separated by semicolons, and must be by commas: save it so"),
        ("path\tlabel\na\tb\n", "list.csv, line 1: column path is missing; columns: path\tlabel; "
         "it is separated by tabs, and must be by commas: save it so"),
        ("path,kind\na.png,b\n", "list.csv, line 1: column label is missing; columns: path, kind"),
        ("path,label,path\n", "list.csv, line 1: column path is there twice"),
        ("path,split,label,split\n", "list.csv, line 1: column split is there twice"),
        (HEAD + "a.png,cat\n", "list.csv, line 2: 2 values, and the header has 3 columns; put "
         "values with a comma in double quotes"),
        (HEAD + "a.png,cat,m\nb.png,dog,f,9\n", "list.csv, line 3: 4 values, and the header has 3 "
         "columns; put values with a comma in double quotes"),
        (HEAD + 'a.png,"cat\n', "list.csv, line 2: is no CSV: unexpected end of data"),
        (HEAD + 'a.png,"c"at,m\n', "list.csv, line 2: is no CSV: ',' expected after '\"'"),
        (HEAD + "a.png,,m\n", "list.csv, line 2: label must be printable text (found '')"),
        (HEAD + 'a.png,"c\nat",m\n',
         "list.csv, line 3: label must be printable text (found 'c\\nat')"),
        (HEAD + "a.png,cat, \n", "list.csv, line 2: sex must be printable text (found '')"),
        (HEAD + ",cat,m\n",
         "list.csv, line 2: the path of a file must be printable text (found '')"),
        (HEAD + "c.png,cat,m\n", "list.csv, line 2: there is no file c.png"),
        (HEAD + "a.png,cat,m\n\n./a.png,dog,m\n",
         "list.csv, line 4: a.png stands in line 2 too"),
        (HEAD + "/a.png,cat,m\n",
         "list.csv, line 2: /a.png must be relative to dataset.root and inside it"),
        (HEAD + "x/../../a.png,cat,m\n",
         "list.csv, line 2: x/../../a.png must be relative to dataset.root and inside it"),
        (HEAD + "..,cat,m\n",
         "list.csv, line 2: .. must be relative to dataset.root and inside it"),
        ("path,label,sex,split\na.png,cat,m,val\n",
         "list.csv, line 2: split must be train or test (found 'val')"),
    ],
)  # fmt: skip
def test_a_table_at_fault_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    touched(tmp_path, "a.png", "b.png")
    assert fault(tmp_path, text, subgroups=("sex",) if "sex" in text else ()) == message


def test_a_table_that_is_no_text_or_not_there_is_named(tmp_path: Path) -> None:
    assert fault(tmp_path, b"path,label\n\xff\xfe\n").startswith("list.csv is not UTF-8 text: ")
    endless = fault(tmp_path, f"path,label\na,{'b' * 200_000}\n")
    assert endless == "list.csv, line 2: is no CSV: field larger than field limit (131072)"
    settings = Folder(root=str(tmp_path), table="none.csv")
    with pytest.raises(DataError, match=r"none\.csv is missing; see dataset\.table"):
        folder.rows_of(settings)


def test_a_link_may_lead_anywhere_inside_the_root_alone(tmp_path: Path) -> None:
    root = touched(tmp_path / "root", "deep/a.png")
    outside = touched(tmp_path, "secret.png") / "secret.png"
    (root / "inside.png").symlink_to(root / "deep/a.png")
    assert len(read(root, "path,label\ninside.png,cat\n")) == 1
    (root / "out.png").symlink_to(outside)
    assert "line 2" in (said := fault(root, "path,label\nout.png,cat\n"))
    assert "is a link that leads out of its dataset" in said


def test_a_test_picture_needs_its_mask_and_a_training_picture_none(tmp_path: Path) -> None:
    touched(tmp_path, "a.png", "b.png", "m.png")
    text = "path,label,split,mask\na.png,cat,train,\nb.png,cat,test,{}\n"
    rows = read(tmp_path, text.format("m.png"), mask_column="mask")
    assert [row.mask for row in rows] == ["", "m.png"]
    message = "list.csv, line 3: mask is empty: a test picture needs its mask"
    assert fault(tmp_path, text.format(""), mask_column="mask") == message


# --- classes, subgroups, splits ------------------------------------------------------------------


def table_of(root: Path, rows: list[str], head: str = "label,sex,age,split") -> str:
    """A table with a file for each row of the other columns."""
    lines = [f"{i:03d}.png,{row}" for i, row in enumerate(rows)]
    touched(root, *(line.partition(",")[0] for line in lines))
    (root / "list.csv").write_text("\n".join([f"path,{head}", *lines]) + "\n", encoding="utf-8")
    return str(root / "list.csv")


def test_several_columns_are_crossed_and_their_order_is_that_of_the_setting(tmp_path: Path) -> None:
    values = list(itertools.product(("cat", "dog"), "mf", ("young", "old"), ("train", "test")))
    table = table_of(tmp_path, [",".join(row) for row in values])
    found, _ = folder.listed(Folder(root=str(tmp_path), table=table, subgroups=("age", "sex")))
    assert found.class_names == ("cat", "dog")
    assert found.subgroup_names == ("old, f", "old, m", "young, f", "young, m")
    assert found.strata[:2] == ("cat: old, f", "cat: old, m")
    for part, split in ((found.train, "train"), (found.test, "test")):
        own = [values[int(Path(name).stem)] for name in part.names]
        assert [row[3] for row in own] == [split] * 8
        assert [found.class_names[c] for c in found.labels(part.cells)] == [row[0] for row in own]
        said = [found.subgroup_names[g] for g in found.subgroups(part.cells)]
        assert said == [f"{row[2]}, {row[1]}" for row in own]


def test_unequal_given_splits_stay_as_they_are(tmp_path: Path) -> None:
    rows = [f"{c},,,{s}" for c in ("cat", "dog") for s in ["train"] * 7 + ["test"] * 2]
    found, _ = folder.listed(Folder(root=str(tmp_path), table=table_of(tmp_path, rows)))
    assert np.bincount(found.train.cells).tolist() == [7, 7]
    assert np.bincount(found.test.cells).tolist() == [2, 2]
    assert found.subgroup_names == ()
    assert (found.subgroups(found.train.cells) == -1).all()


def test_without_a_split_the_test_pictures_are_drawn_by_class_and_subgroup(tmp_path: Path) -> None:
    rows = [f"{c},{s}" for c in ("cat", "dog") for s in ["m"] * 20 + ["f"] * 10]
    table = table_of(tmp_path, rows, "label,sex")

    def test_names(**more: object) -> set[str]:
        settings = Folder(root=str(tmp_path), table=table, subgroups=("sex",), **more)
        found, _ = folder.listed(settings)
        assert not {*found.train.names} & {*found.test.names}
        assert len(found.train.names) + len(found.test.names) == 60
        assert np.bincount(found.test.cells).tolist() == [2, 4, 2, 4]
        return {*found.test.names}

    assert test_names() == test_names()
    assert test_names() != test_names(seed=1)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["cat,m"] * 4, "there must be two classes or more (found 1)"),
        (["cat,m", "dog,m"] * 4,
         "there must be two subgroups or more, and sex is m everywhere"),
    ],
)  # fmt: skip
def test_one_class_or_one_subgroup_is_refused(
    tmp_path: Path, rows: list[str], message: str
) -> None:
    table = table_of(tmp_path, rows, "label,sex")
    with pytest.raises(DataError) as raised:
        folder.listed(Folder(root=str(tmp_path), table=table, subgroups=("sex",)))
    assert str(raised.value) == f"{table}: {message}"


def test_two_crossings_of_one_name_are_refused(tmp_path: Path) -> None:
    rows = ['cat,"a, b",c', 'dog,a,"b, c"']
    table = table_of(tmp_path, rows, "label,sex,age")
    with pytest.raises(DataError, match="two subgroups would both be called a, b, c"):
        folder.listed(Folder(root=str(tmp_path), table=table, subgroups=("sex", "age")))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset.subgroups=[sex]"], "subgroups names columns of a table; write table=FILE.csv"),
        (["dataset.mask_column=m"], "mask_column names columns of a table; write table=FILE.csv"),
        (["dataset.table=t", "dataset.subgroups=[sex, sex]"], "a column is listed twice"),
        (["dataset.table=t", "dataset.subgroups=[label]"],
         "label is no column of subgroups: it is each picture's label"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_meant_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load.load(TWO_STARTS, ["dataset.name=folder", "generator.name=duplicate_real", *words])
    assert message in str(raised.value)


# --- folders -------------------------------------------------------------------------------------


def test_a_folder_is_a_class_and_train_and_test_are_the_split(tmp_path: Path) -> None:
    flat = touched(tmp_path / "flat", "dog/1.jpg", "cat/2.PNG", "cat/note.txt", ".git/x", "top.png")
    assert [row[:2] for row in folder.of_folders(flat)] == [("cat/2.PNG", "cat"),
                                                            ("dog/1.jpg", "dog")]  # fmt: skip
    split = touched(tmp_path / "split", "train/cat/1.png", "test/cat/1.png", "test/dog/2.png")
    rows = folder.of_folders(split)
    assert [(row.path, row.split) for row in rows] == [
        ("train/cat/1.png", "train"),
        ("test/cat/1.png", "test"),
        ("test/dog/2.png", "test"),
    ]


def test_a_folder_at_fault_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none is missing; set dataset\.root"):
        folder.of_folders(tmp_path / "none")
    touched(tmp_path, "train/cat/1.png", "val/cat/1.png")  # no `test`: they would be classes
    with pytest.raises(DataError, match="train holds no picture: there must be a folder per class"):
        folder.of_folders(tmp_path)


# --- pictures, from end to end -------------------------------------------------------------------


def drawn(path: Path, light: bool, red: bool, rng: np.random.Generator) -> None:
    """A small picture of its own size: its class is how light it is, its subgroup the colour."""
    size = tuple(int(n) for n in rng.integers(16, 24, 2))
    pixels = rng.integers(0, 60, (*size, 3), np.uint8)
    pixels[..., 0 if red else 2] += 190 if light else 90
    Image.fromarray(pixels).save(path)


def pictures_in(root: Path, each: int = 12) -> Path:
    """``each`` training pictures and two test pictures of each class and subgroup; a table."""
    root.mkdir(parents=True)
    rng, lines = np.random.default_rng(0), ["path,label,sex,age,split"]
    cells = itertools.product((False, True), repeat=2)
    for light, red in cells:
        for i in range(each + 2):
            name = f"{light:d}{red:d}{i:02d}.png"
            drawn(root / name, light, red, rng)
            where = "train" if i < each else "test"
            lines.append(f"{name},{'day' if light else 'night'},{'f' if red else 'm'},old,{where}")
    (root / "list.csv").write_text("\n".join(lines))
    return root


def settings_of(root: Path, **more: object) -> Folder:
    own = {"subgroups": ("sex",), "side": 16, "frame": 18, "fit": "stretch"}
    return Folder(root=str(root), table=str(root / "list.csv"), **{**own, **more})


def test_a_combination_with_one_picture_is_refused_by_the_table_s_name(tmp_path: Path) -> None:
    root = pictures_in(tmp_path / "faces", each=1)
    with pytest.raises(DataError) as caught:
        folder.KIND.source(settings_of(root), Contents())
    assert str(caught.value) == (
        f"{root / 'list.csv'}: the train pictures are 1 of day: f and must be 2 or more; add some"
    )


def test_the_dataset_is_cut_and_its_source_tells_files_and_labels(tmp_path: Path) -> None:
    root = pictures_in(tmp_path / "faces")
    settings = settings_of(root, reserve=0.25)
    prepared = folder.KIND.prepare(settings, Contents())
    splits = prepared.splits
    assert [len(p) for p in (splits.train, splits.held_out, splits.reserve, splits.test)] == [
        32, 5, 11, 8,
    ]  # fmt: skip
    assert splits.test.images[:].shape == (8, 3, 16, 16)
    day = splits.test.images[np.flatnonzero(splits.test.labels == 0)]
    night = splits.test.images[np.flatnonzero(splits.test.labels == 1)]
    assert day.mean() > night.mean() + 20
    red = np.flatnonzero(splits.test.subgroups == 0)
    assert splits.test.images[red][:, 0].mean() > splits.test.images[red][:, 2].mean() + 50
    assert prepared.facts["subgroups_from"] == "probe"
    labels, reserve = folder.KIND.original_and_reserve(settings, Contents())
    assert np.array_equal(labels, splits.train.labels)
    assert np.array_equal(reserve, splits.reserve.labels)

    before = folder.KIND.source(settings, Contents())
    table = root / "list.csv"
    text = table.read_text()
    table.write_text(text.replace("0000.png,night,m", "0000.png,night,f"))
    relabelled = folder.KIND.source(settings, Contents())
    head, *lines = text.splitlines()
    table.write_text("\n".join([head, *lines[::-1]]))
    assert folder.KIND.source(settings, Contents()) == before != relabelled


def test_a_damaged_picture_is_named_and_a_cell_with_too_few_too(tmp_path: Path) -> None:
    root = pictures_in(tmp_path / "faces", each=4)
    with pytest.raises(DataError) as raised:
        folder.KIND.source(settings_of(root), Contents())
    assert str(raised.value).startswith(f"{root}/list.csv: 4 training pictures of ")
    assert folder.KIND.source(settings_of(root, subgroups=()), Contents())
    (root / "0000.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"0000\.png is no readable JPEG, PNG or WebP"):
        folder.KIND.source(settings_of(root, subgroups=()), Contents())


def test_masks_lie_beside_the_test_pictures(tmp_path: Path) -> None:
    root = pictures_in(tmp_path / "faces")
    head, *lines = (root / "list.csv").read_text().splitlines()
    masked = [line + (f",masks/{line[:4]}.png" if "test" in line else ",") for line in lines]
    (root / "masks").mkdir()
    for line in masked:
        if "test" in line:
            Image.new("L", (16, 16), 255).save(root / line.rpartition(",")[2])
    (root / "list.csv").write_text("\n".join([f"{head},mask", *masked]))
    prepared = folder.KIND.prepare(settings_of(root, mask_column="mask"), Contents())
    assert prepared.facts["masks"]
    assert len(prepared.test_masks) == len(prepared.splits.test) == 8


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example's sweep and its pictures."""
    home = tmp_path_factory.mktemp("own")
    root = pictures_in(home / "faces")
    text = (root / "list.csv").read_text().replace(",f,old", ",f,young")  # two combinations
    (root / "list.csv").write_text(text)
    (home / "own.yaml").write_text(example("folder"))
    return home


SMALL = (
    "dataset.side=16", "dataset.frame=18", "generator.name=duplicate_real", "filter.score=none",
    "loop.generations=1", "loop.loop_seeds=[0]", "loop.classifier_seeds=[0]", "classifiers=[lenet]",
    "training.max_steps=60", "training.batch_size=16",
    "training.recipe=default", "evaluation.samples=20", "evaluation.resamples=50",
    "evaluation.permutations=50", "evaluation.probe.network=lenet",
    "evaluation.probe.max_epochs=20",
)  # fmt: skip


def test_the_example_runs_from_pictures_to_subgroup_shares(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    plan = prepare(["own.yaml", *SMALL, f"storage={here / 'store'}"])
    run_here(plan.graph, plan.store)
    plan.look_up()
    records = {kind: plan.records[plan.graph.of_kind(kind)[0].stage.key].summary
               for kind in ("dataset", "probe", "kept")}  # fmt: skip
    assert records["dataset"]["class_names"] == ["day", "night"]
    assert records["dataset"]["subgroup_names"] == ["f, young", "m, old"]
    assert records["probe"]["accuracy"] > 0.9  # red or blue
    (trial,) = [n.stage for n in plan.graph.of_kind("classifier") if n.places[0].generation == 1]
    inputs = Inputs(trial, plan.store)
    predictions = np.load(plan.store.path(plan.records[trial.key], "predictions.npy"))
    assert (predictions == inputs.split("test").labels).mean() > 0.9
    (described,) = [claims.described(scenario) for scenario in plan.scenarios]
    assert described.dataset == "other: folder"
