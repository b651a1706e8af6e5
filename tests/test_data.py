"""Reading pictures as people have them."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from infer.core.errors import UserError
from infer.data import Pictures, Splits, Streamed
from infer.data import duplicates as near
from infer.data import folders as sources
from infer.data.layout import Layout
from infer.data.pictures import stratified
from infer.methods import check
from infer.methods.selection import in_turn
from infer.pipeline import run as runs


def read(root, side=16, channels=3, test_fraction=0.25, stream=False):
    return sources.folder("set", root, Layout(side, channels, stream=stream), test_fraction, 0)


def test_digits_are_all_there_and_split_evenly():
    splits = sources.digits("digits", 0.2, 0)
    assert len(splits.train) + len(splits.test) == 1797
    assert splits.train.images.shape[1:] == (1, 8, 8)
    assert int(splits.train.images.max()) == 255
    share = splits.test.targets.bincount() / (splits.train.targets.bincount() + splits.test.targets.bincount())
    assert ((share - 0.2).abs() < 0.01).all()
    mean, std = splits.moments
    pixels = splits.train.images.double() / 255
    torch.testing.assert_close(mean, pixels.mean().float().view(1))
    torch.testing.assert_close(std, pixels.std(correction=0).float().view(1))


@pytest.mark.parametrize("channels", [1, 3])
def test_mixed_sizes_modes_and_names_become_one_shape(pictures, channels):
    splits = read(pictures, channels=channels)
    assert splits.classes == ["flat", "kuro 黒", "ridge"]
    assert splits.train.images.shape == (36, channels, 16, 16)
    assert splits.test.images.shape == (12, channels, 16, 16)
    assert splits.train.targets.bincount().tolist() == [12] * 3
    assert splits.fingerprint == read(pictures, channels=channels).fingerprint
    assert splits.fingerprint != read(pictures, side=15, channels=channels).fingerprint


def test_sixteen_bit_grey_is_scaled_and_exif_turned(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "test" / name).mkdir(parents=True)
        for part in ("train", "test"):
            Image.fromarray(np.full((8, 8), 257 * 100, np.uint16)).save(tmp_path / part / name / "deep.png")
    turned = np.zeros((8, 8, 3), np.uint8)
    turned[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(turned).save(tmp_path / "train" / "a" / "turned.png", exif=exif)
    images = read(tmp_path, side=8).train.images
    assert images[0].unique().tolist() == [100]
    assert images[1, :, 0].max() == 0
    assert images[1, :, 7].min() == 255


def test_a_picture_of_floats_is_unreadable_and_not_black(tmp_path):
    Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)).save(tmp_path / "float.tiff")
    assert not Layout(8, 1).decode(tmp_path / "float.tiff", torch.zeros(1, 8, 8, dtype=torch.uint8))


def test_a_folder_without_a_test_part_is_split_by_seed(pictures):
    splits = read(pictures / "train")
    assert splits.train.targets.bincount().tolist() == [9] * 3
    assert splits.test.targets.bincount().tolist() == [3] * 3


def test_picks_are_every_picture_of_the_class_once_and_of_the_seed(pictures):
    splits = read(pictures)
    for number, pick in enumerate(splits.picks(0)):
        assert pick.sort().values.tolist() == (splits.train.targets == number).nonzero().flatten().tolist()
    assert [p.tolist() for p in splits.picks(0)] != [p.tolist() for p in splits.picks(1)]


def copy(pictures, tmp_path):
    return shutil.copytree(pictures, tmp_path / "copy")


def test_folders_that_teach_nothing_are_named(pictures, tmp_path):
    with pytest.raises(UserError, match=r"dataset.root=.*nowhere: no such folder"):
        read(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no class folders"):
        read(tmp_path / "empty")
    root = copy(pictures, tmp_path)
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


def test_broken_pictures_are_refused_when_many_and_skipped_and_named_when_few(pictures, tmp_path):
    root = copy(pictures, tmp_path)
    whole = (root / "train" / "flat" / "1.jpg").read_bytes()
    (root / "train" / "flat" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "train" / "flat" / "text.png").write_text("not a picture")
    (root / "test" / ".thumbnails").mkdir()
    with pytest.raises(UserError, match=r"2 of 38 pictures cannot be read: .*cut.jpg, .*text.png"):
        read(root)
    for index in range(170):
        shutil.copy(root / "train" / "flat" / "1.jpg", root / "train" / "ridge" / f"copy{index}.jpg")
    splits = read(root)
    assert len(splits.train) == 206
    assert splits.notes[0].startswith("2 of 208 pictures")
    assert "cut.jpg" in splits.notes[0]


def test_chance_is_the_commonest_class():
    part = Pictures(torch.zeros(4, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1, 1, 1]))
    assert Splits("s", ["a", "b"], part, part).chance == 0.75


def test_a_download_that_fails_says_what_to_put_where(tmp_path, monkeypatch):
    import torchvision

    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets.utils, "_urlretrieve", unreachable)
    with pytest.raises(UserError, match=r"dataset=cifar10: CIFAR10 is not in .*dataset.root=<folder"):
        sources.torchvision_set("cifar10", "CIFAR10", tmp_path)


def test_the_real_cifar10_copy_is_whole(cifar10):
    splits = read(cifar10, side=32)
    assert (len(splits.train), len(splits.test), len(splits.classes)) == (50_000, 10_000, 10)
    assert not splits.notes


def test_the_real_steel_pictures_are_grey(steel):
    splits = read(steel, side=64, channels=1)
    assert (len(splits.train), len(splits.test), len(splits.classes)) == (1440, 360, 6)


def test_streamed_pictures_are_those_in_memory(pictures, tmp_path):
    kept, streamed = read(pictures), read(pictures, stream=True)
    assert isinstance(streamed.train, Streamed)
    assert (streamed.channels, streamed.side, streamed.train_bytes) == (kept.channels, kept.side, kept.train_bytes)
    indices = torch.tensor([3, 0, 35])
    for one, other in zip(kept.train[indices], streamed.train[indices], strict=True):
        assert torch.equal(one, other)
    torch.testing.assert_close(kept.moments, streamed.moments)  # fewer pictures than the sample: all
    assert [pick.tolist() for pick in kept.picks(1)] == [pick.tolist() for pick in streamed.picks(1)]
    assert streamed.fingerprint == read(pictures, stream=True).fingerprint
    assert streamed.fingerprint != read(pictures, side=15, stream=True).fingerprint
    shutil.copytree(pictures, tmp_path / "copy")
    victim = tmp_path / "copy" / "train" / "flat" / "0.png"
    victim.write_bytes(victim.read_bytes()[:50])
    broken = read(tmp_path / "copy", stream=True)
    with pytest.raises(UserError, match=r"flat.0\.png: cannot be read as a picture"):
        broken.train[torch.arange(36)]


def test_sets_that_outgrow_memory_are_streamed(pictures):
    assert not Layout(16, 3).streams(1000)
    assert Layout(4096, 3).streams(10**6)


def test_tiny_imagenet_as_its_archive_unpacks(tmp_path):
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


def test_a_val_folder_beside_test_is_for_choosing(tmp_path):
    for part, level in (("train", 10), ("val", 20), ("test", 30)):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(level // 10):
                Image.new("L", (16, 16), level + index).save(tmp_path / part / name / f"{index}.png")
    splits = read(tmp_path)
    assert (len(splits.train), len(splits.test), len(splits.validation)) == (2, 6, 4)
    chosen = splits.held_out(0.1, 0)
    assert len(chosen.train) == 2  # whole
    assert set(chosen.test.images[:, 0, 0, 0].tolist()) == {20, 21}
    Image.new("L", (16, 16), 99).save(tmp_path / "val" / "a" / "0.png")
    assert read(tmp_path).fingerprint != splits.fingerprint


def test_the_centre_keeps_proportions(tmp_path):
    wide = np.zeros((80, 160, 3), np.uint8)
    wide[10:70, 50:110] = 255  # inside the middle square of 70 pixels
    for part in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            Image.fromarray(wide).save(tmp_path / part / name / "wide.png")
    splits = sources.folder("set", tmp_path, Layout(70, 3, centre=True), None, 0)
    assert len(splits.test) == 2  # val/ serves where there is no test/
    image = splits.train.images[0, 0]
    assert image.shape == (70, 70)
    assert image.min() == 0
    assert (image == 255).sum() == 60 * 60


def test_naturals_are_a_round_of_every_class_then_in_turn_from_those_that_have_more():
    targets = torch.tensor([0] * 5 + [1] * 2 + [2] * 4)
    part = Pictures(torch.arange(11, dtype=torch.uint8).view(-1, 1, 1, 1), targets)
    data = Splits("s", ["a", "b", "c"], part, part)
    picks = [torch.tensor([4, 3, 2, 1, 0]), torch.tensor([5, 6]), torch.tensor([7, 8, 9, 10])]
    assert in_turn(picks, torch.ones(3))[:10].tolist() == [4, 5, 7, 3, 6, 8, 2, 9, 1, 10]
    sizes = torch.tensor([5.0, 2.0, 4.0])
    shared = in_turn(picks, sizes)
    assert shared[:3].tolist() == [4, 5, 7]  # never fewer than one of each
    assert sorted(shared.tolist()) == list(range(11))
    taken = [targets[shared[:count]].bincount(minlength=3) for count in (4, 6, 8, 11)]
    for count, own in zip((4, 6, 8, 11), taken, strict=True):
        assert (own - count * sizes / 11).abs().max() <= 1
    check(data, 11)
    with pytest.raises(UserError, match="asks for 12 train pictures, but there are 11"):
        check(data, 12)


def test_a_long_tail_is_of_the_train_pictures_alone():
    splits = sources.digits("digits", 0.2, 0)
    tailed = splits.long_tailed(50, 0)
    counts = tailed.train.targets.bincount()
    assert counts[0] == splits.train.targets.bincount()[0]
    assert counts[9] == round(int(splits.train.targets.bincount()[9]) / 50)
    assert (counts.diff() <= 0).all()
    assert torch.equal(tailed.test.images, splits.test.images)
    assert tailed.fingerprint == splits.long_tailed(50, 0).fingerprint != splits.long_tailed(50, 1).fingerprint
    assert (splits.long_tailed(1e6, 0).train.targets.bincount() >= 1).all()


def test_near_duplicates_stay_on_one_side(pictures, tmp_path):
    """Copies as another file type, resized or brighter, are found; a split keeps them with the picture they are of."""
    root = shutil.copytree(pictures / "train", tmp_path / "copy")
    for name in ("flat", "kuro 黒", "ridge"):
        for index in (0, 3, 6):
            picture = Image.open(root / name / f"{index}.png").convert("L")
            picture.save(root / name / f"{index}-again.webp", quality=90)
            picture.point(lambda level: min(255, int(level * 1.02))).save(root / name / f"{index}-bright.png")
    for seed in range(3):
        splits = sources.folder("set", root, Layout(32, 1), 0.25, seed)
        assert "27 pictures are near-duplicates of another, 9 sets of them" in splits.notes[0]
        both = torch.cat([splits.train.images, splits.test.images])
        groups = near.groups(both)
        train, test = groups[: len(splits.train)], groups[len(splits.train) :]
        assert not set(train.tolist()) & set(test.tolist())
        assert (splits.test.targets.bincount() >= 4).all()  # a quarter of 18 each, and what belongs to it
        held = splits.held_out(0.25, seed)
        kept, out = near.groups(torch.cat([held.train.images, held.test.images])).split(
            [len(held.train), len(held.test)]
        )
        assert not set(kept.tolist()) & set(out.tolist())


def test_a_class_of_one_picture_many_times_is_divided_and_named(pictures, tmp_path):
    root = shutil.copytree(pictures / "train", tmp_path / "copy")
    for index in range(12):
        for file in (root / "flat").glob(f"{index}.*"):
            file.unlink()
        shutil.copy(root / "ridge" / "0.png", root / "flat" / f"{index}.png")
    (root / "ridge" / "0.png").unlink()
    splits = read(root, side=32)
    assert splits.train.targets.bincount()[0] == 9
    assert splits.notes == (
        "12 pictures are near-duplicates of another, 1 sets of them; a split keeps each together",
        "1 sets of near-duplicates had to be divided, because a class had nothing else",
    )


def test_of_many_pictures_the_same_hash_counts(pictures, monkeypatch):
    images = read(pictures, side=32).train.images
    monkeypatch.setattr(near, "_MOST", 10)
    groups = near.groups(torch.cat([images, images[:5]]))
    assert torch.equal(groups[:5], groups[-5:])
    assert len(groups.unique()) == len(images)


def test_groups_neither_swamp_the_test_part_nor_empty_a_class():
    scene = torch.cat([torch.zeros(90), torch.arange(1, 11)]).long()  # ninety frames of one scene, and ten others
    _, test = stratified(torch.zeros(100).long(), 0.2, 0, scene)
    assert sorted(scene[test].tolist()) == list(range(1, 11))
    targets, groups = torch.tensor([0, 0, 1, 1, 1, 1]), torch.tensor([0, 1, 0, 1, 2, 3])  # the same picture, two labels
    for seed in range(50):
        train, test = stratified(targets, 0.5, seed, groups)
        assert set(targets[train].tolist()) == set(targets[test].tolist()) == {0, 1}


def test_jobs_read_the_same_data_once_unless_pictures_came_or_went(pictures, tmp_path, config, monkeypatch):
    root = copy(pictures, tmp_path)
    times = []
    folder = sources.folder
    monkeypatch.setattr(sources, "folder", lambda *words: times.append(1) or folder(*words))
    words = ["dataset=image_folder", f"dataset.root={root}", "recipe=cpu", "dataset.image_size=16"]
    first, again = (runs.read(config("distill", *words, f"seed={seed}").dataset) for seed in (0, 1))
    assert first is again
    other = runs.read(config("distill", *words, "dataset.channels=1").dataset)
    assert other.channels == 1
    (root / "train" / "flat" / "0.png").unlink()
    assert len(runs.read(config("distill", *words, "dataset.channels=1").dataset).train) == len(first.train) - 1
    assert len(times) == 3


def test_what_is_held_out_is_of_the_train_pictures():
    splits = sources.digits("digits", 0.2, 0)
    held = splits.held_out(0.25, 0)
    assert len(held.train) + len(held.test) == len(splits.train)
    assert torch.equal(held.train.targets.bincount() + held.test.targets.bincount(), splits.train.targets.bincount())
    assert all(torch.equal(a, b) for a, b in zip(held.moments, splits.moments, strict=True))
    known = {image.tobytes() for image in splits.test.images.numpy()}
    assert not known & {image.tobytes() for image in held.test.images.numpy()}
    assert held.fingerprint != splits.fingerprint
