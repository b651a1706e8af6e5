"""The file of a student has all that classifying picture files takes."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from stored_students import stored_student

import infer
from infer.core.errors import UserError
from infer.models.networks import build
from infer.models.weights import save_weights
from infer.training.student_file import read_student

NARROW = {"depth": 3, "width": 32, "norm": "batch"}


@pytest.fixture(scope="module")
def data(pictures) -> infer.Splits:
    return infer.read_folder(pictures, image_size=16, channels=1, centre=True, background="#102030", depth=8)


@pytest.fixture(scope="module")
def file(data, tmp_path_factory):
    return stored_student(data, tmp_path_factory.mktemp("students") / "student")


def test_the_file_alone_is_enough(file, data, tmp_path):
    moved = file.rename(tmp_path / "mine.safetensors")
    try:
        student, card = read_student(moved)
    finally:
        moved.rename(file)
    assert card.classes == data.classes
    assert asdict(card.backbone) == asdict(infer.BackboneOptions("convnet_narrow", "convnet", "auto", NARROW))
    assert (card.decoder.side, card.decoder.channels, card.decoder.centre) == (16, 1, True)
    assert (card.decoder.background, card.decoder.depth) == ("#102030", 8)
    assert torch.equal(torch.stack([student.mean, student.std]), torch.stack(data.moments))
    network = build("convnet_narrow", 3, 1, 16).eval()
    network.load_state_dict(load_file(file))
    images, (mean, std) = data.test.images, data.moments
    normalised = (images / 255 - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(student(images), network(normalised))
    assert not student.training
    assert not any(weight.requires_grad for weight in student.parameters())


def test_the_threshold_leaves_nineteen_of_twenty_right(file, data):
    student, card = read_student(file.parent)
    confidence, predicted = student(data.test.images).softmax(1).max(1)
    right = predicted == data.test.targets
    assert card.threshold is not None
    sure = confidence >= card.threshold
    assert right[sure].float().mean() >= 0.95
    lower = confidence[confidence < card.threshold].unique()
    assert all(right[confidence >= each].float().mean() < 0.95 for each in lower)


def test_validation_pictures_choose_the_threshold_where_there_are_some(pictures, tmp_path):
    data = infer.read_folder(pictures, image_size=16)
    one = data.test.part(torch.tensor([0]))
    own = infer.Splits(data.name, data.classes, data.train, data.test, validation=one)
    student, card = read_student(stored_student(own, tmp_path))
    confidence, predicted = student(one.images).softmax(1).max(1)
    assert card.threshold == (pytest.approx(confidence.item()) if predicted.item() == one.targets.item() else None)


@pytest.mark.parametrize(
    "backbone",
    ["convnet_instance", "resnet_narrow", "shufflenetv2", infer.BackboneOptions("own", "resnet10t", "full", {})],
)
def test_networks_of_every_kind_are_built_again(backbone, data, tmp_path):
    student, card = read_student(stored_student(data, tmp_path, backbone))
    assert card.backbone.name == (backbone if isinstance(backbone, str) else "own")
    assert student(data.test.images[:2]).shape == (2, 3)


def test_32_bit_pictures_are_read_by_the_range_of_the_folder(tmp_path):
    """No file states its range; the folder's reach 1,000, which 16 bits hold."""
    for part in ("train", "test"):
        for number, name in enumerate(("a", "b")):
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(3):
                values = np.full((8, 8), 500 * number + 100 * index + 300, dtype=np.int32)
                Image.fromarray(values).save(tmp_path / part / name / f"{index}.tif")
    data = infer.read_folder(tmp_path, image_size=8, channels=1)
    assert data.decoder is not None
    assert data.decoder.depth == 16
    image = torch.empty(1, 8, 8, dtype=torch.uint8)
    data.decoder.decode(tmp_path / "test" / "a" / "0.tif", image)
    assert torch.equal(image, data.test.images[0])


def test_weights_alone_are_one_line_that_says_what_to_do(file, tmp_path):
    save_file(load_file(file), tmp_path / "student.safetensors")
    with pytest.raises(UserError, match="remove the folder of its run and give the run's command"):
        read_student(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"classes": ["a"]}, "classes: list should have at least 2 items"),
        ({"mean": [0.5, 0.5]}, "mean and std: must have a value for each channel"),
        ({"std": [0.0]}, "std.0: input should be greater than or equal to"),
        ({"threshold": 7}, "threshold: input should be less than or equal to 1"),
        ({"decoder": {"side": 10**6, "channels": 1}}, "decoder: must have 1 or 3 channels and a side of 1 to 4096"),
        ({"backbone": {"name": "x", "model": "convnet", "stem": "tall"}}, "backbone.stem=tall: unknown"),
        ({"backbone": {"name": "x", "model": "resnet", "options": {}}}, "backbone=resnet: unknown"),
        ({"backbone": {"name": "x", "model": "convnet", "options": {**NARROW, "width": 8}}}, "as this network's weigh"),
    ],
)
def test_damaged_metadata_are_one_line(file, tmp_path, change, says):
    with safe_open(file, framework="pt") as opened:
        card = json.loads(opened.metadata()["infer"])
    save_file(load_file(file), tmp_path / "student.safetensors", {"infer": json.dumps({**card, **change})})
    with pytest.raises(UserError, match=says) as raised:
        read_student(tmp_path)
    assert len(str(raised.value).splitlines()) == 1


def test_a_file_that_is_none_is_one_line(tmp_path):
    (tmp_path / "student.safetensors").write_bytes(b"no tensors at all")
    with pytest.raises(UserError, match="cannot be read"):
        read_student(tmp_path)


def test_a_folder_above_students_names_one(file):
    with pytest.raises(UserError, match=rf"no student; give one of the \d+ below it, such as .*{file.parent.name}"):
        read_student(file.parent.parent)


def test_a_stored_student_looks_for_weights_nowhere(data, tmp_path):
    """The network is pretrained from a file that is gone."""
    weights = tmp_path / "weights.safetensors"
    save_weights(timm.create_model("resnet10t"), weights)
    backbone = infer.BackboneOptions("mine", "resnet10t", pretrained=str(weights))
    file = stored_student(data, tmp_path / "student", backbone)
    weights.unlink()
    student, _ = read_student(file)
    assert student(data.test.images[:2]).shape == (2, 3)
