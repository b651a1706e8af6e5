"""Reading of folders of pictures, in memory and streamed."""

import shutil
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from infer import UserError
from infer.data import Streamed, read_folder
from infer.data.decoder import Decoder
from infer.data.folder import folder_splits


def read(root, side=16, channels=3, test_fraction=0.25, stream=False):
    return folder_splits("set", root, Decoder(side, channels, stream=stream), test_fraction, 0)


@pytest.mark.parametrize("channels", [1, 3])
def test_mixed_sizes_modes_and_names_become_one_shape(pictures, channels):
    splits = read(pictures, channels=channels)
    assert splits.classes == ["flat", "kuro 黒", "ridge"]
    assert splits.train.images.shape == (36, channels, 16, 16)
    assert splits.test.images.shape == (12, channels, 16, 16)
    assert splits.train.targets.bincount().tolist() == [12] * 3
    assert splits.fingerprint == read(pictures, channels=channels).fingerprint
    assert splits.fingerprint != read(pictures, side=15, channels=channels).fingerprint


def test_a_folder_without_a_test_part_is_split_by_seed(pictures):
    splits = read(pictures / "train")
    assert splits.train.targets.bincount().tolist() == [9] * 3
    assert splits.test.targets.bincount().tolist() == [3] * 3


def test_a_folder_without_a_test_part_needs_a_test_fraction(pictures):
    with pytest.raises(UserError, match=r"^test_fraction=null: set has no test split .* as 0\.2$"):
        read(pictures / "train", test_fraction=None)
    assert len(read(pictures, test_fraction=None).test) == 12


def test_folders_that_cannot_be_used_are_named(pictures, tmp_path):
    with pytest.raises(UserError, match=r"^root=.*nowhere: no such folder"):
        read(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no class folders"):
        read(tmp_path / "empty")
    root = shutil.copytree(pictures, tmp_path / "copy")
    shutil.rmtree(root / "test")
    with pytest.raises(UserError, match="has train/ but no test/"):
        read(root)
    for name in ("kuro 黒", "ridge"):
        shutil.rmtree(root / "train" / name)
    with pytest.raises(UserError, match="one class, flat"):
        read(root / "train")
    root = shutil.copytree(pictures, tmp_path / "second")
    for file in (root / "test" / "ridge").iterdir():
        file.unlink()
    with pytest.raises(UserError, match="no readable picture of ridge"):
        read(root)


def test_many_broken_pictures_are_refused_and_few_are_skipped_and_named(pictures, tmp_path):
    root = shutil.copytree(pictures, tmp_path / "copy")
    whole = (root / "train" / "flat" / "1.jpg").read_bytes()
    (root / "train" / "flat" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "train" / "flat" / "text.png").write_text("not a picture")
    (root / "test" / ".thumbnails").mkdir()
    with pytest.raises(
        UserError, match=r"2 of 38 pictures cannot be read: .*cut.jpg \(truncated\), .*text.png \(not a picture of"
    ):
        read(root)
    for index in range(170):
        shutil.copy(root / "train" / "flat" / "1.jpg", root / "train" / "ridge" / f"copy{index}.jpg")
    splits = read(root)
    assert len(splits.train) == 206
    assert splits.notes[0].startswith("2 of 208 pictures")
    assert "cut.jpg" in splits.notes[0]


def test_the_real_cifar10_copy_is_complete(cifar10):
    splits = read(cifar10, side=32)
    assert (len(splits.train), len(splits.test), len(splits.classes)) == (50_000, 10_000, 10)
    assert not splits.notes


def test_the_real_steel_pictures_are_grey(steel):
    splits = read(steel, side=64, channels=1)
    assert (len(splits.train), len(splits.test), len(splits.classes)) == (1440, 360, 6)


def test_streamed_pictures_equal_those_in_memory(pictures, tmp_path):
    kept, streamed = read(pictures), read(pictures, stream=True)
    assert isinstance(streamed.train, Streamed)
    assert (streamed.channels, streamed.side, streamed.train_bytes) == (kept.channels, kept.side, kept.train_bytes)
    indices = torch.tensor([3, 0, 35])
    for one, other in zip(kept.train[indices], streamed.train[indices], strict=True):
        assert torch.equal(one, other)
    torch.testing.assert_close(kept.moments, streamed.moments)  # fewer pictures than the sample: all are measured
    assert [pick.tolist() for pick in kept.picks(1)] == [pick.tolist() for pick in streamed.picks(1)]
    assert streamed.fingerprint == read(pictures, stream=True).fingerprint
    assert streamed.fingerprint != read(pictures, side=15, stream=True).fingerprint
    shutil.copytree(pictures, tmp_path / "copy")
    victim = tmp_path / "copy" / "train" / "flat" / "0.png"
    victim.write_bytes(victim.read_bytes()[:50])
    broken = read(tmp_path / "copy", stream=True)
    with pytest.raises(UserError, match=r"flat.0\.png: cannot be read as a picture \(.+\); mend it or take it away$"):
        broken.train[torch.arange(36)]


def test_a_batch_of_streamed_pictures_is_decoded_in_threads(tmp_path, monkeypatch):
    draw = np.random.default_rng(0)
    files = [tmp_path / f"{number}.png" for number in range(2)]
    for file in files:
        Image.fromarray(draw.integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(file)
    meeting = threading.Barrier(2, timeout=30)  # which one thread alone never leaves
    decode = Decoder.decode
    monkeypatch.setattr(Decoder, "decode", lambda own, file, out: meeting.wait() >= 0 and decode(own, file, out))
    images, _ = Streamed(files, torch.tensor([0, 1]), Decoder(128, 3))[torch.tensor([1, 0])]
    for file, image in zip(files, images.flip(0), strict=True):
        assert np.array_equal(image.permute(1, 2, 0), np.asarray(Image.open(file)))


def test_tiny_imagenet_is_read_as_its_archive_unpacks(tmp_path):
    """train/<class>/images/, val/images/ with a table, and a test/ without classes."""
    for number, name in enumerate(("n01", "n02")):
        (tmp_path / "train" / name / "images").mkdir(parents=True)
        for index in range(3):
            Image.new("RGB", (64, 64), (80 * number, 0, 10 * index)).save(
                tmp_path / "train" / name / "images" / f"{name}_{index}.JPEG"
            )
    for part in ("val", "test"):
        (tmp_path / part / "images").mkdir(parents=True)
    for index in range(4):
        Image.new("RGB", (64, 64), (80 * (index % 2), 0, 0)).save(tmp_path / "val" / "images" / f"val_{index}.JPEG")
    rows = [f"val_{index}.JPEG\tn0{index % 2 + 1}\t0\t0\t62\t62" for index in range(4)]
    (tmp_path / "val" / "val_annotations.txt").write_text("\n".join(rows) + "\n")
    splits = read(tmp_path, side=64)
    assert splits.classes == ["n01", "n02"]
    assert splits.test.targets.tolist() == [0, 1, 0, 1]
    assert (splits.test.images[:, 0, 0, 0] > 40).tolist() == [False, True, False, True]
    (tmp_path / "val" / "val_annotations.txt").write_text("\n".join([*rows, "", "val_9.JPEG\tn07\t0\t0\t62\t62"]))
    with pytest.raises(UserError, match=r"val/ has classes that train/ lacks: n07$"):
        read(tmp_path, side=64)


def test_a_val_folder_beside_test_is_the_validation_split(tmp_path):
    for part, level in (("train", 10), ("val", 20), ("test", 30)):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(level // 10):
                Image.new("L", (16, 16), level + index).save(tmp_path / part / name / f"{index}.png")
    splits = read(tmp_path)
    assert (len(splits.train), len(splits.test), len(splits.validation)) == (2, 6, 4)
    held = splits.held_out(0.1, 0)
    assert len(held.train) == 2  # all of them
    assert set(held.test.images[:, 0, 0, 0].tolist()) == {20, 21}
    Image.new("L", (16, 16), 99).save(tmp_path / "val" / "a" / "0.png")
    assert read(tmp_path).fingerprint != splits.fingerprint


def test_the_centre_keeps_proportions(tmp_path):
    wide = np.zeros((80, 160, 3), np.uint8)
    wide[10:70, 50:110] = 255  # inside the middle square of 70 pixels
    for part in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            Image.fromarray(wide).save(tmp_path / part / name / "wide.png")
    splits = folder_splits("set", tmp_path, Decoder(70, 3, centre=True), None, 0)
    assert len(splits.test) == 2  # val/ is the test split where there is no test/
    image = splits.train.images[0, 0]
    assert image.shape == (70, 70)
    assert image.min() == 0
    assert (image == 255).sum() == 60 * 60


def test_read_folder_passes_every_option_on(pictures, capfd):
    splits = read_folder(
        pictures / "train", 16, channels=1, centre=True, stream=True, test_fraction=0.5, seed=3, name="stripes"
    )
    expected = folder_splits("stripes", pictures / "train", Decoder(16, 1, True, True), 0.5, 3)
    assert splits.name == "stripes"
    assert splits.fingerprint == expected.fingerprint
    assert splits.test.files == expected.test.files
    assert splits.notes == ("near-duplicates were not looked for: the pictures are streamed",)
    assert read_folder(str(pictures)).train.shape == (3, 64, 64)
    assert capfd.readouterr() == ("", "")  # a library call prints nothing


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"image_size": 2}, r"^image_size=2: must lie between 4 and 1024$"),
        ({"channels": 2}, r"^channels=2: unknown; choose one of 1, 3, auto$"),
        ({"test_fraction": 1.5}, r"^test_fraction=1\.5: must lie between 0\.01 and 0\.9$"),
    ],
)
def test_read_folder_refuses_values_out_of_range(pictures, options, says):
    with pytest.raises(UserError, match=says):
        read_folder(pictures, **options)
