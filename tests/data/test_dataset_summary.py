"""The summary of a data set for the report."""

import torch
from PIL import Image

from infer.data import read_folder
from infer.data.datasets import digits_splits
from infer.data.summary import summarise


def test_the_summary_tells_sizes_modes_and_copies(tmp_path):
    for part, name in (("train", "a"), ("train", "b"), ("test", "a"), ("test", "b")):
        (tmp_path / part / name).mkdir(parents=True)
    noise = torch.randint(0, 256, (8, 40, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    for number, place in enumerate(("train/a/0", "train/a/1", "train/b/2", "train/b/3", "test/a/4", "test/b/5")):
        Image.fromarray(noise[number]).save(tmp_path / f"{place}.png")
    Image.fromarray(noise[0]).resize((60, 80)).save(tmp_path / "test/a/copy.jpg", quality=95)
    Image.fromarray(noise[7]).convert("RGB").save(tmp_path / "train/b/colour.png")
    found = summarise(read_folder(tmp_path, image_size=40), str(tmp_path))
    assert found["alike_across"] == 1
    assert found["files"] == 8
    assert found["modes"] == {"L": 7, "RGB": 1}
    assert found["formats"] == {"PNG": 7, "JPEG": 1}
    assert (found["smallest"], found["largest"], found["commonest"]) == ([30, 40], [60, 80], [30, 40])
    assert (found["train"], found["test"], found["smallest_class"], found["largest_class"]) == (5, 3, 2, 3)


def test_the_summary_without_a_folder_has_no_files():
    found = summarise(digits_splits("digits", 0.2, 0), None)
    assert found["files"] is None
    assert "formats" not in found
    assert (found["train"], found["test"], found["validation"], found["side"]) == (1438, 359, None, 8)
