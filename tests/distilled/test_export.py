"""Export for other programs."""

import csv
import io
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from distilled_sets import pool_set, views_set
from PIL import Image

from infer.core.errors import UserError


def pixels(content) -> torch.Tensor:
    """The image uint8 [ch, H, W] of a colour picture."""
    return torch.from_numpy(np.array(Image.open(content))).permute(2, 0, 1)


def rows_of(file) -> list[dict[str, str]]:
    with file.open(encoding="utf-8") as table:
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


def test_class_names_stay_inside_the_folder(tmp_path):
    dataset = pool_set()
    named = replace(dataset, header=replace(dataset.header, classes=["../up", "T-shirt/top", "T-shirt?top"]))
    named.export(tmp_path / "named")
    folders = sorted(entry.name for entry in (tmp_path / "named").iterdir() if entry.is_dir())
    assert folders == ["T-shirt_top-1", "T-shirt_top-2", "_up"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["named"]


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


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_huggingface_is_read_by_datasets(tmp_path):
    datasets = pytest.importorskip("datasets")
    dataset = pool_set()
    dataset.export(tmp_path / "out", format="huggingface")
    read = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert list(read) == ["train"]
    assert read["train"]["label"][:] == dataset.targets.tolist()
    assert torch.equal(torch.from_numpy(np.array(read["train"][9]["image"])).permute(2, 0, 1), dataset[9][0])


def test_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    dataset = views_set()
    dataset.export(tmp_path, format="parquet")
    table = parquet.read_table(tmp_path / "train.parquet").to_pydict()
    assert list(table) == ["image", "label", "class", "probabilities"]
    assert table["label"] == dataset.targets.tolist()
    assert table["class"] == [dataset.classes[number] for number in table["label"]]
    assert torch.equal(torch.tensor(table["probabilities"]), dataset[:][1])
    for index, content in enumerate(table["image"]):
        assert torch.equal(pixels(io.BytesIO(content)), dataset[index][0])


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
