"""Reading distilled files: the identity for whole ones, one line for all others."""

import json
import struct
import subprocess
import sys

import pytest
import torch
from distilled_sets import CLASSES, pool_set, views_set
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors

from infer.core.errors import UserError
from infer.distilled import DistilledSet, load


@pytest.mark.parametrize("make", [pool_set, views_set, lambda: views_set(smooth_noise=8)])
def test_saving_and_loading_is_the_identity(tmp_path, make):
    dataset = make()
    file = tmp_path / "d.safetensors"
    size = dataset.save(file)
    loaded = load(file)
    assert loaded.header == dataset.header
    assert loaded.coded == dataset.coded
    for name in ("naturals", "natural_targets", "compensators", "labels", "choices", "targets"):
        before, after = getattr(dataset, name), getattr(loaded, name)
        assert before is after is None or torch.equal(before, after)
    assert torch.equal(loaded[:][0], dataset[:][0])
    assert size == file.stat().st_size
    assert file.read_bytes() == dataset.to_bytes() == loaded.to_bytes()


def test_the_bytes_are_the_same_in_every_process(tmp_path):
    file = tmp_path / "d.safetensors"
    pool_set().save(file)
    code = (
        f"import hashlib; from infer.distilled import load; "
        f"print(hashlib.sha256(load({str(file)!r}).to_bytes()).hexdigest())"
    )
    digests = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(digests) == 1


def test_a_transform_can_be_given(tmp_path):
    pool_set().save(tmp_path / "d.safetensors")
    dataset = load(tmp_path / "d.safetensors", transform=lambda image: 255 - image)
    assert torch.equal(dataset[0][0], 255 - dataset.naturals[0])


def test_reading_needs_the_base_install_alone(tmp_path):
    """Reading and composing work without the packages of the extras."""
    views_set().save(tmp_path / "d.safetensors")
    blocked = [
        *("pytorch_lightning", "torchvision", "timm", "hydra", "omegaconf", "wandb", "optuna", "matplotlib"),
        *("scipy", "sklearn", "psutil", "rich", "filelock", "torchmetrics", "pyarrow"),
    ]
    code = f"""
import sys
sys.modules.update(dict.fromkeys({blocked!r}))
from infer.distilled import load
dataset = load({str(tmp_path / "d.safetensors")!r})
dataset.export({str(tmp_path / "out")!r})
print(len(dataset[:][0]))
import infer.distilled
try:
    infer.distilled.DistilledDataModule
except ValueError as error:
    print(error)
"""
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0] == "40"
    assert "infer-distillation[train]" in lines[1]


def write_version_1(file, dataset: DistilledSet) -> None:
    """Write the file byte by byte as version 1 did: no sheets, no mixed views."""
    header = {
        "classes": dataset.classes,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "labels": "static",
        "space": "logits",
        "temperature": 4.0,
        "compensators_per_round": 2,
        "label_bytes": 0,
        "step": 2,
        "version": 1,
        "provenance": {"seed": 0},
    }
    parts = {
        "labels": ("F16", dataset.labels),
        "compensators": ("I8", dataset.compensators),
        "naturals": ("U8", dataset.naturals),
        "targets": ("U8", dataset.natural_targets.to(torch.uint8)),
    }
    content, entries = b"", {"__metadata__": {"infer": json.dumps(header, sort_keys=True)}}
    for name, (dtype, tensor) in parts.items():
        piece = tensor.numpy().tobytes()
        offsets = [len(content), len(content) + len(piece)]
        entries[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        content += piece
    text = json.dumps(entries).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + content)


def test_a_file_of_version_1_is_read_and_saved_as_version_2(tmp_path):
    dataset = pool_set()
    write_version_1(tmp_path / "old.safetensors", dataset)
    loaded = load(tmp_path / "old.safetensors")
    assert torch.equal(loaded[:][0], dataset[:][0])
    assert torch.equal(loaded[:][1], dataset[:][1])
    assert loaded.header == dataset.header
    assert loaded.to_bytes() == dataset.to_bytes()


def changed(dataset: DistilledSet, change) -> bytes:
    """The file's bytes after ``change(tensors, header)``."""
    tensors = from_safetensors(dataset.to_bytes())
    header = json.loads(json.dumps(dataset.header.__dict__))
    change(tensors, header)
    return to_safetensors(tensors, {"infer": json.dumps(header)})


def refusal(file, dataset: DistilledSet, change) -> str:
    """The message for the changed file: one line that starts with the file."""
    file.write_bytes(changed(dataset, change))
    with pytest.raises(UserError) as error:
        load(file)
    assert str(error.value).startswith(f"{file}: ")
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{file}: ")


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("classes", "abc", "'abc': expected a list of distinct class names"),
        ("classes", ["a", "a", "b"], "['a', 'a', 'b']: expected a list of distinct class names"),
        ("classes", [], "[]: expected a list of distinct class names"),
        ("classes", [["a"], "b", "c"], "[['a'], 'b', 'c']: expected a list of distinct class names"),
        ("mean", [0.5, float("nan"), 0.5], "[0.5, nan, 0.5]: expected a list of finite numbers, one per channel"),
        ("std", [0.0] * 3, "[0.0, 0.0, 0.0]: expected a list of finite numbers above 0, one per channel"),
        ("std", [0.5], "[0.5]: expected as many numbers as mean=[0.5, 0.5, 0.5] has"),
        ("labels", "foo", "'foo': expected one of static, views, dynamic, hard"),
        ("space", ["logits"], "['logits']: expected one of logits, probabilities"),
        ("temperature", -1.0, "-1.0: expected a finite number above 0"),
        ("temperature", float("inf"), "inf: expected a finite number above 0"),
        ("temperature", 10**400, f"1{'0' * 59}...: expected a finite number above 0"),
        ("compensators_per_round", "2", "'2': expected a whole number of at least 0"),
        ("label_bytes", -1, "-1: expected a whole number of at least 0"),
        ("step", 0, "0: expected a whole number from 1 to 255"),
        ("step", True, "True: expected a whole number from 1 to 255"),
        ("sheets", [0], "[0]: expected a list of whole numbers of at least 1"),
        ("views", {}, "{}: expected null where labels=static"),
        ("version", "2", "'2': expected a whole number of at least 1"),
        ("provenance", "a\nb", r"'a\nb': expected a mapping"),
    ],
)
def test_a_wrong_header_field_is_named_with_its_value(tmp_path, field, value, expected):
    message = refusal(tmp_path / "bad", pool_set(), lambda tensors, header: header.update({field: value}))
    assert message == f"header field {field}={expected}"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("count", 0, "0: expected a whole number of at least 1"),
        ("pool", 1.0, "1.0: expected a whole number of at least 1"),
        ("seed", 2**64, f"{2**64}: expected a whole number from 0 to {2**64 - 1}"),
        ("crop", 5000, "5000: expected a whole number from 0 to 4096"),
        ("flip", 1, "1: expected true or false"),
        ("resized_crop", 2, "2: expected null or a number above 0, at most 1"),
        ("mixing", "cut", "'cut': expected one of mixup, cutmix, none"),
        ("candidates", 257, "257: expected a whole number from 1 to 256"),
        ("compensators", 257, "257: expected a whole number from 0 to 256"),
    ],
)
def test_a_wrong_field_of_the_mixed_views_is_named_with_its_value(tmp_path, name, value, expected):
    message = refusal(tmp_path / "bad", views_set(), lambda tensors, header: header["views"].update({name: value}))
    assert message == f"header field views.{name}={expected}"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t, h: h.update(version=3), "format version 3, this infer reads 1 to 2; update infer to read it"),
        (lambda t, h: h.pop("mean"), "its header is incomplete or foreign: mean"),
        (lambda t, h: h.update({"a\nb": 1}), r"its header is incomplete or foreign: 'a\nb'"),
        (lambda t, h: h.update(compensators_per_round=3), "4 compensators are no multiple of compensators_per_round=3"),
        (lambda t, h: h.update(compensators_per_round=0), "4 compensators are no multiple of compensators_per_round=0"),
        (lambda t, h: t.update(targets=t["targets"].to(torch.int8)), "tensor targets is I8 [7], expected U8 [any]"),
        (lambda t, h: t.update(views=torch.zeros(3)), "tensor 'views' does not belong to a file with labels=static"),
        (lambda t, h: h.update(classes=["a", "b"]), "tensor labels is F16 [19, 3], expected F16 [any, 2]"),
        (lambda t, h: t.pop("targets"), "it lacks the tensor targets"),
        (lambda t, h: t.pop("labels"), "it lacks the tensor labels"),
        (lambda t, h: h.update(labels="hard"), "tensor 'labels' does not belong to a file with labels=hard"),
        (
            lambda t, h: t.update(naturals=t["naturals"].float()),
            "tensor naturals is F32 [7, 3, 4, 4], expected U8 [any, 3, any, any]",
        ),
        (
            lambda t, h: t.update(compensators=t["compensators"][..., :2].contiguous()),
            "tensor naturals is U8 [7, 3, 4, 4], expected U8 [7, 3, 4, 2] by the other tensors",
        ),
        (lambda t, h: t.update(targets=t["targets"][:0]), "tensor targets is empty"),
        (lambda t, h: t.update(targets=t["targets"] + 9), "tensor targets has class number 11, there are 3 classes"),
        (lambda t, h: t.update(labels=t["labels"][:-1]), "18 labels for 19 images"),
        (lambda t, h: t.update(labels=t["labels"] * float("nan")), "tensor labels has numbers that are not finite"),
    ],
)
def test_an_inconsistent_file_is_refused(tmp_path, change, expected):
    assert refusal(tmp_path / "bad", pool_set(), change) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t, h: h.update(views=None), "header field views=None: expected a mapping where labels=views"),
        (lambda t, h: h["views"].pop("seed"), "its header field views is incomplete or foreign: seed"),
        (lambda t, h: h["views"].update(pool=20), "header field views.pool=20, but it holds 19 images"),
        (lambda t, h: h["views"].update(count=41), f"tensor labels is U8 [40, {CLASSES}], expected U8 [41, {CLASSES}]"),
        (lambda t, h: h["views"].update(candidates=1), "tensor 'choices' does not belong to a file with labels=views"),
        (lambda t, h: h["views"].update(candidates=16), "tensor choices is U8 [10], expected U8 [20]"),
        (lambda t, h: h["views"].update(candidates=3), "tensor choices has number 3, there are 3 candidates"),
        (lambda t, h: t["labels"][7].zero_(), "tensor labels has a label of zeros, which is no distribution"),
        (lambda t, h: h["sheets"].append(9), "tensor sheets is U8 [{}], expected U8 [{}]"),
        (lambda t, h: t["sheets"].zero_(), "its naturals cannot be decoded (cannot identify image file"),
        (lambda t, h: h.update(sheets=[*split(h["sheets"][0])]), "its naturals cannot be decoded (2 sheets for 7"),
    ],
)
def test_inconsistent_mixed_views_are_refused(tmp_path, change, expected):
    dataset = views_set()
    expected = expected.format(size := dataset.natural_bytes, size + 9)
    assert refusal(tmp_path / "bad", dataset, change).startswith(expected)


def split(size: int) -> tuple[int, int]:
    """Two sizes of the same sum."""
    return 1, size - 1


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_a_truncated_file_is_refused(tmp_path, kept):
    file = tmp_path / "cut.safetensors"
    file.write_bytes(pool_set().to_bytes()[:kept])
    with pytest.raises(UserError, match="not a whole distilled file"):
        load(file)


def test_a_missing_or_foreign_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such distilled file"):
        load(tmp_path / "nothing")
    for number, metadata in enumerate([None, {"infer": "[]"}, {"infer": "[" * 100_000}, {"infer": "{}"}]):
        file = tmp_path / f"foreign{number}"
        file.write_bytes(to_safetensors({"w": torch.zeros(3)}, metadata))
        with pytest.raises(UserError, match="no infer header"):
            load(file)


def test_a_header_of_terabytes_is_refused_before_anything_is_allocated(tmp_path):
    content = pool_set().to_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    header["naturals"]["shape"] = [10**9, 3, 512, 512]
    text = json.dumps(header).encode()
    (tmp_path / "huge").write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    with pytest.raises(UserError, match="not a whole distilled file"):
        load(tmp_path / "huge")
