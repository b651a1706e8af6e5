"""The distilled set as a PyTorch dataset: composition, indexing, batches, bytes."""

import struct
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from distilled_sets import CLASSES, ROUNDS, SIDE, TEACHERS, pool_set, views_set
from safetensors.torch import load as from_safetensors
from torch.utils.data import DataLoader, Subset

from infer.core.errors import UserError
from infer.distilled import DistilledSet, Header, load

SETS = [pool_set, views_set, lambda: views_set(mixing="mixup", smooth_noise=8), lambda: pool_set(labels="hard")]


def test_composed_images_are_natural_plus_compensator_of_the_same_round():
    dataset = pool_set()
    expected = []
    for u in range(ROUNDS * TEACHERS):
        for c in range(CLASSES):
            natural = (u // TEACHERS) * CLASSES + c
            levels = dataset.naturals[natural].int() + 2 * dataset.compensators[u].int()
            expected.append((levels.clamp(0, 255), int(dataset.natural_targets[natural])))
    assert len(dataset) == 7 + len(expected) == 19
    images, _ = dataset[torch.arange(len(dataset))]
    assert torch.equal(images[:7], dataset.naturals)
    for index, (levels, target) in enumerate(expected):
        assert torch.equal(images[7 + index].int(), levels)
        assert int(dataset.targets[7 + index]) == target


def test_an_item_is_an_image_and_a_distribution():
    dataset = pool_set()
    image, label = dataset[9]
    assert image.dtype == torch.uint8
    assert image.shape == (3, SIDE, SIDE)
    torch.testing.assert_close(label, (dataset.labels[9].float() / 4).softmax(-1))
    assert pool_set(labels="hard")[8][1].tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("make", SETS)
def test_a_batch_equals_its_items(make):
    dataset = make()
    images, labels = dataset[:]
    assert len(images) == len(labels) == len(dataset.targets) == len(dataset)
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(len(dataset)))
    for index, (image, label) in enumerate(dataset):  # ends by IndexError
        assert torch.equal(image, images[index])
        assert torch.equal(label, labels[index])
    assert index == len(dataset) - 1
    for (image, label), index in zip(dataset.__getitems__([5, 0, 5]), [5, 0, 5], strict=True):
        assert torch.equal(image, images[index])
        assert torch.equal(label, labels[index])


def test_indices_are_those_of_a_sequence():
    dataset = pool_set()
    images, _ = dataset[:]
    for index in (slice(2, 5), slice(None, None, -4), slice(5, 2)):
        numbers = list(range(len(dataset)))[index]
        assert torch.equal(dataset[index][0], images[numbers])
    for index in ([3, -1], torch.tensor([3, -1]), (3, -1)):
        assert torch.equal(dataset[index][0], images[[3, 18]])
    for index in (-1, torch.tensor(-1)):
        assert torch.equal(dataset[index][0], images[18])
    assert dataset[[]][0].shape == (0, 3, SIDE, SIDE)
    for index in (19, -20, [0, 19], torch.tensor([19])):
        with pytest.raises(IndexError, match="out of range for 19 items"):
            dataset[index]
    for index in (1.5, [True, False], [[0, 1]]):
        with pytest.raises(TypeError, match="expected an int, a slice"):
            dataset[index]


def test_a_data_loader_composes_each_batch_at_once(monkeypatch):
    sizes = []
    images = DistilledSet.images

    def counted(self, indices):
        sizes.append(len(indices))
        return images(self, indices)

    monkeypatch.setattr(DistilledSet, "images", counted)
    dataset = views_set()
    batches = list(DataLoader(dataset, batch_size=8))
    assert sizes == [8] * 5
    assert torch.equal(torch.cat([batch for batch, _ in batches]), dataset[:][0])
    sizes.clear()
    list(DataLoader(Subset(dataset, range(16)), batch_size=8))
    assert sizes == [8, 8]


def test_a_transform_reaches_indexing_only():
    dataset = views_set()
    flipped = dataset.with_transform(lambda image: image.flip(-1))
    images, labels = dataset[:]
    assert torch.equal(flipped[3][0], images[3].flip(-1))
    assert torch.equal(flipped[:][0], images.flip(-1))
    assert torch.equal(flipped[:][1], labels)
    assert torch.equal(next(iter(DataLoader(flipped, batch_size=4)))[0], images[:4].flip(-1))
    assert torch.equal(flipped.images(torch.arange(len(dataset))), images)
    assert torch.equal(flipped.with_transform(None)[3][0], images[3])
    assert dataset.with_transform(lambda image: "anything")[0][0] == "anything"
    assert dataset.with_transform(lambda image: "anything")[:2][0] == ["anything", "anything"]


def test_attributes_of_the_set():
    dataset = pool_set()
    assert dataset.classes == ["a", "b", "ç"]
    assert dataset.temperature == 4.0
    assert dataset.mean.dtype == dataset.std.dtype == torch.float32
    expected = (dataset.naturals / 255 - 0.5) / 0.25
    torch.testing.assert_close(dataset.normalise(dataset.naturals), expected)
    torch.testing.assert_close(dataset.normalise(dataset.naturals[0]), expected[0])
    assert repr(dataset) == "DistilledSet(7 natural and 12 composed images, 3 classes, 3 x 4 x 4, 649 bytes)"
    assert repr(views_set()).startswith("DistilledSet(40 mixed views of 19 images, 3 classes, 3 x 4 x 4, ")
    assert {dataset: 1}[dataset] == 1  # samplers and loggers hash datasets


def test_the_class_of_a_mixed_view_is_that_of_its_first_image():
    dataset = views_set()
    pool = pool_set().targets
    assert torch.equal(dataset.targets, pool[dataset.mixed_views.draws(dataset.choices).first])


def test_the_ledger_counts_every_byte_of_the_file(tmp_path):
    dataset = pool_set()
    size = dataset.save(tmp_path / "d.safetensors")
    ledger = dataset.ledger(ipc=4, real=9600, file=size)
    image = 3 * SIDE * SIDE
    assert (ledger.natural, ledger.compensators) == (7 * image, 4 * image)
    assert ledger.labels == 7 + 19 * CLASSES * 2
    assert ledger.total == ledger.file == size
    assert ledger.budget == 4 * CLASSES * image
    assert ledger.header == 8 + struct.unpack("<Q", (tmp_path / "d.safetensors").read_bytes()[:8])[0]
    tensors = from_safetensors(dataset.to_bytes())
    assert sum(tensor.nbytes for tensor in tensors.values()) == size - ledger.header


def test_the_ledger_counts_sheets_and_choices():
    dataset = views_set()
    tensors = from_safetensors(dataset.to_bytes())
    assert dataset.payload == sum(tensor.nbytes for tensor in tensors.values())
    assert dataset.label_bytes == 40 * CLASSES + 40 * 2 // 8
    assert dataset.natural_bytes == sum(map(len, dataset.coded)) == tensors["sheets"].numel()


def test_teachers_that_dynamic_labels_need_are_counted():
    dataset = pool_set(labels="dynamic")
    dataset = replace(dataset, header=replace(dataset.header, label_bytes=1000))
    ledger = dataset.ledger(4, 0, len(dataset.to_bytes()))
    assert ledger.labels == 7 + 1000
    assert ledger.total == ledger.file + 1000


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"header": {"classes": ["a", "a", "b"]}}, "header field classes=['a', 'a', 'b']: must be distinct names"),
        ({"header": {"classes": [1, 2, 3]}}, "header field classes[0]=1: must be an instance of str"),
        (
            {"header": {"classes": [str(number) for number in range(2**16 + 1)]}},
            "header field classes=['0', '1', '2', '3', '4', '5', ...]: list should have at most 65536 items",
        ),
        ({"header": {"temperature": float("nan")}}, "header field temperature=nan: must be a finite number"),
        ({"header": {"step": 256}}, "header field step=256: must be less than or equal to 255"),
        ({"header": {"mean": [0.5] * 2}}, "header field mean=[0.5, 0.5]: must have 1 or 3 numbers"),
        ({"header": {"labels": "hard"}}, "tensor 'labels' does not belong to a file with labels=hard"),
        ({"natural_targets": torch.tensor([0, 1, 2, 0, 1, 2, 3])}, "tensor targets has class number 3, there are 3"),
        ({"natural_targets": torch.tensor([0, 1, 2, 0, 1, 2, -1])}, "tensor targets has class number -1, there are 3"),
        ({"labels": torch.full((19, 3), float("nan")).half()}, "tensor labels has numbers that are not finite"),
        ({"labels": torch.zeros(19, 3)}, "tensor labels is torch.float32 [19, 3], expected F16 [any, 3]"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_set_that_could_not_be_read_is_not_written(tmp_path, changes, expected):
    dataset = pool_set()
    header = replace(dataset.header, **changes.pop("header", {}))
    with pytest.raises(UserError) as error:
        replace(dataset, header=header, **changes).save(tmp_path / "d.safetensors")
    assert str(error.value).startswith(f"{tmp_path / 'd.safetensors'}: {expected}")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_crop_beyond_the_images_and_a_header_that_is_no_json_are_not_written(tmp_path):
    dataset = views_set()
    header = replace(dataset.header, views={**dataset.header.views, "crop": SIDE + 1})
    with pytest.raises(
        UserError, match=rf"header field views\.crop={SIDE + 1}: must be at most the image's side, {SIDE}"
    ):
        replace(dataset, header=header).save(tmp_path / "d.safetensors")
    header = replace(dataset.header, provenance={"seed": torch.tensor(0)})
    with pytest.raises(UserError, match=r"^header: is no JSON .* give texts, numbers, lists and mappings$"):
        replace(dataset, header=header).save(tmp_path / "d.safetensors")
    assert not list(tmp_path.iterdir())


def test_as_many_classes_as_16_bits_number_are_written_and_read(tmp_path):
    classes = [str(number) for number in range(2**16)]
    naturals, none = torch.zeros(2, 1, 1, 1, dtype=torch.uint8), torch.empty(0, 1, 1, 1, dtype=torch.int8)
    header = Header(classes, [0.5], [0.25], "hard", "probabilities", 1.0, 0)
    dataset = DistilledSet(naturals, torch.tensor([0, 2**16 - 1]), none, None, header)
    dataset.save(tmp_path / "d.safetensors")
    loaded = load(tmp_path / "d.safetensors")
    assert (loaded.classes, loaded.targets.tolist()) == (classes, [0, 65535])
    with pytest.raises(UserError, match="more than max_bytes=1,000,000"):  # a batch of labels: 2 x 65,536
        load(tmp_path / "d.safetensors", max_bytes=10**6)


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """The kernel itself refuses: the process may write no file beyond 4 kB."""
    file = tmp_path / "d.safetensors"
    pool_set().save(file)
    before = file.read_bytes()
    code = f"""
import resource, torch
from dataclasses import replace
from infer.core.errors import UserError
from infer.distilled import load
dataset = load({str(file)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    naturals, compensators = torch.zeros(7, 3, 64, 64, dtype=torch.uint8), torch.zeros(4, 3, 64, 64, dtype=torch.int8)
    replace(dataset, naturals=naturals, compensators=compensators).save({str(file)!r})
except UserError as error:
    print(error)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "cannot be written" in printed
    assert file.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["d.safetensors"]
    assert torch.equal(load(file).naturals, pool_set().naturals)
