"""Reading distilled files: the identity for whole ones, one line for all others."""

import json
import struct
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from distilled_sets import CLASSES, pool_set, views_set
from safetensors import safe_open
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors

from infer.core import codec
from infer.core.errors import UserError
from infer.core.label_code import LabelCode
from infer.distilled import DistilledSet, Header, load
from infer.distilled.limits import check_memory


@pytest.mark.parametrize(
    "make",
    [
        pool_set,
        views_set,
        lambda: views_set(smooth_noise=8),
        lambda: views_set(41, label_bits=2),
        lambda: views_set(41, label_bits=4),
        lambda: views_set(41, label_bits=4, label_coding="lzma", drawn=50),
    ],
)
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


def test_labels_of_four_bits_take_half_of_the_bytes(tmp_path):
    whole, half = views_set(41), views_set(41, label_bits=4)
    labels, choices = 41 * CLASSES, 11  # two bits of each of 41 choices
    assert (whole.label_bytes, half.label_bytes) == (labels + choices, -(-labels // 2) + choices)
    assert half.labels.max() == 15
    half.save(tmp_path / "half.safetensors")
    with safe_open(tmp_path / "half.safetensors", framework="pt") as opened:
        first = int(opened.get_tensor("labels")[0])
    assert (first % 16, first // 16) == tuple(half.labels[0, :2].tolist())
    with pytest.raises(UserError, match="labels has 255, which takes more than label_bits=4"):
        replace(half, labels=whole.labels).save(tmp_path / "too-large.safetensors")


def test_compressed_labels_of_likely_classes_take_fewer_bytes(tmp_path):
    labels = torch.nn.functional.one_hot(torch.arange(4000) % 7 % CLASSES, CLASSES).to(torch.uint8) * 3
    plain, coded = (
        replace(views_set(4000, label_bits=2, label_coding=coding), labels=labels) for coding in ("none", "lzma")
    )
    choices = 1000
    assert plain.label_bytes == 4000 * CLASSES // 4 + choices
    assert choices < coded.label_bytes < choices + 100
    coded.save(tmp_path / "coded.safetensors")
    with safe_open(tmp_path / "coded.safetensors", framework="pt") as opened:
        assert len(opened.get_tensor("labels")) == coded.label_bytes - choices
    assert torch.equal(load(tmp_path / "coded.safetensors").labels, labels)


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


@pytest.mark.parametrize("make", [pool_set, views_set])
def test_a_file_that_changes_after_it_was_read_does_not_change_the_set(tmp_path, make):
    dataset = make()
    loaded = load_bytes(tmp_path / "d", dataset.to_bytes())
    with (tmp_path / "d").open("r+b") as file:
        file.write(b"\xff" * len(dataset.to_bytes()))
        file.truncate(10)
    assert torch.equal(loaded[:][0], dataset[:][0])
    assert torch.equal(loaded[:][1], dataset[:][1])


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
    header = json.loads(dataset.header.text)
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
        ("classes", "abc", "='abc': must be a valid list"),
        ("classes", ["a", "a", "b"], "=['a', 'a', 'b']: must be distinct names"),
        ("classes", [], "=[]: list should have at least 1 item after validation, not 0"),
        ("classes", [["a"], "b", "c"], "[0]=['a']: must be an instance of str"),
        ("mean", [0.5, float("nan"), 0.5], "[1]=nan: must be a finite number"),
        ("mean", [0.5, True, 0.5], "[1]=True: must be a valid number"),
        ("mean", [0.5, 1e30, 0.5], "[1]=1e+30: must be less than or equal to 10"),
        ("mean", [0.5, 0.5], "=[0.5, 0.5]: must have 1 or 3 numbers, one per channel"),
        ("std", [0.0] * 3, "[0]=0.0: must be greater than or equal to 0.000001"),
        ("std", [1e-320] * 3, "[0]=1e-320: must be greater than or equal to 0.000001"),
        ("std", [0.5], "=[0.5]: must have as many numbers as mean=[0.5, 0.5, 0.5]"),
        ("labels", "foo", "='foo': must match pattern '^(static|views|dynamic|hard)$'"),
        ("labels", "hard\n", "='hard\\n': must match pattern '^(static|views|dynamic|hard)$'"),
        ("space", ["logits"], "=['logits']: must be a valid string"),
        ("temperature", -1.0, "=-1.0: must be greater than or equal to 0.001"),
        ("temperature", 1e-320, "=1e-320: must be greater than or equal to 0.001"),
        ("temperature", float("inf"), "=inf: must be a finite number"),
        ("temperature", "4", "='4': must be a valid number"),
        ("temperature", 10**400, f"=1{'0' * 17}...{'0' * 19}: must be a valid number"),
        ("compensators_per_round", "2", "='2': must be a valid integer"),
        ("label_bytes", -1, "=-1: must be greater than or equal to 0"),
        ("step", 0, "=0: must be greater than or equal to 1"),
        ("step", True, "=True: must be a valid integer"),
        ("step", 2.0, "=2.0: must be a valid integer"),
        ("step", 1000, "=1000: must be less than or equal to 255"),
        ("step", 10**30, "=1000000000000000000000000000000: must be less than or equal to 255"),
        ("sheets", [0], "[0]=0: must be greater than or equal to 1"),
        ("sheets", [True] * 2047, "[0]=True: must be a valid integer"),
        ("views", {}, "={}: must be null where labels=static"),
        ("version", "2", "='2': must be a valid integer"),
        ("version", None, "=None: must be a valid integer"),
        ("version", True, "=True: must be a valid integer"),
        ("version", 0, "=0: must be greater than or equal to 1"),
        ("provenance", "a\nb", r"='a\nb': must be a valid dictionary"),
    ],
)
def test_a_wrong_header_field_is_named_with_its_value(tmp_path, field, value, expected):
    message = refusal(tmp_path / "bad", pool_set(), lambda tensors, header: header.update({field: value}))
    assert message == f"header field {field}{expected}"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("count", 0, "0: must be greater than or equal to 1"),
        ("count", True, "True: must be a valid integer"),
        ("pool", 1.0, "1.0: must be a valid integer"),
        ("seed", 2**64, f"{2**64}: must be less than or equal to {2**64 - 1}"),
        ("seed", None, "None: must be a valid integer"),
        ("crop", 4097, "4097: must be less than or equal to 4096"),
        ("crop", 5, "5: must be at most the image's side, 4"),
        ("flip", 1, "1: must be a valid boolean"),
        ("resized_crop", 2, "2: must be less than or equal to 1"),
        ("resized_crop", "x", "'x': must be a valid number"),
        ("mixing", "cut", "'cut': must match pattern '^(cutmix|mixup|none)$'"),
        ("candidates", 257, "257: must be less than or equal to 256"),
        ("compensators", 257, "257: must be less than or equal to 256"),
        ("label_bits", 6, "6: must be 2, 4 or 8"),
        ("label_coding", "zip", "'zip': must match pattern '^(none|lzma)$'"),
        ("drawn", 39, "39: must be at least views.count=40"),
    ],
)
def test_a_wrong_field_of_the_mixed_views_is_named_with_its_value(tmp_path, name, value, expected):
    message = refusal(tmp_path / "bad", views_set(), lambda tensors, header: header["views"].update({name: value}))
    assert message == f"header field views.{name}={expected}"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda coded: coded[:-20], "where 1,200 are expected"),
        (lambda coded: coded[:0], "0 entries where 1,200 are expected"),
        (lambda coded: b"\x7f" + coded, "Corrupt input data"),
        (lambda coded: LabelCode(3, 4, "lzma").pack(torch.ones(401, 3).byte()), "more entries where 1,200"),
        (
            lambda coded: LabelCode(3, 4, "lzma").pack(torch.ones(399, 3).byte()),
            "1,197 entries where 1,200",
        ),
    ],
)
def test_broken_compressed_labels_are_refused(tmp_path, change, expected):
    def changed(tensors, header):
        tensors["labels"] = torch.tensor(list(change(bytes(tensors["labels"].tolist()))), dtype=torch.uint8)

    message = refusal(tmp_path / "bad", views_set(400, label_bits=4, label_coding="lzma"), changed)
    assert message.startswith("tensor labels: ")
    assert expected in message


def test_fields_of_a_newer_writer_are_ignored(tmp_path):
    for make in (pool_set, views_set):
        file, dataset = tmp_path / "d.safetensors", make()

        def newer(tensors, header):
            header["a\nb"] = {"c": [1]}
            if header["views"]:
                header["views"]["d"] = None

        file.write_bytes(changed(dataset, newer))
        loaded = load(file)
        assert torch.equal(loaded[:][0], dataset[:][0])
        assert torch.equal(loaded[:][1], dataset[:][1])
        assert load_bytes(tmp_path / "again", loaded.to_bytes()).header == loaded.header


def load_bytes(file, content: bytes) -> DistilledSet:
    file.write_bytes(content)
    return load(file)


@pytest.mark.parametrize(
    "value", [{}, {"files": 5}, {"a": [None, True, 1e300, float("nan")]}, {"\ud800": "\udcff"}, {"x": [[[{}]]] * 99}]
)
@pytest.mark.parametrize("labels", ["static", "dynamic"])
def test_the_provenance_is_any_object(tmp_path, value, labels):
    file, dataset = tmp_path / "d.safetensors", pool_set(labels=labels)
    file.write_bytes(changed(dataset, lambda tensors, header: header.update(provenance=value)))
    loaded = load(file)
    assert repr(loaded.header.provenance) == repr(value)
    assert torch.equal(loaded[:][0], dataset[:][0])
    loaded.export(tmp_path / "out")
    loaded.save(file)
    assert repr(load(file).header.provenance) == repr(value)


def test_the_largest_step_fits_the_composed_images(tmp_path):
    dataset = pool_set()
    compensators = torch.where(dataset.compensators < 0, -128, 127).to(torch.int8)
    dataset = replace(dataset, compensators=compensators, header=replace(dataset.header, step=255))
    dataset.save(tmp_path / "d.safetensors")
    images = load(tmp_path / "d.safetensors")[7:][0]
    assert torch.equal(images == 255, (compensators > 0)[dataset.pairs[:, 1]])
    assert torch.equal(images == 0, (compensators < 0)[dataset.pairs[:, 1]])


@pytest.mark.parametrize("space", ["logits", "probabilities"])
def test_labels_of_probabilities_are_distributions(tmp_path, space):
    """Rounded to float16, for few classes and for many."""
    for classes, scale in ((3, 1.0), (1000, 0.01), (20_000, 0.1), (1000, 20.0)):
        soft = (torch.randn(2, classes, generator=torch.Generator().manual_seed(0)) * scale).softmax(dim=1)
        header = Header([str(n) for n in range(classes)], [0.5], [0.5], "static", space, 1.0, 0)
        naturals = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
        dataset = DistilledSet(naturals, torch.tensor([0, 1]), naturals[:0].to(torch.int8), soft.half(), header)
        file = tmp_path / "d.safetensors"
        assert torch.equal(load_bytes(file, dataset.to_bytes()).labels, soft.half())
        for wrong in (soft * 1.1, soft * 0.9, soft - 2 * soft.amax(dim=1, keepdim=True), soft * 0):
            content = replace(dataset, labels=wrong.half()).to_bytes()
            if space == "logits":
                assert torch.equal(load_bytes(file, content).labels, wrong.half())
            else:
                with pytest.raises(UserError, match=r"tensor labels has row 0 of sum .* expected a distribution"):
                    load_bytes(file, content)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t, h: h.update(version=3), "format version 3, this infer reads 1 to 2; update infer to read it"),
        (lambda t, h: h.update(version=10**30), f"format version {10**30}, this infer reads 1 to 2; update infer to"),
        (lambda t, h: h.pop("mean"), "its header lacks the field mean; copy it again or distil again"),
        (lambda t, h: h.pop("step"), "its header lacks the field step; copy it again or distil again"),
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
    assert refusal(tmp_path / "bad", pool_set(), change).startswith(expected)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t, h: h.update(views=None), "header field views=None: must be an object where labels=views"),
        (lambda t, h: h["views"].pop("seed"), "header field views.seed: field required"),
        (lambda t, h: h["views"].update(pool=20), "header field views.pool=20, but it holds 19 images"),
        (lambda t, h: h["views"].update(count=41), f"tensor labels is U8 [40, {CLASSES}], expected U8 [41, {CLASSES}]"),
        (lambda t, h: h["views"].update(candidates=1), "tensor 'choices' does not belong to a file with labels=views"),
        (lambda t, h: h["views"].update(candidates=16), "tensor choices is U8 [10], expected U8 [20]"),
        (lambda t, h: h["views"].update(candidates=3), "tensor choices has number 3, there are 3 candidates"),
        (lambda t, h: t["labels"][7].zero_(), "tensor labels has a label of zeros, which is no distribution"),
        (lambda t, h: h["sheets"].append(9), "tensor sheets is U8 [{}], expected U8 [{}]"),
        (lambda t, h: t["sheets"].zero_(), "its naturals cannot be decoded (sheet 0: not a picture"),
        (
            lambda t, h: h.update(sheets=[*split(h["sheets"][0])]),
            "header field sheets has 2 sheets, expected 1 for 7 images",
        ),
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
    texts = ["", "[]", "[" * 100_000, '{"a":' * 100_000, "{}", "1", '"1"', "null", "9" * 5000, "{", '{"version": NaN']
    for number, metadata in enumerate([None, *({"infer": text} for text in texts)]):
        file = tmp_path / f"foreign{number}"
        file.write_bytes(to_safetensors({"w": torch.zeros(3)}, metadata))
        with pytest.raises(UserError, match="no infer header") as error:
            load(file)
        assert len(str(error.value).removeprefix(str(file))) < 250


def test_a_header_of_terabytes_is_refused_before_anything_is_allocated(tmp_path):
    content = pool_set().to_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    header["naturals"]["shape"] = [10**9, 3, 512, 512]
    text = json.dumps(header).encode()
    (tmp_path / "huge").write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    with pytest.raises(UserError, match="not a whole distilled file"):
        load(tmp_path / "huge")


def test_a_header_of_many_megabytes_is_not_parsed(tmp_path):
    dataset = pool_set()
    large = replace(dataset, header=replace(dataset.header, provenance={"text": "x" * 2**24}))
    with pytest.raises(UserError, match=r"not a whole distilled file .*a header of 16,7"):
        load_bytes(tmp_path / "long", large.to_bytes())


def hard_set(naturals: torch.Tensor, targets: torch.Tensor, compensators: int, per_round: int) -> DistilledSet:
    """A set of two classes without labels."""
    header = Header(["a", "b"], [0.5], [0.5], "hard", "probabilities", 1.0, per_round)
    u = torch.zeros(compensators, *naturals.shape[1:], dtype=torch.int8)
    return DistilledSet(naturals, targets, u, None, header)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is read from /proc")
def test_many_images_and_compensators_take_memory_of_their_composed_images_alone(tmp_path):
    """100,000 of each have 10 GB of possible pairs, and 100,000 real ones."""
    count = 100_000
    hard_set(torch.zeros(count, 1, 1, 1, dtype=torch.uint8), torch.zeros(count), count, 1).save(tmp_path / "d")
    code = f"""
from pathlib import Path
from infer.distilled import load
import infer.distilled.dataset
peak = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
before = peak()
dataset = load({str(tmp_path / "d")!r})
print(dataset.pairs[-1].tolist(), len(dataset))
print(peak() - before)
"""
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.split(b"\n")
    assert lines[0] == b"[99999, 99999] 200000"
    assert int(lines[1]) < 100 * 1024  # kilobytes


def flat_sheets_set(sheets: int) -> DistilledSet:
    """White images of 4096 x 4096, each a sheet of 30 kB."""
    sheet = codec.encode(torch.full((1, 3, 4096, 4096), 255, dtype=torch.uint8), "webp", 1)[0]
    header = Header(["a"], [0.5] * 3, [0.5] * 3, "hard", "probabilities", 1.0, 0)
    naturals = torch.empty(1, 3, 4096, 4096, dtype=torch.uint8).expand(sheets, -1, -1, -1)
    return DistilledSet(
        naturals, torch.zeros(sheets), torch.empty(0, 3, 4096, 4096, dtype=torch.int8), None, header, (sheet,) * sheets
    )


def test_the_memory_of_a_file_is_limited_before_it_is_decoded(tmp_path, monkeypatch):
    flat_sheets_set(120).save(tmp_path / "bomb")
    monkeypatch.setattr(codec, "decode", lambda *arguments: pytest.fail("decoded"))
    with pytest.raises(
        UserError, match=r"takes 6,\d{3},\d{3},\d{3} bytes of memory, more than max_bytes=4,294,967,296"
    ):
        load(tmp_path / "bomb")
    monkeypatch.undo()
    flat_sheets_set(2).save(tmp_path / "two")
    with pytest.raises(UserError, match="max_bytes=100,000,000"):
        load(tmp_path / "two", max_bytes=10**8)
    assert load(tmp_path / "two", max_bytes=7 * 10**8)[1][0].shape == (3, 4096, 4096)


def test_composed_images_count_as_memory(tmp_path):
    """Two images of one round with 100,000 compensators make 200,000 composed images of no byte."""
    naturals = torch.zeros(2, 1, 1, 1, dtype=torch.uint8)
    hard_set(naturals, torch.tensor([0, 1]), 10**5, 10**5).save(tmp_path / "d")
    with pytest.raises(UserError, match="more than max_bytes=1,000,000"):
        load(tmp_path / "d", max_bytes=10**6)
    assert len(load(tmp_path / "d")) == 2 + 2 * 10**5


def test_large_sets_of_compressed_images_have_a_larger_limit(tmp_path):
    file = tmp_path / "file"
    with file.open("wb") as opened:
        opened.truncate(2**30)  # takes no space
    check_memory(file, 32 * 2**30, None)
    with pytest.raises(UserError, match="takes 34,359,738,369 bytes"):
        check_memory(file, 32 * 2**30 + 1, None)


def test_views_times_candidates_are_limited(tmp_path):
    dataset = views_set()
    count = 400_000
    header = replace(dataset.header, views={**dataset.header.views, "count": count, "candidates": 256})
    labels, choices = torch.ones(count, CLASSES, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64)
    many = replace(dataset, header=header, labels=labels, choices=choices)
    with pytest.raises(UserError, match="400,000 views of 256 candidates, expected at most 100,000,000"):
        load_bytes(tmp_path / "d", many.to_bytes())


def test_smooth_noise_counts_as_memory(tmp_path):
    """256 noise images of 4096 x 4096 take 26 GB."""
    sheets = flat_sheets_set(1)
    views = {**views_set(smooth_noise=256).header.views, "pool": 1, "count": 1, "candidates": 1}
    header = replace(sheets.header, labels="views", views=views)
    replace(sheets, header=header, labels=torch.ones(1, 1, dtype=torch.uint8)).save(tmp_path / "d")
    with pytest.raises(UserError, match=r"takes 26,\d{3},\d{3},\d{3} bytes of memory"):
        load(tmp_path / "d")


def test_a_sheet_too_few_or_too_many_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(codec, "_SIDE", 8)
    naturals = torch.randint(256, (8, 1, 4, 4), dtype=torch.uint8)
    dataset = replace(hard_set(naturals, torch.arange(8) % 2, 0, 0), coded=tuple(codec.encode(naturals, "webp", 90)))
    assert len(load_bytes(tmp_path / "d", dataset.to_bytes())) == 8
    for coded in (dataset.coded[:1], (*dataset.coded, dataset.coded[0])):
        with pytest.raises(UserError, match=rf"header field sheets has {len(coded)} sheets, expected 2 for 8 images"):
            load_bytes(tmp_path / "d", replace(dataset, coded=coded).to_bytes())


@pytest.mark.parametrize("name", codec.CODECS)
def test_a_damaged_sheet_is_one_line_that_names_the_file(tmp_path, name):
    dataset = views_set()
    sheets = codec.encode(dataset.naturals, name, 50)
    for position in range(0, len(sheets[0]), 7):
        damaged = bytearray(sheets[0])
        damaged[position] ^= 1 << position % 8
        coded = replace(dataset, coded=(bytes(damaged),))
        try:
            assert len(load_bytes(tmp_path / "d", coded.to_bytes())[:][0]) == 40
        except UserError as error:
            message = str(error)
            assert message.startswith(f"{tmp_path / 'd'}: its naturals cannot be decoded (sheet 0: ")
