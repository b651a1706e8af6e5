"""The size and the channels of pictures where they are left to the data."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from infer.core.errors import UserError
from infer.data import DatasetOptions, read_dataset, read_folder


def folder(root: Path, size: tuple[int, int], colour: bool = False) -> Path:
    """Ten pictures of two classes: grey ones in RGB files, the last one red in one pixel if ``colour``."""
    generator = np.random.default_rng(0)
    for number in range(10):
        pixels = np.repeat(generator.integers(0, 256, (*size, 1), dtype=np.uint8), 3, axis=2)
        if colour and number == 9:
            pixels[size[0] // 2, size[1] // 2] = 255, 0, 0
        file = root / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    return root


def test_grey_pictures_in_colour_files_become_grey_as_if_asked_for(tmp_path):
    root = folder(tmp_path, (80, 70))
    found, asked = read_folder(root, "auto", channels="auto"), read_folder(root, 64, channels=1)
    assert found.train.shape == (1, 64, 64)
    assert torch.equal(found.train.images, asked.train.images)
    assert found.fingerprint == asked.fingerprint


def test_one_picture_with_colour_keeps_the_colours_of_all(tmp_path):
    assert read_folder(folder(tmp_path, (40, 40), colour=True), 32, channels="auto").channels == 3


@pytest.mark.parametrize(
    ("size", "expected"), [((20, 90), 32), ((63, 90), 32), ((90, 64), 64), ((127, 300), 64), ((400, 128), 128)]
)
def test_the_size_is_the_largest_that_the_shorter_side_reaches(tmp_path, size, expected):
    assert read_folder(folder(tmp_path, size), "auto").side == expected


def test_a_command_tells_what_it_took_and_why(tmp_path, caplog):
    options = DatasetOptions("parts", root=str(folder(tmp_path, (80, 70))), image_size="auto", channels="auto")
    with caplog.at_level(logging.INFO, "infer"):
        data = read_dataset(options)
    assert data.train.shape == (1, 64, 64)
    assert "dataset.image_size=auto: 64 pixels; the shorter side of the pictures is 70 (median)" in caplog.text
    assert "dataset.channels=auto: 1; every picture is grey: a third of the bytes" in caplog.text


def test_data_of_one_shape_keep_it():
    data = read_dataset(DatasetOptions("digits", "digits", image_size="auto", channels="auto"))
    assert data.train.shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_size": "large"}, r"^dataset\.image_size=large: must be auto, or a number between 4 and 1024$"),
        ({"channels": "grey"}, r"^dataset\.channels=grey: unknown; choose one of 1, 3, auto$"),
        ({"channels": "auto", "mean": [0.5], "std": [0.2]}, r"^dataset\.channels=auto: dataset\.mean is given; give "),
    ],
)
def test_other_words_are_one_line(tmp_path, values, message):
    with pytest.raises(UserError, match=message):
        read_dataset(DatasetOptions("parts", root=str(tmp_path), **values))
