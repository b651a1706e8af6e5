"""Exports are read by the libraries they are made for."""

import contextlib
import csv
import gc
import io
import json
import warnings

import numpy as np
import pytest
import torch
from distilled_sets import pool_set, views_set
from PIL import Image

pytest.importorskip("timm")
pytest.importorskip("torchvision")

MADE = pytest.mark.parametrize("make", [pool_set, views_set])


def pixels(picture) -> torch.Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


@contextlib.contextmanager
def files_left_open():
    """Ignore the warnings about files that a library leaves open in the block."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


def soft_labels(file, columns: list[str]) -> dict[str, list[float]]:
    """The probabilities of a table by the number of the picture."""
    with file.open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    name = next(iter(rows[0]))
    return {row[name].rpartition("/")[2][:6]: [float(row[column]) for column in columns] for row in rows}


@MADE
def test_torchvisions_image_folder_reads_an_imagefolder(make, tmp_path):
    from torchvision.datasets import ImageFolder

    dataset = make()
    dataset.export(tmp_path, format="imagefolder")
    read = ImageFolder(str(tmp_path))
    assert read.classes == dataset.classes
    assert len(read) == len(dataset)
    labels = soft_labels(tmp_path / "labels.csv", dataset.classes)
    for (file, target), (picture, _) in zip(read.samples, read, strict=True):
        number = file.rpartition("/")[2][:6]
        image, label = dataset[int(number)]
        assert torch.equal(pixels(picture), image)
        assert target == dataset.targets[int(number)]
        assert labels[number] == pytest.approx(label.tolist(), rel=1e-4)


@MADE
def test_timm_reads_an_imagefolder(make, tmp_path):
    from timm.data import create_dataset

    dataset = make()
    dataset.export(tmp_path, format="imagefolder")
    read = create_dataset("", root=str(tmp_path))
    assert read.reader.class_to_idx == {name: number for number, name in enumerate(dataset.classes)}
    assert len(read) == len(dataset)
    with files_left_open():
        found = {int(read.filename(at, basename=True)[:6]): read[at] for at in range(len(read))}
    for number, (picture, target) in found.items():
        assert torch.equal(pixels(picture), dataset[number][0])
        assert target == dataset.targets[number]


def loaded(kind: str, folder, cache) -> list[dict]:
    """The rows that Hugging Face's datasets reads."""
    datasets = pytest.importorskip("datasets")
    with files_left_open():
        read = datasets.load_dataset(kind, data_dir=str(folder), cache_dir=str(cache))
        assert list(read) == ["train"]
        rows = list(read["train"])
        del read
    return rows


@MADE
def test_hugging_face_datasets_reads_a_folder_with_soft_labels(make, tmp_path):
    dataset = make()
    dataset.export(tmp_path / "out", format="huggingface")
    rows, (images, labels) = loaded("imagefolder", tmp_path / "out", tmp_path / "cache"), dataset[:]
    assert [row["label"] for row in rows] == dataset.targets.tolist()
    assert [row["class"] for row in rows] == [dataset.classes[number] for number in dataset.targets.tolist()]
    for row, image, label in zip(rows, images, labels, strict=True):
        assert torch.equal(pixels(row["image"]), image)
        found = [row[f"probability_{at}"] for at in range(len(dataset.classes))]
        assert found == pytest.approx(label.tolist(), rel=1e-4)


@MADE
def test_hugging_face_datasets_reads_parquet(make, tmp_path):
    pytest.importorskip("pyarrow")
    dataset = make()
    dataset.export(tmp_path / "out", format="parquet")
    rows, (images, labels) = loaded("parquet", tmp_path / "out", tmp_path / "cache"), dataset[:]
    assert [row["label"] for row in rows] == dataset.targets.tolist()
    for row, image, label in zip(rows, images, labels, strict=True):
        assert torch.equal(pixels(Image.open(io.BytesIO(row["image"]))), image)
        assert row["probabilities"] == label.tolist()


@MADE
@pytest.mark.parametrize("format", ["imagefolder", "huggingface", "parquet"])
def test_the_temperature_travels_along(make, format, tmp_path):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    dataset = make()
    dataset.export(tmp_path, format=format)
    meta = json.loads((tmp_path / "meta.json").read_text(encoding="utf-8"))
    assert meta["temperature"] == dataset.temperature == 4.0
    assert meta["label_space"] == "probabilities"
    assert meta["classes"] == dataset.classes
