"""Which folders and files of a data set are read: parts, classes, hidden and system entries, links, special files."""

import os
import shutil
import socket
import unicodedata

import pytest
from picture_files import flat, saved, tiff
from PIL import Image

from infer import UserError, read_folder
from infer.data.layout import find_layout
from infer.data.summary import summarise


def make(root, *places, level=0):
    """Write flat pictures of different levels at ``places`` such as ``train/a/0.png``."""
    for number, place in enumerate(places):
        file = root / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(saved(Image.new("L", (8, 8), level + 20 * number), "PNG"))


def two_classes(root, *, at=""):
    make(root, *(f"{at}{name}/{index}.png" for name in ("a", "b") for index in range(3)))
    return root


def read(root, **options):
    return read_folder(root, 8, channels=1, test_fraction=0.34, **options)


def names(root, part="train"):
    return [file.relative_to(root).as_posix() for file in find_layout(root).parts[part].files]


def test_content_decides_what_is_a_picture(tmp_path):
    two_classes(tmp_path)
    colour = Image.new("RGB", (8, 8), (90, 10, 200))
    for name, kind in (("x.jfif", "JPEG"), ("x.gif", "GIF"), ("x.ppm", "PPM"), ("x.avif", "AVIF"), ("none", "WEBP")):
        (tmp_path / "a" / name).write_bytes(saved(colour, kind))
    (tmp_path / "a" / "x.dat").write_bytes(saved(colour, "TIFF"))
    (tmp_path / "a" / "readme.txt").write_text("of the pictures")
    (tmp_path / "a" / "more.txt").write_text("")
    (tmp_path / "b" / "labels.csv").write_text("P1,2")
    (tmp_path / "b" / "page.pdf").write_bytes(b"%PDF-1.7")
    splits = read(tmp_path)
    assert len(splits.train) + len(splits.test) == 12
    (note,) = [note for note in splits.notes if "no pictures" in note]
    assert note == "left out: 4 files that are no pictures (2 .txt, 1 .csv, 1 .pdf, such as a/more.txt)"


def test_hidden_and_system_entries_are_skipped_at_every_depth(tmp_path):
    two_classes(tmp_path, at="train/")
    two_classes(tmp_path, at="test/")
    whole = read(tmp_path)
    hidden = (".ipynb_checkpoints", "__MACOSX", "@eaDir", "$RECYCLE.BIN", ".git", "System Volume Information")
    for place in ("", "train/", "train/a/", "test/b/deep/"):
        for name in hidden:
            make(tmp_path, f"{place}{name}/a/leak.png", f"{place}{name}/b/leak.png", f"{place}{name}/leak.png")
        for name in ("._0.png", ".DS_Store", "Thumbs.db", "desktop.ini"):
            (tmp_path / place / name).write_bytes(b"\0\5\26\7")
    again = read(tmp_path)
    assert again.fingerprint == whole.fingerprint
    assert again.notes == whole.notes
    assert summarise(again, str(tmp_path))["files"] == 12


def test_links_are_followed_once(tmp_path):
    root = two_classes(tmp_path / "set")
    make(tmp_path, "pool/p0.png", "pool/inner/p1.png", "other.png", level=200)
    (root / "a" / "linked").symlink_to(tmp_path / "pool")
    (root / "a" / "file.png").symlink_to(tmp_path / "other.png")
    (root / "a" / "again").symlink_to(tmp_path / "pool" / "inner")
    (root / "a" / "loop").symlink_to(root / "a")
    (root / "a" / "up").symlink_to("..")
    (root / "a" / "top").symlink_to("/")
    (root / "a" / "class").symlink_to(root / "b")
    (tmp_path / "pool" / "back").symlink_to(tmp_path)
    (root / "a" / "broken.png").symlink_to(tmp_path / "gone")
    (root / "a" / "self").symlink_to("self")
    found = names(root)
    assert sorted(name for name in found if name.startswith("a/")) == sorted(
        ["a/0.png", "a/1.png", "a/2.png", "a/file.png", "a/again/p1.png", "a/linked/p0.png"]
    )
    assert [name for name in found if name.startswith("b/")] == ["b/0.png", "b/1.png", "b/2.png"]
    splits = read(root)
    note = next(note for note in splits.notes if note.startswith("left out"))
    assert "links to folders that are read anyway (" in note
    assert "2 links that lead nowhere (a/broken.png, a/self)" in note
    assert summarise(splits, str(root))["files"] == len(found) == 9


def test_a_class_folder_may_be_a_link(tmp_path):
    two_classes(tmp_path / "pool")
    for name in ("a", "b"):
        (tmp_path / "set" / "train").mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / "train" / name).symlink_to(tmp_path / "pool" / name)
    (tmp_path / "set" / "test").symlink_to(tmp_path / "pool")
    with pytest.raises(
        UserError, match=r"test: no readable picture of a, b \(left out: 2 links to folders that are rea"
    ):
        find_layout(tmp_path / "set")
    (tmp_path / "set" / "test").unlink()
    two_classes(tmp_path / "set", at="test/")
    assert len(names(tmp_path / "set")) == 6


def test_special_files_are_told_and_never_opened(tmp_path):
    two_classes(tmp_path)
    os.mkfifo(tmp_path / "a" / "pipe.png")
    (tmp_path / "a" / "zero.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as own:
        own.bind(str(tmp_path / "b" / "socket"))
        splits = read(tmp_path)
    assert len(splits.train) + len(splits.test) == 6
    assert any("3 pipes, sockets and devices (a/pipe.png, a/zero.png and 1 more)" in note for note in splits.notes)
    assert summarise(splits, str(tmp_path))["files"] == 6


@pytest.mark.parametrize(
    ("train", "test", "val"),
    [("train", "test", "val"), ("Training", "Testing", "valid"), ("TRAIN", "Test", "Validation"), ("Train", "VAL", "")],
)
def test_usual_names_of_parts_are_known_in_any_case(train, test, val, tmp_path):
    for part in filter(None, (train, test, val)):
        two_classes(tmp_path, at=f"{part}/")
    layout = find_layout(tmp_path)
    assert layout.classes == ["a", "b"]
    assert {name: part.root.name for name, part in layout.parts.items()} == {
        "train": train,
        "test": test,
        **({"validation": val} if val else {}),
    }
    assert layout.notes == ()


def test_folders_and_pictures_of_no_part_or_class_are_told(tmp_path):
    for part in ("train", "test", "extra"):
        two_classes(tmp_path, at=f"{part}/")
    make(tmp_path, "train/loose.png")
    assert find_layout(tmp_path).notes == (
        "not read, as they lie beside train/: extra",
        f"left out: 1 picture of no class in {tmp_path}/train, loose.png",
    )


@pytest.mark.parametrize(
    ("places", "says"),
    [
        (
            ["Train/a/0.png", "training/b/0.png", "test/a/0.png"],
            "mean the same part of the data; keep one, or rename th",
        ),
        (["test/a/0.png", "test/b/0.png", "c/0.png"], "is no train/; add train/<class>/, or rename test/ wh"),
        (["train/0.png", "bus/0.png"], "train/ has no class folders; put its pictures into train/<class>/, or"),
        (["train/0.png", "test/0.png"], "train/ has no class folders; put its pictures into train/<class>/, or"),
        (["good/train/0.png", "good/test/0.png", "bad/train/0.png", "bad/test/0.png"], "bad/, good/ and so on hold"),
        (["good/Train/0.png", "bad/train/0.png", "ugly/0.png"], "such as train/, so what is a class is not clear"),
        (["seg_train/seg_train/a/0.png", "seg_test/seg_test/a/0.png"], "seg_train/ and seg_test/ look like parts of"),
        (
            ["my-Train/a/0.png", "my-Test/a/0.png", "x/0.png"],
            "; call such folders train/ and test/, and put <class>/ f",
        ),
        (["train_images/0.png", "test_images/0.png"], "train_images/ and test_images/ look like parts of the data and"),
        (["trainset/a/0.png", "valset/b/0.png"], "trainset/ and valset/ look like parts of the data and not like cl"),
        (["test/0.png", "valid/0.png", "invalid/0.png"], "into them; or rename them, where they are classes"),
        (["test/0.png", "valid/0.png"], "test/ and valid/ look like parts of the data and not like classes; call such"),
        (["data/train/a/0.png", "data/test/a/0.png", "more/0.png"], "data/ holds train/ and test/, so it is no class"),
        (["x/y/tr_train/0.png", "x/y/tr_val/0.png", "more/0.png"], "x/ holds tr_train/ and tr_val/, so it is no class"),
        (["one/in/a/0.png", "one/in/b/0.png", "two/a/0.png", "two/b/0.png"], "one/, two/ and so on hold folders of"),
        (["one/a/0.png", "one/b/0.png", "two/a/0.png", "two/b/0.png", "x/0.png"], "one/, two/ and so on hold folders"),
        (["one/a/0.png", "one/b/0.png", "one/x.png", "two/a/0.png", "two/b/0.png"], "one/, two/ and so on hold fold"),
        (["train/train/a/0.png", "train/train/b/0.png", "test/test/a/0.png"], "train/train up into train/"),
        (["2023/cat/0.png", "2023/dog/0.png", "2024/cat/0.png", "2024/dog/0.png"], "move 2023/cat/ to cat/2023/ where"),
        (["train/a/0.png", "train/b/0.png"], "has train/ but no test/; add test/<class>/, or put <class>/ in root"),
        (["train/a/0.png", "train/b/0.png", "test/a/0.png", "test/c/0.png"], "test/ has classes that train/ lacks: c"),
    ],
)
def test_a_layout_that_is_not_clear_is_refused_with_the_cure(places, says, tmp_path):
    make(tmp_path, *places)
    with pytest.raises(UserError) as error:
        find_layout(tmp_path)
    assert str(error.value).startswith(f"root={tmp_path}: ")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "places",
    [
        ["valid/0.png", "invalid/0.png"],
        ["test/0.png", "control/0.png"],
        ["a/images/0.png", "b/images/0.png"],
        ["a/0.png", "a/x/1.png", "b/x/1.png"],
        ["a/0.png", "a/1.png", "a/x/1.png", "a/y/1.png", "b/0.png", "b/1.png", "b/x/1.png", "b/y/1.png"],
        ["a/train/0.png", "b/0.png"],
        ["trains/0.png", "tests/0.png", "station_train/0.png", "lab_test/0.png"],
        ["contest/0.png", "conval/0.png", "constrain/0.png"],
    ],
)
def test_class_folders_that_only_look_like_parts_are_classes(places, tmp_path):
    make(tmp_path, *places)
    assert find_layout(tmp_path).classes == sorted({place.partition("/")[0] for place in places})


@pytest.mark.parametrize("parts", [("train_images", "test_images"), ("2023", "2024")])
def test_a_file_that_is_no_picture_does_not_hide_the_classes(parts, tmp_path):
    make(tmp_path, *(f"{part}/{name}/0.png" for part in parts for name in ("cat", "dog", "owl")))
    for part in parts:
        for number in range(4):
            (tmp_path / part / f"labels{number}.csv").write_text("cat,0")
    with pytest.raises(UserError, match=r"look like parts of the data|so what is a class is not clear"):
        find_layout(tmp_path)


def test_a_loop_of_links_in_class_folders_ends(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "loop").symlink_to(tmp_path / name)
    with pytest.raises(
        UserError, match=r"no readable picture of a, b \(left out: 2 links to folders that are read any"
    ):
        find_layout(tmp_path)
    make(tmp_path, "a/0.png", "b/0.png")
    assert find_layout(tmp_path).notes == ("left out: 2 links to folders that are read anyway (a/loop, b/loop)",)


@pytest.mark.parametrize("name", ["../../train/n1/0.png", "/etc/passwd", "a/../../../x.png", ".."])
def test_a_table_may_not_name_files_outside_its_folder(name, tmp_path):
    make(tmp_path, "train/n1/0.png", "train/n2/0.png", "val/images/0.png", "val/images/more/1.png")
    table = tmp_path / "val" / "val_annotations.txt"
    table.write_text("0.png\tn1\nmore/1.png\tn2\n")
    assert find_layout(tmp_path).parts["test"].targets == [0, 1]
    table.write_text(f"0.png\tn1\nmore/1.png\tn2\n{name}\tn1\n")
    with pytest.raises(UserError) as error:
        find_layout(tmp_path)
    assert str(error.value) == (
        f"root={tmp_path}: val/val_annotations.txt names {name}, which lies outside val/images/; take the line away"
    )


def test_one_of_a_kind_is_told_in_the_singular(tmp_path):
    two_classes(tmp_path)
    (tmp_path / "a" / "readme.txt").write_text("of the pictures")
    (tmp_path / "a" / "broken.png").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "b" / "pipe")
    (tmp_path / "b" / "loop").symlink_to(tmp_path / "b")
    assert find_layout(tmp_path).notes == (
        "left out: 1 file that is no picture (1 .txt, such as a/readme.txt), "
        "1 link that leads nowhere (a/broken.png), 1 link to a folder that is read anyway (b/loop), "
        "1 pipe, socket or device (b/pipe)",
    )


def test_twins_of_two_unicode_forms_are_said_to_be_that(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    make(tmp_path / "one", f"{composed}/0.png", f"{decomposed}/0.png")
    with pytest.raises(UserError, match=r"'cafe\\u0301' and 'caf\\xe9' have one name, café, in two Unicode forms"):
        find_layout(tmp_path / "one")
    make(tmp_path / "two", f"train/{composed}/0.png", "train/b/0.png", f"test/{decomposed}/0.png", "test/b/0.png")
    with pytest.raises(
        UserError, match=r"the class 'cafe\\u0301' in test/ and 'caf\\xe9' in train have one name, café"
    ):
        find_layout(tmp_path / "two")


def test_names_with_bytes_that_are_no_text_are_one_line(tmp_path):
    two_classes(tmp_path)
    shutil.copy(tmp_path / "a" / "0.png", os.fsencode(tmp_path / "a") + b"/\xff\n.png")
    (tmp_path / "a" / os.fsdecode(b"\xfe\n.png")).write_text("no picture")
    layout = find_layout(tmp_path)
    assert len(layout.parts["train"].files) == 8
    with pytest.raises(UserError, match=r"1 of 8 pictures cannot be read: .*a/\\xfe\\n.png \(not a picture") as error:
        read(tmp_path)
    str(error.value).encode()
    assert "\n" not in str(error.value)
    read(tmp_path, stream=True).fingerprint.encode()
    make(tmp_path, os.fsdecode(b"c\xff") + "/0.png")
    with pytest.raises(UserError, match=r"the name of the class folder b'c\\xff' is not UTF-8; rename it$"):
        find_layout(tmp_path)


def test_a_class_is_named_by_its_name(tmp_path):
    make(tmp_path, "bolt/0.png", "nut/0.png", "nut/1.png")
    with pytest.raises(UserError, match=r"^dataset: class bolt has one picture; a split needs two, so add one$"):
        read(tmp_path)


def test_unreadable_files_are_listed_with_the_reason(tmp_path):
    two_classes(tmp_path)
    for name, content in (
        ("huge.tif", tiff(flat(9), size=(70_000, 70_000))),
        ("float.tif", tiff(flat(0.5, dtype="<f4"))),
    ):
        (tmp_path / "a" / name).write_bytes(content)
    (tmp_path / "b" / "empty.png").touch()
    with pytest.raises(UserError) as error:
        read(tmp_path)
    for reason in (
        "float.tif (floating-point values without a stated range",
        "empty.png (empty)",
        "huge.tif (Image size",
    ):
        assert reason in str(error.value)


def test_the_fingerprint_of_streamed_pictures_has_their_times(tmp_path):
    two_classes(tmp_path)
    first = read(tmp_path, stream=True).fingerprint
    assert read(tmp_path, stream=True).fingerprint == first
    file = tmp_path / "a" / "0.png"
    status = file.stat()
    content = file.read_bytes()
    file.write_bytes(content[::-1])  # the same name and size
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert read(tmp_path, stream=True).fingerprint != first


def deep(root, level_of, dtype, **options):
    for number in range(6):
        folder = root / ("a", "b")[number % 2]
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.tif").write_bytes(tiff(flat(level_of(number), dtype=dtype), **options))
    return root


def test_a_part_of_a_deep_range_is_told_once_for_the_folder(tmp_path):
    deep(tmp_path, lambda number: 819 * number, "<u2")
    for stream in (False, True):
        notes = [note for note in read(tmp_path, stream=stream).notes if "stated range" in note]
        assert notes == [
            "6 pictures of 16-bit values without a stated range, none above 4,095 of 65,535; if they have fewer bits, "
            "dataset.depth=12 takes 4,095 as white"
        ]
    splits = read(tmp_path, depth=12)
    assert not any("range" in note for note in splits.notes)
    assert max(int(splits.train.images.max()), int(splits.test.images.max())) == 255


def test_32_bit_values_have_one_range_for_the_folder(tmp_path):
    deep(tmp_path, lambda number: (0, 30, 60, 90, 120, 255)[number], "<i4")
    splits = read(tmp_path)
    found = {int(level) for part in (splits.train, splits.test) for level in part.images[:, 0, 0, 0]}
    assert found == {0, 30, 60, 90, 120, 255}
    assert any(
        "6 pictures of 32-bit values without a stated range, which reach 255; 255 is read" in n for n in splits.notes
    )
    with pytest.raises(UserError, match=r"streamed pictures of 32-bit values up to \d+ without .* give dataset.depth="):
        read(tmp_path, stream=True)
    assert read(tmp_path, stream=True, depth=8).train.shape == (1, 8, 8)
    (tmp_path / "a" / "more.tif").write_bytes(tiff(flat(65535, dtype="<i4")))
    splits = read(tmp_path)  # then 16 bits hold all values, and all are read so
    assert (
        {0, 255}
        <= {int(level) for part in (splits.train, splits.test) for level in part.images[:, 0, 0, 0]}
        <= {0, 1, 255}
    )


def test_dark_pictures_of_8_bits_and_values_beyond_the_depth_are_told(tmp_path):
    make(tmp_path, "a/0.png", "a/1.png", "b/0.png", "b/1.png", level=0)  # up to 60
    assert any(
        "none above 60 of 255; if they have fewer bits, dataset.depth=6" in note for note in read(tmp_path).notes
    )
    notes = read(tmp_path, depth=4).notes
    assert "values up to 60 are more than dataset.depth=4 has; they are read as white" in notes
    make(tmp_path, "b/2.png", level=200)
    assert not any("range" in note for note in read(tmp_path).notes)


def test_different_stated_ranges_are_told(tmp_path):
    for number in range(4):
        folder = tmp_path / ("a", "b")[number % 2]
        folder.mkdir(exist_ok=True)
        top = 4000 + 20 * number
        (folder / f"{number}.tif").write_bytes(tiff(flat(top, dtype="<u2"), tags=[(281, 3, [top])]))
    note = (
        "pictures state different ranges of values, such as 0 to 4,000 and 0 to 4,060; dataset.depth gives all the same"
    )
    assert note in read(tmp_path).notes


def test_the_background_reaches_the_folder_and_the_fingerprint(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            drawn = Image.new("RGBA", (8, 8))
            drawn.paste((0, 0, 0, 255), (0, number, 8, 8) if name == "a" else (number, 0, 8, 8))
            (tmp_path / name / f"{number}.png").write_bytes(saved(drawn, "PNG"))
    white, black = read(tmp_path), read(tmp_path, background="black")
    assert white.train.images.max() == 255
    assert black.train.images.max() == 0
    assert white.fingerprint != black.fingerprint
    streamed = {read(tmp_path, stream=True, background=colour).fingerprint for colour in ("white", "black")}
    assert len(streamed) == 2
    with pytest.raises(UserError, match=r"^background=wite: not a colour"):
        read(tmp_path, background="wite")


def test_the_summary_outlives_the_folder(tmp_path):
    splits = read(two_classes(tmp_path / "set"))
    shutil.rmtree(tmp_path / "set")
    assert summarise(splits, str(tmp_path / "set"))["files"] is None
    assert summarise(splits, None)["files"] is None


def test_a_folder_around_the_classes_and_one_that_is_closed_are_told(tmp_path, monkeypatch):
    two_classes(tmp_path, at="unpacked/")
    with pytest.raises(UserError, match=rf"one class, unpacked, in .* needed; or give root={tmp_path}/unpacked$"):
        find_layout(tmp_path)
    with pytest.raises(UserError, match=r"no such folder"):
        find_layout(tmp_path / ("x" * 5000))

    def closed(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(UserError, match=r"no class folders in .* \(left out: 1 folder that cannot be opened \(\.\)\)"):
        find_layout(tmp_path)


def test_the_home_folder_may_be_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    splits = read(two_classes(tmp_path / "set"))
    assert read("~/set").fingerprint == splits.fingerprint
    assert summarise(splits, "~/set")["files"] == 6
