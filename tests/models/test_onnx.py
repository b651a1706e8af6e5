"""ONNX files of students: the same logits under ONNX Runtime, with resizing and normalisation inside."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import infer
from infer.core.errors import UserError
from infer.core.images import open_image
from infer.data.decoder import Decoder
from infer.models import onnx as onnx_files
from infer.models.networks import build
from infer.models.weights import PixelClassifier

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

CLASSES = ["bolt", "kuro 黒", "nut"]
MEAN, STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])


def student_of(backbone: str, side: int, channels: int = 3) -> PixelClassifier:
    """A network with BatchNorm statistics that are not those it starts with, as after a training."""
    torch.manual_seed(0)
    network = build(backbone, len(CLASSES), channels, side)
    network(torch.randn(16, channels, side, side) * 2 + 1)
    return PixelClassifier(network, MEAN[:channels], STD[:channels]).eval()


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def logits_of(file, images: torch.Tensor) -> torch.Tensor:
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


@pytest.mark.parametrize(
    ("backbone", "side", "channels"),
    [("convnet", 32, 3), ("convnet_instance", 32, 3), ("resnet_narrow", 64, 3), ("convnet_narrow", 8, 1)],
)
def test_logits_are_pytorchs(backbone, side, channels, tmp_path):
    student, file = student_of(backbone, side, channels), tmp_path / "student.onnx"
    assert infer.export_onnx(student, file, CLASSES, side) < 1e-4
    for batch in (1, 7):
        images = pixels(batch, channels, side, side)
        with torch.no_grad():
            expected = student(images)
        torch.testing.assert_close(logits_of(file, images), expected, atol=1e-4, rtol=0)
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(found["classes"]) == CLASSES
    assert (found["image_size"], found["channels"]) == (str(side), str(channels))


class Identity(nn.Module):
    """Returns the pixels it gets as logits, so that a test sees what resizing made of them."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


def test_the_middle_square_has_the_edge_of_the_decoder():
    assert [onnx_files._edge(size) for size in range(1, 200)] == [round(size * 7 / 8) for size in range(1, 200)]


@pytest.mark.parametrize("centre", [False, True])
def test_pictures_are_resized_as_in_training(centre, tmp_path):
    side = 12
    student = PixelClassifier(Identity(), torch.zeros(3), torch.ones(3))
    infer.export_onnx(student, tmp_path / "x.onnx", [str(at) for at in range(3 * side * side)], side, centre)
    decoder = Decoder(side, 3, centre)
    for height, width in ((40, 27), (9, 30), (12, 12), (7, 5), (64, 64)):
        smooth = np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8)
        Image.fromarray(smooth).save(tmp_path / "x.png")
        expected = torch.empty(3, side, side, dtype=torch.uint8)
        decoder.decode(tmp_path / "x.png", expected)
        with open_image(tmp_path / "x.png") as picture:
            images = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
        found = logits_of(tmp_path / "x.onnx", images).view(3, side, side) * 255
        assert (found - expected).abs().max() <= 1.001, (height, width)


def test_a_student_of_a_file_knows_its_classes_and_size(tmp_path):
    images, labels = pixels(12, 1, 8, 8), torch.arange(12) % 3
    data = infer.Splits.from_arrays(images, labels, images, labels, CLASSES)
    small = infer.distill(data, infer.train_teachers(data, ["convnet_narrow"], epochs=1), ipc=3, method="random")
    student = infer.train_student(small, "convnet_narrow", steps=2)
    weights = {key: value.clone() for key, value in student.state_dict().items()}
    infer.export_onnx(student, tmp_path / "student.onnx")
    found = {entry.key: entry.value for entry in onnx.load(tmp_path / "student.onnx").metadata_props}
    assert json.loads(found["classes"]) == CLASSES
    assert found["image_size"] == "8"
    assert all(torch.equal(value, weights[key]) for key, value in student.state_dict().items())
    assert all(weight.requires_grad for weight in student.parameters())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"student": nn.Linear(3, 3)}, "student=.*must be a module that infer.train_student returns"),
        ({"classes": None}, "knows neither its classes nor its image size"),
        ({"classes": ["a", "b"]}, "classes: 2 names are given, the student has 3 classes"),
        ({"image_size": 16}, r"student: cannot be written as ONNX \(.*\); choose another backbone"),
    ],
)
def test_what_cannot_be_written_is_one_line(arguments, says, tmp_path):
    given = {"student": student_of("convnet_narrow", 8), "classes": CLASSES, "image_size": 8, **arguments}
    with pytest.raises(UserError, match=says) as raised:
        infer.export_onnx(file=tmp_path / "student.onnx", **given)
    assert len(str(raised.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


class Drifting(nn.Module):
    """Gives other logits in the runtime: its output depends on how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return images.mean((2, 3)) + self.calls


def test_a_file_with_other_logits_is_not_written(tmp_path):
    student = PixelClassifier(Drifting(), MEAN, STD)
    with pytest.raises(UserError, match="logits differ from PyTorch's"):
        infer.export_onnx(student, tmp_path / "student.onnx", CLASSES, 8)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_library_is_one_line_that_names_the_extra(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("infer.core.extras.find_spec", lambda name: None if name == "onnxruntime" else find(name))
    with pytest.raises(UserError, match=r"needs onnxruntime, which is not installed; .*'infer-distillation\[onnx\]'"):
        infer.export_onnx(student_of("convnet_narrow", 8), tmp_path / "student.onnx", CLASSES, 8)
