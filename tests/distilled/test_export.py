"""Export for other programs."""

import csv
import io
import json
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch
from distilled_sets import SIDE, pool_set, views_set
from PIL import Image

from infer.core.errors import UserError
from infer.distilled import DistilledSet, Header, export


def pixels(content) -> torch.Tensor:
    """The image uint8 [ch, H, W] of a colour picture."""
    return torch.from_numpy(np.array(Image.open(content))).permute(2, 0, 1)


def rows_of(file) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table))


@pytest.mark.parametrize("make", [pool_set, views_set])
def test_imagefolder(tmp_path, make):
    dataset = make()
    dataset.with_transform(lambda image: image * 0).export(tmp_path / "out")  # the transform is not applied
    rows = rows_of(tmp_path / "out" / "labels.csv")
    assert len(rows) == len(dataset)
    for index, row in enumerate(rows):
        image, label = dataset[index]
        assert torch.equal(pixels(tmp_path / "out" / row["file"]), image)
        assert row["file"].split("/")[0] == row["class"] == dataset.classes[dataset.targets[index]]
        assert [float(row[name]) for name in ("a", "b", "ç")] == pytest.approx(label.tolist(), rel=1e-4)
        assert row["kind"] == ("view" if dataset.mixed_views else "natural" if index < 7 else "composed")


def named(classes: list[str]) -> DistilledSet:
    """The set of hard labels whose images 0 to C - 1 are of these classes."""
    count = len(classes)
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    header = Header(classes, [0.5] * 3, [0.25] * 3, "hard", "probabilities", 1.0, 0)
    return DistilledSet(images, torch.arange(count), images[:0].to(torch.int8), None, header)


def test_class_names_stay_inside_the_folder(tmp_path):
    named(["../up", "T-shirt/top", "T-shirt?top"]).export(tmp_path / "named")
    folders = sorted(entry.name for entry in (tmp_path / "named").iterdir() if entry.is_dir())
    assert folders == ["T-shirt_top-1", "T-shirt_top-2", "_up"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["named"]


AWKWARD = [
    *("a/", "a_", "a_-0", "A", "a", "x", "x.", "x-1", "CON", "nul.txt", "n" * 300, "n" * 301, "é", "e\u0301"),
    *("file", "class", "kind", "'file", "'", "labels.csv", "meta.json", "Labels.csv", ".unfinished-export", "train"),
    *(
        "=1+1",
        "+1",
        "-1",
        "@a",
        "\t=1",
        "\r=1",
        "\n=1",
        "＝1",
        "a,b",
        'a"b',
        "a;=1",
        "a\nb",
        "a\r\nb",
        "",
        " ",
        "..",
        "黒",
    ),
]


def test_every_class_has_a_folder_and_a_column_of_its_own(tmp_path):
    named(AWKWARD).export(tmp_path / "out")
    rows = rows_of(tmp_path / "out" / "labels.csv")
    assert [row["class"].removeprefix("'") for row in rows] == AWKWARD
    with (tmp_path / "out" / "labels.csv").open(encoding="utf-8", newline="") as table:
        columns = next(csv.reader(table))
    assert len(set(columns)) == len(columns)
    assert columns[:3] == ["file", "class", "kind"]
    assert [name.removeprefix("'") for name in columns[3:]] == AWKWARD
    assert len({row["file"].split("/")[0].casefold() for row in rows}) == len(AWKWARD)
    for number, row in enumerate(rows):
        assert row["file"].count("/") == 1
        assert (pixels(tmp_path / "out" / row["file"]) == number).all()
        assert [float(row[name]) for name in columns[3:]] == [float(number == other) for other in range(len(AWKWARD))]
    assert json.loads((tmp_path / "out" / "meta.json").read_text(encoding="utf-8"))["classes"] == AWKWARD


@pytest.mark.parametrize(("format", "table"), [("imagefolder", "labels.csv"), ("huggingface", "train/metadata.csv")])
def test_no_cell_is_a_formula(tmp_path, format, table):
    named(AWKWARD).export(tmp_path, format)
    with (tmp_path / table).open(encoding="utf-8", newline="") as opened:
        cells = [cell for row in csv.reader(opened) for cell in row]
    assert not [cell for cell in cells if cell.startswith(tuple("=+-@\t\r\n＝＋－＠"))]


@pytest.mark.parametrize("format", ["imagefolder", "huggingface", "parquet"])
def test_lone_surrogates_are_escaped(tmp_path, format):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    named(["\ud800", "a\udcff"]).export(tmp_path, format)
    assert json.loads((tmp_path / "meta.json").read_text(encoding="utf-8"))["classes"] == ["\ud800", "a\udcff"]
    if format == "imagefolder":
        assert [row["class"] for row in rows_of(tmp_path / "labels.csv")] == [r"\ud800", r"a\udcff"]


def contents(folder) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("held", ["notes.txt", ".hidden", "folder/", "link"])
def test_a_folder_that_holds_something_is_kept(tmp_path, held):
    out = tmp_path / "out"
    out.mkdir()
    if held == "link":
        (out / held).symlink_to(tmp_path / "nowhere")
    elif held.endswith("/"):
        (out / held).mkdir()
    else:
        (out / held).write_text("mine")
    with pytest.raises(UserError, match=rf"holds '{held.strip('/')}'; choose another folder, or overwrite=True"):
        pool_set().export(out)
    assert [entry.name for entry in out.iterdir()] == [held.strip("/")]
    pool_set().export(out, overwrite=True)
    pool_set().export(tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")


def test_overwriting_follows_no_link(tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.txt").write_text("mine")
    pool_set().export(out)
    for name in ("a", "b"):
        for file in (out / name).iterdir():
            file.unlink()
        (out / name).rmdir()
        (out / name).symlink_to(elsewhere, target_is_directory=True)
    (out / "labels.csv").unlink()
    (out / "labels.csv").symlink_to(elsewhere / "mine.txt")
    (out / "ç" / "deep").symlink_to(elsewhere, target_is_directory=True)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for name in (".unfinished-export", f".unfinished-export.{platform.node()}.{gone.pid}.tmp"):
        (out / name).symlink_to(elsewhere, target_is_directory=True)
    pool_set().export(out, overwrite=True)
    assert contents(elsewhere) == {"mine.txt": b"mine"}
    assert [entry for entry in out.rglob("*") if entry.is_symlink()] == []
    pool_set().export(tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")


def test_the_working_folder_is_not_emptied(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "mine.txt").write_text("mine")
    monkeypatch.chdir(tmp_path / "here")
    for folder in (tmp_path, "..", "/"):
        with pytest.raises(UserError, match="holds the working or home folder"):
            pool_set().export(folder, overwrite=True)
    assert (tmp_path / "mine.txt").exists()
    pool_set().export(".")
    assert (tmp_path / "here" / "meta.json").exists()


def test_a_set_on_another_device_is_copied_once(tmp_path, monkeypatch):
    """The set itself is copied, which is small; its images are composed on the CPU, a few at a time."""
    moved, composed = [], []
    to, images = DistilledSet.to, DistilledSet.images
    monkeypatch.setattr(DistilledSet, "to", lambda self, device: (moved.append(device), to(self, device))[1])
    monkeypatch.setattr(DistilledSet, "images", lambda self, at: (composed.append(len(at)), images(self, at))[1])
    monkeypatch.setattr(export, "_BATCH_BYTES", 16 * 3 * SIDE * SIDE)
    views_set().export(tmp_path / "out")
    assert moved == ["cpu"]
    assert composed == [16, 16, 8]


def test_huggingface(tmp_path):
    dataset = views_set()
    dataset.export(tmp_path, format="huggingface")
    rows = rows_of(tmp_path / "train" / "metadata.csv")
    assert len(rows) == len(dataset)
    for index, row in enumerate(rows):
        image, label = dataset[index]
        assert torch.equal(pixels(tmp_path / "train" / row["file_name"]), image)
        assert int(row["label"]) == int(dataset.targets[index])
        assert row["class"] == dataset.classes[int(row["label"])]
        found = [float(row[f"probability_{number}"]) for number in range(3)]
        assert found == pytest.approx(label.tolist(), rel=1e-4)


def test_parquet(tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(export, "_ROWS", 9)
    dataset = views_set()
    dataset.export(tmp_path, format="parquet")
    table = parquet.read_table(tmp_path / "train.parquet").to_pydict()
    assert list(table) == ["image", "label", "class", "probabilities"]
    assert table["label"] == dataset.targets.tolist()
    assert parquet.read_metadata(tmp_path / "train.parquet").num_row_groups == 5
    assert table["class"] == [dataset.classes[number] for number in table["label"]]
    assert torch.equal(torch.tensor(table["probabilities"]), dataset[:][1])
    for index, content in enumerate(table["image"]):
        assert torch.equal(pixels(io.BytesIO(content)), dataset[index][0])


@pytest.mark.parametrize("format", ["huggingface", "parquet"])
def test_labels_of_many_classes_are_composed_few_at_a_time(tmp_path, monkeypatch, format):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    classes, images, sizes = 2**16, 12, []
    header = Header([str(number) for number in range(classes)], [0.5], [0.25], "hard", "probabilities", 1.0, 0)
    naturals, none = torch.zeros(images, 1, 1, 1, dtype=torch.uint8), torch.empty(0, 1, 1, 1, dtype=torch.int8)
    composed = DistilledSet.soft_labels

    def counted(self, indices):
        sizes.append(len(indices))
        return composed(self, indices)

    monkeypatch.setattr(DistilledSet, "soft_labels", counted)
    DistilledSet(naturals, torch.arange(images), none, None, header).export(tmp_path, format=format)
    assert sum(sizes) == images
    assert max(sizes) * classes * 48 <= 2**24
    if format == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        assert parquet.read_metadata(tmp_path / "train.parquet").row_group(0).num_rows == max(sizes)


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"format=parquet: needs pyarrow, .*'infer-distillation\[export\]'"):
        pool_set().export(tmp_path / "out", format="parquet")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", ["imagefolder", "huggingface"])
def test_meta_tells_what_the_numbers_mean(tmp_path, format):
    pool_set().export(tmp_path, format=format)
    assert json.loads((tmp_path / "meta.json").read_text(encoding="utf-8")) == {
        "classes": ["a", "b", "ç"],
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "temperature": 4.0,
        "label_space": "probabilities",
        "stored_label_space": "logits",
    }


def test_an_unknown_format_or_folder_is_one_line():
    with pytest.raises(UserError, match="format=parket: unknown; did you mean parquet"):
        pool_set().export("/dev/null/out", format="parket")
    with pytest.raises(UserError, match="choose a folder"):
        pool_set().export("/dev/null/out")
