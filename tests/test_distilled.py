"""The file: whole, checked, and composing on reading."""

import csv
import json
import struct
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors

import infer
from infer.distilled.dataset import DistilledSet, Header

CLASSES, TEACHERS, ROUNDS, SIDE = 3, 2, 2, 4


def distilled(extra: int = 1, labels: str = "static") -> DistilledSet:
    """Two rounds of three classes, two compensators each, and one extra natural of class 0."""
    generator = torch.Generator().manual_seed(0)
    count = ROUNDS * CLASSES + extra
    images = torch.randint(256, (count, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    targets = torch.tensor([*list(range(CLASSES)) * ROUNDS, 0])[:count]
    u = torch.randint(-127, 128, (ROUNDS * TEACHERS, 3, SIDE, SIDE), generator=generator, dtype=torch.int8)
    total = count + ROUNDS * TEACHERS * CLASSES
    soft = torch.randn(total, CLASSES, generator=generator).half() if labels == "static" else None
    header = Header(["a", "b", "ç"], [0.5] * 3, [0.25] * 3, labels, "logits", 4.0, TEACHERS, provenance={"seed": 0})
    return DistilledSet(images, targets, u, soft, header)


def test_composed_images_are_natural_plus_compensator_of_the_same_round():
    made = distilled()
    expected = []
    for u in range(ROUNDS * TEACHERS):
        for c in range(CLASSES):
            natural = (u // TEACHERS) * CLASSES + c
            levels = made.naturals[natural].int() + 2 * made.compensators[u].int()
            expected.append((levels.clamp(0, 255), int(made.targets[natural])))
    assert len(made) == 7 + len(expected) == 19
    images, _ = made[torch.arange(len(made))]
    assert torch.equal(images[:7], made.naturals)
    for index, (levels, target) in enumerate(expected):
        assert torch.equal(images[7 + index].int(), levels)
        assert int(made.classes_of(torch.tensor([7 + index]))) == target


def test_an_item_is_an_image_and_a_distribution():
    made = distilled()
    image, label = made[9]
    assert image.dtype == torch.uint8
    assert image.shape == (3, SIDE, SIDE)
    torch.testing.assert_close(label, (made.labels[9].float() / 4).softmax(-1))
    batch = next(iter(torch.utils.data.DataLoader(made, batch_size=5)))
    assert batch[0].shape == (5, 3, SIDE, SIDE)
    assert distilled(labels="hard")[8][1].tolist() == [0.0, 1.0, 0.0]


def test_saving_and_loading_is_the_identity_and_the_bytes_are_the_same_each_time(tmp_path):
    made = distilled()
    file = tmp_path / "d.safetensors"
    size = made.save(file)
    again = infer.load(file)
    assert again.header == made.header
    for name in ("naturals", "targets", "compensators", "labels"):
        assert torch.equal(getattr(again, name), getattr(made, name))
    code = f"import infer, hashlib; print(hashlib.sha256(infer.load({str(file)!r}).to_bytes()).hexdigest())"
    digests = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(digests) == 1
    assert size == file.stat().st_size == len(made.to_bytes())


def test_the_ledger_counts_every_byte_of_the_file(tmp_path):
    made = distilled()
    size = made.save(tmp_path / "d.safetensors")
    ledger = made.ledger(ipc=4, real=9600, file=size)
    image = 3 * SIDE * SIDE
    assert (ledger.natural, ledger.compensators) == (7 * image, 4 * image)
    assert ledger.labels == 7 + 19 * CLASSES * 2
    assert ledger.total == ledger.file == size
    assert ledger.budget == 4 * CLASSES * image
    assert ledger.header == 8 + struct.unpack("<Q", (tmp_path / "d.safetensors").read_bytes()[:8])[0]
    assert sum(t.numel() * t.element_size() for t in from_safetensors(made.to_bytes()).values()) == size - ledger.header


def test_teachers_that_a_consumer_needs_are_counted():
    made = distilled(labels="dynamic")
    made = replace(made, header=replace(made.header, label_bytes=1000))
    ledger = made.ledger(4, 0, len(made.to_bytes()))
    assert ledger.labels == 7 + 1000
    assert ledger.total == ledger.file + 1000


def test_export_writes_what_another_framework_can_read(tmp_path):
    made = distilled()
    made.export(tmp_path / "out")
    with (tmp_path / "out" / "labels.csv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == len(made)
    for index, row in enumerate(rows):
        image, label = made[index]
        assert torch.equal(
            torch.from_numpy(np.array(Image.open(tmp_path / "out" / row["file"]))).permute(2, 0, 1), image
        )
        assert [float(row[name]) for name in ("a", "b", "ç")] == pytest.approx(label.tolist(), rel=1e-4)
        assert row["kind"] == ("natural" if index < 7 else "composed")
    named = replace(made, header=replace(made.header, classes=["../up", "T-shirt/top", "T-shirt?top"]))
    named.export(tmp_path / "named")
    folders = sorted(entry.name for entry in (tmp_path / "named").iterdir() if entry.is_dir())
    assert folders == ["T-shirt_top-1", "T-shirt_top-2", "_up"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["named", "out"]
    with pytest.raises(infer.UserError, match="choose a folder"):
        made.export("/dev/null/out")


def damaged(made: DistilledSet, change) -> bytes:
    """The file's bytes after ``change(tensors, header)``."""
    tensors = from_safetensors(made.to_bytes())
    header = json.loads(json.dumps(made.header.__dict__))
    change(tensors, header)
    return to_safetensors(tensors, {"infer": json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t, h: h.update(version=3), "format version 3.*update infer"),
        (lambda t, h: h.update(version=1), "format version 1.*distil it anew"),
        (lambda t, h: h.pop("mean"), "incomplete or foreign: mean"),
        (lambda t, h: h.update(mosaic="avif"), "incomplete or foreign: mosaic"),
        (lambda t, h: h.update(compensators_per_round="2"), "out of range"),
        (lambda t, h: h.update(compensators_per_round=3), "do not fit"),
        (lambda t, h: h.update(classes="abc"), "out of range"),
        (lambda t, h: h.update(labels="foo"), "out of range"),
        (lambda t, h: t.update(targets=t["targets"].to(torch.int8)), "do not fit"),
        (lambda t, h: t.update(views=torch.zeros(3)), "do not fit"),
        (lambda t, h: h.update(std=[0.0] * 3), "out of range"),
        (lambda t, h: h.update(classes=["a", "b"]), "do not fit"),
        (lambda t, h: h.update(classes=["a", "b", "c", "d"]), "do not fit"),
        (lambda t, h: t.pop("targets"), "lacks the tensor targets"),
        (lambda t, h: t.update(naturals=t["naturals"].float()), "U8"),
        (lambda t, h: t.update(targets=t["targets"] + 9), "class number"),
        (lambda t, h: t.update(labels=t["labels"][:-1]), "18 labels for 19 images"),
        (lambda t, h: t.update(labels=t["labels"] * float("nan")), "finite"),
        (lambda t, h: t.pop("labels"), "do not fit"),
        (lambda t, h: t.update(compensators=t["compensators"][..., :2].contiguous()), "do not fit"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, change, says):
    file = tmp_path / "bad.safetensors"
    file.write_bytes(damaged(distilled(), change))
    with pytest.raises(infer.UserError, match=says) as error:
        infer.load(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_a_truncated_file_is_refused(tmp_path, kept):
    file = tmp_path / "cut.safetensors"
    file.write_bytes(distilled().to_bytes()[:kept])
    with pytest.raises(infer.UserError, match="not a whole distilled file"):
        infer.load(file)


def test_a_missing_or_foreign_file_is_refused(tmp_path):
    with pytest.raises(infer.UserError, match="no such distilled file"):
        infer.load(tmp_path / "nothing")
    (tmp_path / "foreign").write_bytes(to_safetensors({"w": torch.zeros(3)}))
    with pytest.raises(infer.UserError, match="no infer header"):
        infer.load(tmp_path / "foreign")


def test_a_header_that_promises_terabytes_is_refused_before_anything_is_allocated(tmp_path):
    content = distilled().to_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    header["naturals"]["shape"] = [10**9, 3, 512, 512]
    text = json.dumps(header).encode()
    (tmp_path / "huge").write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    with pytest.raises(infer.UserError, match="not a whole distilled file"):
        infer.load(tmp_path / "huge")


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """A real refusal by the kernel: the process may write no file beyond 4 kB."""
    file = tmp_path / "d.safetensors"
    distilled().save(file)
    before = file.read_bytes()
    code = f"""
import resource, torch, infer
from dataclasses import replace
made = infer.load({str(file)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    replace(made, naturals=torch.zeros(7, 3, 64, 64, dtype=torch.uint8)).save({str(file)!r})
except infer.UserError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "cannot be written" in said
    assert file.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["d.safetensors"]
