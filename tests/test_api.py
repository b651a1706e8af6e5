"""The public API as a caller uses it: from arrays to an evaluated student, with the optional libraries blocked."""

import dataclasses
import inspect
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT

import infer
from infer.distilled import Header

BLOCKED = ("hydra", "omegaconf", "wandb", "optuna", "matplotlib", "tensorboard")

RUN_BLOCKED = f"""
import importlib.metadata, runpy, sys

blocked = {BLOCKED}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)

def from_name(cls, name, find=importlib.metadata.Distribution.from_name.__func__):
    if name.replace("-core", "").lower() in blocked:  # torchmetrics asks for matplotlib's version, then imports it
        raise importlib.metadata.PackageNotFoundError(name)
    return find(cls, name)

importlib.metadata.Distribution.from_name = classmethod(from_name)
sys.meta_path.insert(0, Blocker())
sys.path.insert(0, {str(ROOT)!r})
runpy.run_path({str(ROOT / "examples" / "from_python.py")!r}, run_name="__main__")
"""


def test_the_example_runs_without_the_optional_libraries(tmp_path):
    """Arrays -> teachers -> both methods -> save -> load -> student -> scores; chance is 10 %."""
    done = subprocess.run(
        [sys.executable, "-c", RUN_BLOCKED], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["infer", "infer_plus"]
    for line in lines:
        assert float(re.search(r"-> ([\d.]+) %", line)[1]) > 85
    assert {path.name for path in tmp_path.iterdir()} == {"digits-infer.safetensors", "digits-infer_plus.safetensors"}


def test_every_public_name_is_documented():
    for name in set(infer.__all__) - {"__version__"}:
        found = getattr(infer, name)
        text = inspect.getdoc(found)
        assert text, name
        if inspect.isfunction(found):
            for section in ("Args:", "Returns:", "Example:"):
                assert section in text, f"{name} lacks {section}"


@pytest.fixture(scope="module")
def data() -> infer.Splits:
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (80, 1, 8, 8), dtype=np.uint8), np.arange(80) % 4
    return infer.Splits.from_arrays(images[:60], labels[:60], images[60:], labels[60:])


@pytest.fixture(scope="module")
def teachers(data) -> list[torch.nn.Module]:
    return infer.train_teachers(data, ["convnet_narrow"], epochs=1)


def test_teachers_are_frozen_modules_of_pixel_levels(data, teachers):
    (teacher,) = teachers
    assert isinstance(teacher, torch.nn.Module)
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert teacher(data.test.images).shape == (20, 4)
    scores = infer.evaluate(teacher, data.test)
    right = (teacher(data.test.images).argmax(1) == data.test.targets).float().mean().item()
    assert scores.accuracy == pytest.approx(right)
    assert len(scores.recall) == 4


def test_own_networks_serve_as_teachers_and_stay_as_they_are(data):
    torch.manual_seed(0)
    own = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(288, 4)
    )
    own.train()
    options = infer.SetOptions.of_method("infer", ufc=infer.UFCOptions(steps=2), augment=infer.AugmentOptions(crop=1))
    small = infer.distill(data, [own], ipc=3, options=options)
    assert len(small.compensators) == 2  # K = floor(3 * 4 / (4 + 1)) rounds, a compensator each
    assert len(small) == 2 * 4 * 2
    assert own.training
    assert all(parameter.requires_grad for parameter in own.parameters())


def test_the_same_seed_gives_the_same_set_and_leaves_torchs_generator_alone(data, teachers):
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, second = (infer.distill(data, teachers, ipc=3, method="random", seed=1) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.to_bytes() == second.to_bytes()
    other = infer.distill(data, teachers, ipc=3, method="random", seed=2)
    assert not torch.equal(first.naturals, other.naturals)


def test_progress_is_shown_only_when_asked_for(data):
    """In a process of its own, because pytest has log handlers."""
    code = """
import numpy as np, infer
images, labels = np.zeros((40, 1, 8, 8), dtype=np.uint8), np.arange(40) % 4
data = infer.Splits.from_arrays(images, labels, images, labels)
infer.train_teachers(data, ["convnet_narrow"], epochs=1, progress={})
"""
    for progress in (False, True):
        words = [sys.executable, "-c", code.replace("{}", str(progress))]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600, check=True)
        assert ("Training teacher convnet_narrow (1 epoch of 1 step)" in done.stdout) == progress
        assert not done.stderr


def test_a_student_trains_on_a_file_alone(data, teachers, tmp_path):
    path = tmp_path / "small.safetensors"
    infer.distill(data, teachers, ipc=3, method="random").save(path)
    student = infer.train_student(path, "convnet_narrow", steps=3)
    assert not student.training
    assert student(data.test.images).shape == (20, 4)
    assert {p.name for p in tmp_path.iterdir()} == {"small.safetensors"}


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda data, teachers: infer.distill(data, teachers, method="inferr"), "method=inferr: unknown; did you mean"),
        (lambda data, teachers: infer.distill(data, []), r"teachers=\[\]: give one or more"),
        (lambda data, teachers: infer.distill(data, teachers, ipc=0), "ipc=0: must lie between"),
        (lambda data, teachers: infer.distill(data, teachers, ipc=1), "ipc=1: too small to split"),
        (lambda data, teachers: infer.distill(data, [torch.nn.Flatten()]), r"teachers\[0\]: has 64 classes"),
        (lambda data, teachers: infer.distill(data, [torch.nn.Linear(3, 4)]), r"teachers\[0\]: does not classify"),
        (lambda data, teachers: infer.train_teachers(data, ["resnet181"]), "backbone=resnet181: unknown; did you mean"),
        (lambda data, teachers: infer.train_teachers(data, ["convnet_narow"]), "did you mean convnet_narrow"),
        (lambda data, teachers: infer.distill(data, teachers, options={"ipc": 3}), "must be an infer.SetOptions"),
        (lambda data, teachers: infer.evaluate(teachers[0], data), "pictures: give pictures with their classes"),
        (lambda data, teachers: infer.train_teachers(data, ["convnet"], epochs=-1), "epochs=-1: must lie between"),
        (lambda data, teachers: infer.distill(data, "resnet18"), "^teachers=resnet18: give one or more networks"),
        (lambda data, teachers: infer.distill(data, None), "^teachers=null: give one or more networks"),
        (lambda data, teachers: infer.distill(data, [None], method="random"), r"^teachers=\[null\]: give one or more"),
        (lambda data, teachers: infer.distill(None, teachers), "^data=null: must be an infer.Splits"),
        (lambda data, teachers: infer.distill(data, teachers, method=""), "^method=: unknown"),
        (lambda data, teachers: infer.distill(data, teachers, trainer=3), "^trainer=3: must be a value of TrainerOp"),
        (
            lambda data, teachers: infer.distill(data, teachers, options=infer.SetOptions(labels="views")),
            "^labels=views: must be a value of LabelOptions",
        ),
        (lambda data, teachers: infer.train_teachers("digits", ["convnet"]), "^data=digits: must be an infer.Splits"),
        (lambda data, teachers: infer.train_teachers(data, None), "^backbones=null: give one or more names, such as"),
        (lambda data, teachers: infer.train_teachers(data, []), r"^backbones=\[\]: give one or more names, such as"),
        (lambda data, teachers: infer.train_teachers(data, [5]), "^backbone=5: must be a name, such as resnet18, or"),
        (lambda data, teachers: infer.train_teachers(data, [["a"]]), r"^backbone=\[a\]: must be a name"),
        (
            lambda data, teachers: infer.train_teachers(data, [infer.BackboneOptions("x", "convnet", "auto", [1])]),
            r"^backbone.options=\[1\]: must be a mapping such as \{key: value\}",
        ),
        (
            lambda data, teachers: infer.train_teachers(data, [infer.BackboneOptions("x", "convnet", "tiny", {})]),
            "^backbone.stem=tiny: unknown; choose one of auto, full, small",
        ),
        (
            lambda data, teachers: infer.train_teachers(
                data, [infer.BackboneOptions("x", "convnet", options={"a": None})]
            ),
            r"^backbone=convnet: options \{a: null\} do not suit it",
        ),
        (lambda data, teachers: infer.train_teachers(data, ["convnet"], seed=1.5), "^seed=1.5: must be a whole number"),
        (
            lambda data, teachers: infer.train_teachers(data, ["convnet"], augment=4),
            "^augment=4: must be a value of Aug",
        ),
        (lambda data, teachers: infer.train_student(5, "convnet"), "^path=5: must be a path"),
        (lambda data, teachers: infer.train_student(small(data), 5), "^backbone=5: must be a name"),
        (lambda data, teachers: infer.train_student(small(data), "convnet", seed=True), "^seed=true: must be a whole"),
        (
            lambda data, teachers: infer.train_student(small(data), "convnet", options={"lr": 1}),
            r"^options=\{lr: 1\}: must be a value of StudentOptions",
        ),
        (
            lambda data, teachers: infer.train_student(small(data), "convnet", steps=3, options={"lr": 1}),
            r"^options=\{lr: 1\}: must be a value of StudentOptions",
        ),
        (
            lambda data, teachers: infer.train_student(small(data), "convnet", inputs=infer.InputOptions(mixing=None)),
            "^inputs.mixing=null: must be a value of MixingOptions",
        ),
        (
            lambda data, teachers: infer.train_student(small(data), "convnet", inputs=infer.MixingOptions()),
            r"^inputs=MixingOptions\(.*: must be a value of InputOptions",
        ),
        (lambda data, teachers: infer.evaluate("resnet18", data.test), "^model=resnet18: must be a network"),
        (lambda data, teachers: infer.load(5), "^path=5: must be a path"),
        (lambda data, teachers: infer.load(None), "^path=null: must be a path"),
        (lambda data, teachers: infer.load("x", max_bytes="x"), "^max_bytes=x: must be a whole number between 0 and"),
        (lambda data, teachers: infer.read_folder("x", foo=1), "^foo=1: unknown; choose one of background, centre"),
        (lambda data, teachers: infer.read_folder(5), "^path=5: must be a path"),
        (lambda data, teachers: small(data).save(5), "^path=5: must be a path"),
        (lambda data, teachers: small(data).save("a\0b"), r"^path=a\\x00b: must be a path"),
        (lambda data, teachers: small(data).export(5), "^path=5: must be a path"),
        (
            lambda data, teachers: infer.DistilledDataModule(small(data), batch_size=0),
            "^batch_size=0: must lie between",
        ),
        (lambda data, teachers: infer.DistilledDataModule(small(data), num_workers=-1), "^num_workers=-1: must lie"),
        (lambda data, teachers: infer.DistilledDataModule(5), "^path=5: must be a path"),
        (
            lambda data, teachers: infer.distill(
                data, teachers, method="infer", options=infer.SetOptions.of_method("random")
            ),
            "method=infer: the options are those of method=random",
        ),
    ],
)
def test_a_mistake_is_one_line(data, teachers, call, told):
    with pytest.raises(infer.UserError, match=told) as caught:
        call(data, teachers)
    assert "\n" not in str(caught.value)


def small(data: infer.Splits) -> infer.DistilledSet:
    """A set of the first train picture of each class, without labels."""
    header = Header(data.classes, [0.5], [0.25], "hard", "probabilities", 1.0, 0)
    naturals, targets = data.train[torch.arange(len(data.classes))]
    return infer.DistilledSet(naturals, targets, torch.empty(0, 1, 8, 8, dtype=torch.int8), None, header)


def test_a_data_set_is_printed_in_one_line(data):
    assert repr(data) == "Splits('arrays': 60 train, 20 test, 4 classes)"


def test_options_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        infer.UFCOptions().steps = 3
