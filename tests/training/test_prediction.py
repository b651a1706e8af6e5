"""Prediction on picture files: read as in training, and a table of all that is found."""

import csv
import io
import os

import numpy as np
import pytest
import torch
from PIL import Image
from stored_students import stored_student

import infer
from infer.core.errors import UserError
from infer.training.prediction import Counts, Prediction, find_pictures, predict, prediction_table
from infer.training.student_file import read_student

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def deep_pictures(tmp_path_factory):
    """Stripes of two classes as a camera with 12 bits has them, in 16-bit files; and colours, and transparent ones."""
    root, draw = tmp_path_factory.mktemp("deep"), np.random.default_rng(0)
    for part in ("train", "test"):
        for number, name in enumerate(("=flat", "steep")):
            (root / part / name).mkdir(parents=True)
            for index in range(6):
                wave = np.sin(np.arange(30) * (0.3 + 0.9 * number))[:, None] * 1500 + draw.normal(2048, 200, (30, 24))
                deep = wave.clip(0, 4095).astype(np.uint16)
                picture = Image.fromarray(deep)
                if index % 3 == 1:
                    picture = Image.fromarray((deep >> 4).astype(np.uint8)).convert("RGB")
                elif index % 3 == 2:
                    picture = Image.fromarray((deep >> 4).astype(np.uint8)).convert("RGBA")
                    picture.putalpha(100)
                picture.save(root / part / name / f"{index}.png")
    return root


@pytest.mark.parametrize(("channels", "centre"), [(1, False), (3, True)])
def test_files_are_read_as_in_training(deep_pictures, tmp_path, channels, centre):
    data = infer.read_folder(
        deep_pictures, image_size=16, channels=channels, depth=12, background="black", centre=centre
    )
    student = read_student(stored_student(data, tmp_path))
    found = find_pictures(deep_pictures / "test")
    predictions = list(predict(student, found.pictures, CPU))
    expected = student.network(data.test.images).softmax(1)
    assert torch.equal(torch.tensor([each.probabilities for each in predictions]), expected)
    assert [each.file.parent.name for each in predictions] == [data.classes[at] for at in data.test.targets.tolist()]


@pytest.fixture(scope="module")
def student(pictures, tmp_path_factory):
    data = infer.read_folder(pictures, image_size=16)
    return read_student(stored_student(data, tmp_path_factory.mktemp("student")))


def test_unreadable_files_are_told_and_change_no_other(student, pictures, tmp_path):
    """In more than one batch of 64, one of which has no readable picture."""
    whole = (pictures / "test" / "flat" / "0.png").read_bytes()
    for index in range(150):
        (tmp_path / f"{index:03d}.png").write_bytes(whole if index % 50 == 7 else whole[:70])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_bytes(whole)
    os.mkfifo(tmp_path / "pipe.png")
    found = find_pictures(tmp_path)
    assert (len(found.pictures), found.others) == (151, 1)
    predictions = list(predict(student, found.pictures, CPU))
    readable = [each for each in predictions if not each.error]
    assert [each.file.name for each in readable] == ["007.png", "057.png", "107.png"]
    (alone,) = predict(student, [tmp_path / "007.png"], CPU)
    for each in readable:
        assert each.probabilities == pytest.approx(alone.probabilities, abs=1e-6)
    assert {each.error for each in predictions if each.file.name == "empty.jpg"} == {"empty"}
    assert all(bool(each.error) != bool(each.probabilities) for each in predictions)


def test_the_table_has_a_row_for_every_file(tmp_path):
    predictions = [
        Prediction(tmp_path / "a.png", [0.7, 0.2, 0.1], ""),
        Prediction(tmp_path / "in" / "=b.png", [0.1, 0.3, 0.6], ""),
        Prediction(tmp_path / "c.png", [], "image file is truncated"),
        Prediction(tmp_path / "=d\n.png", [0.0, 0.5, 0.5], ""),
    ]
    table, counts = prediction_table(predictions, ["=flat", "error", "kuro 黒"], tmp_path, 0.6)
    assert counts == Counts(classified=3, unsure=1, unreadable=1)
    assert list(csv.reader(io.StringIO(table))) == [
        ["file", "class", "unsure", "error", "'=flat", "'error", "kuro 黒"],
        ["a.png", "'=flat", "false", "", "0.7", "0.2", "0.1"],
        ["in/=b.png", "kuro 黒", "false", "", "0.1", "0.3", "0.6"],
        ["c.png", "", "", "image file is truncated", "", "", ""],
        ["'=d\\n.png", "'error", "true", "", "0.0", "0.5", "0.5"],
    ]


def test_without_a_threshold_every_picture_is_unsure(tmp_path):
    _, counts = prediction_table([Prediction(tmp_path / "a.png", [1.0, 0.0], "")], ["a", "b"], tmp_path, None)
    assert counts.unsure == 1


def test_a_folder_without_pictures_is_one_line(tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(UserError, match=f"folder={tmp_path}: holds no picture"):
        find_pictures(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        find_pictures(tmp_path / "notes.txt")
