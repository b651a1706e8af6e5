"""Checks of option objects, and copies with other values."""

import copy
import json
from dataclasses import FrozenInstanceError, asdict, dataclass, field
from typing import Annotated, Any

import numpy as np
import pytest

from infer.core.checks import Choice, Range, check, check_value, expected, fits, hint_at, replaced
from infer.core.errors import UserError, choices, message_in, shown
from infer.core.options import BudgetOptions, LabelOptions, MixingOptions, UFCOptions
from infer.data import DatasetOptions
from infer.models.options import BackboneOptions
from infer.pipeline.options import (
    BaseOptions,
    DistillOptions,
    RecipeOptions,
    SourceOptions,
    StudentsOptions,
    TeachersOptions,
    TrainOptions,
)
from infer.training.options import InputOptions, StudentOptions, TeacherOptions, TrainerOptions


def refusal(options, at: str = "") -> str:
    with pytest.raises(UserError) as caught:
        check(options, at)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (StudentsOptions(backbones="resnet18"), "k.backbones=resnet18: must be a list of texts, such as [a,b]"),
        (StudentsOptions(backbones=[5]), "k.backbones=[5]: must be a list of texts, such as [a,b]"),
        (StudentsOptions(backbones=None), "k.backbones=null: must be a list of texts, such as [a,b]"),
        (
            StudentsOptions(sources="real"),
            "k.sources=real: must be a list of texts, such as [distilled,distilled_hard]",
        ),
        (StudentsOptions(backbones=["../x"]), "k.backbones=../x: has / in it, and names a folder"),
        (TeachersOptions(backbones=["CON"]), "k.backbones=CON: is a device on Windows"),
        (BackboneOptions(name=""), "k.name=: is empty"),
        (BackboneOptions(options=3), "k.options=3: must be a mapping such as {key: value}"),
        (
            DatasetOptions(root="x", mean=0.5),
            "k.mean=0.5: must be a list of numbers between 0 and 1, such as [0.1,0.2]",
        ),
        (RecipeOptions(ufc=5), "k.ufc=5: must be a value of UFCOptions"),
        (RecipeOptions(ufc=TeacherOptions()), "k.ufc=TeacherOptions("),
        (BaseOptions(seed=10**30), f"k.seed={10**30}: must lie between 0 and 2147483648"),
        (BaseOptions(seed=-1), "k.seed=-1: must lie between 0 and 2147483648"),
        (BaseOptions(dataset=DatasetOptions(root="x"), logger={"csv": 1}), "k.logger=csv: unknown; choose one of"),
        (
            DistillOptions(dataset=DatasetOptions(root="x"), published={"x": "y"}),
            "k.published.x=y: must be a number between 0 and 100",
        ),
        (
            DistillOptions(dataset=DatasetOptions(root="x"), published={"a": 100, "x": float("nan")}),
            "k.published.x=nan: must be a number between 0 and 100",
        ),
        (
            DistillOptions(dataset=DatasetOptions(root="x"), published={"x": 100.5}),
            "k.published.x=100.5: must lie between 0 and 100",
        ),
        (
            DistillOptions(dataset=DatasetOptions(root="x"), published=5),
            "k.published=5: must be a mapping such as {key: value}",
        ),
        (SourceOptions("distilled"), "k.path: has no value; give k.path=<a file of distill.py>"),
        (UFCOptions(steps=0), "k.steps=0: must lie between 1 and 10000000"),
        (UFCOptions(steps=10**7 + 1), "k.steps=10000001: must lie between 1 and 10000000"),
        (UFCOptions(lr=-0.1), "k.lr=-0.1: must lie between 1e-09 and 100"),
        (UFCOptions(lr=float("nan")), "k.lr=nan: must be a number between 1e-09 and 100"),
        (UFCOptions(lr=float("inf")), "k.lr=inf: must be a number between 1e-09 and 100"),
        (UFCOptions(bn_weight="1"), "k.bn_weight=1: must be a number between 0 and 1000000.0"),
        (UFCOptions(jitter=True), "k.jitter=true: must be a whole number between 0 and 1024"),
        (UFCOptions(steps=2.5), "k.steps=2.5: must be a whole number"),
        (UFCOptions(steps=None), "k.steps=null: must be a whole number"),
        (UFCOptions(resized_crop="half"), "k.resized_crop=half: must be a number between 0.01 and 1"),
        (BudgetOptions(fill=1), "k.fill=1: must be true or false"),
        (BudgetOptions(fill="no"), "k.fill=no: must be true or false"),
        (LabelOptions(candidates=True), "k.candidates=true: must be one of 1, 2, 4, 16, 256"),
        (StudentOptions(epochs=None, steps=10.0), "k.steps=10.0: must be a whole number"),
        (DatasetOptions(root=3), "k.root=3: must be text"),
        (DatasetOptions(name=None), "k.name=null: must be text"),
        (UFCOptions(resized_crop=0.0), "k.resized_crop=0.0: must lie between 0.01 and 1"),
        (BudgetOptions(quality=101), "k.quality=101: must lie between 0 and 100"),
        (BudgetOptions(codec="avfi"), "k.codec=avfi: unknown; did you mean avif? choose one of avif, jpeg, webp"),
        (BudgetOptions(by="files"), "k.by=files: unknown; choose one of bytes, images"),
        (LabelOptions(candidates=3), "k.candidates=3: unknown; choose one of 1, 2, 4, 16, 256"),
        (MixingOptions(kind="mixpu"), "k.kind=mixpu: unknown; did you mean mixup?"),
        (MixingOptions(natural_ratio=1.01), "k.natural_ratio=1.01: must lie between 0 and 1"),
        (TrainerOptions(devices=0), "k.devices=0: must lie between 1 and 4096"),
        (StudentOptions(steps=10), "k.epochs=400 and k.steps=10: give one of them, and null for the other"),
        (StudentOptions(epochs=None), "k.epochs=null and k.steps=null: give one of them"),
        (UFCOptions(steps=np.int64(0)), "k.steps=0: must lie between 1 and 10000000"),
        (UFCOptions(steps=np.float32(2)), "k.steps=2.0: must be a whole number"),
        (UFCOptions(lr=np.float32("nan")), "k.lr=nan: must be a number between"),
        (StudentOptions(epochs=-1), "k.epochs or steps=-1: must lie between 1 and 100000000"),
        (InputOptions(mixing=MixingOptions(alpha=0.0)), "k.mixing.alpha=0.0: must lie between 0.001 and 1000.0"),
        (RecipeOptions(ufc=UFCOptions(steps=0)), "k.ufc.steps=0: must lie between 1 and"),
        (DatasetOptions(root="x", mean=[0.5, 0.5], std=[0.2, 0.2]), "k.mean=[0.5,0.5]: give mean and std a value"),
        (DatasetOptions(root="x", mean=[0.5, 2.0, 0.5]), "k.mean=[0.5,2.0,0.5]: must lie between 0 and 1"),
        (DatasetOptions(root="x", std=[0.5, float("nan"), 0.5]), "k.std=[0.5,nan,0.5]: must be a number between"),
    ],
)
def test_a_value_out_of_its_range_or_choices_is_refused_in_one_line(options, message):
    assert refusal(options, "k.").startswith(message)


def test_a_value_is_shown_as_a_user_types_it_in_one_short_line():
    assert shown([None, True, (False,), {"a": None, "b": [1.5, "x"]}]) == "[null,true,[false],{a: null, b: [1.5,x]}]"
    assert shown("two\nlines\x1b[2J\ud800") == "two\\nlines\\x1b[2J\\ud800"
    assert shown("x" * 201) == "x" * 60 + "..."
    assert str(choices("k", None, [])) == "k=null: unknown; there is none to choose"
    assert str(choices("k", 3, map(str, [256, 16, 1, 2, 10]))) == "k=3: unknown; choose one of 1, 2, 10, 16, 256"


def test_only_the_error_that_ends_a_traceback_is_taken_out_of_it():
    trace = "Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  ...\n"
    error = "infer.core.errors.UserError: "
    assert message_in(f"{trace}{error}a.png: cannot be read\n") == "a.png: cannot be read"
    assert message_in(f"{trace}{error}first\n\nTraceback:\n{error}second") == "second"
    for other in ("dataset.name=UserError: x/y: has / in it", f"{error}x", f"{trace}{error}x\n\nRuntimeError: y"):
        assert message_in(other) is None


def test_values_at_the_ends_of_a_range_and_none_are_taken():
    check(UFCOptions(steps=1, lr=100, jitter=0, resized_crop=1, bn_weight=0))
    check(UFCOptions(resized_crop=None))
    check(BudgetOptions(quality=0))
    check(BudgetOptions(quality=100))
    check(BaseOptions(dataset=DatasetOptions(root="folder")))


def test_numbers_of_numpy_become_pythons():
    data = DatasetOptions(root="x", image_size=np.int16(32), mean=[np.float32(0.5)] * 3, std=(0.25, 0.25, 0.25))
    options = DistillOptions(
        dataset=data,
        ipc=np.int64(5),
        seed=np.uint8(7),
        published={"resnet18": np.float64(50)},
        recipe=RecipeOptions(ufc=UFCOptions(lr=np.float32(0.5), jitter=np.int32(2))),
    )
    check(options)
    kept = json.loads(json.dumps(asdict(options)))  # which refuses the numbers of numpy
    assert (kept["ipc"], kept["seed"], kept["published"]) == (5, 7, {"resnet18": 50.0})
    assert (kept["dataset"]["image_size"], kept["dataset"]["mean"]) == (32, [0.5] * 3)
    assert (kept["recipe"]["ufc"]["lr"], kept["recipe"]["ufc"]["jitter"]) == (0.5, 2)
    assert options.dataset.std is data.std
    assert [type(check_value("k", value, int | None)) for value in (np.int64(3), 3)] == [int, int]
    changed = replaced(DistillOptions(), {"ipc": np.int64(3), "recipe.ufc.lr": np.int64(1)})
    assert (type(changed.ipc), type(changed.recipe.ufc.lr)) == (int, float)


@dataclass(frozen=True)
class Inner:
    share: Annotated[float | None, Range(0, 1)] = None
    names: Annotated[list[str], Choice("a", "b")] = field(default_factory=lambda: ["a"])


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    count: Annotated[int, Range(1, 9)] = 5
    weights: dict[str, float] = field(default_factory=lambda: {"x": 1.0})
    title: str = "t"


def test_each_entry_of_a_list_is_checked():
    check(Outer(Inner(names=["a", "b"])))
    assert refusal(Outer(Inner(names=["a", "c"]))).startswith("inner.names=c: unknown; choose one of a, b")


def test_values_are_replaced_at_dotted_keys_and_the_original_is_not_changed():
    options = BaseOptions()
    before = copy.deepcopy(options)
    changed = replaced(options, {"recipe.ufc.lr": 0.5, "recipe.student.steps": 10, "ipc": 7, "budget.codec": "avif"})
    assert (changed.recipe.ufc.lr, changed.recipe.student.steps, changed.ipc) == (0.5, 10, 7)
    assert changed.budget.codec == "avif"
    assert changed.recipe.ufc == UFCOptions(lr=0.5)
    assert changed.recipe.teacher is options.recipe.teacher
    assert options == before
    assert type(changed) is BaseOptions
    assert replaced(options, {}) is options


def test_replacing_a_key_of_a_mapping_leaves_the_original_mapping():
    options = Outer()
    changed = replaced(options, {"weights.x": 2.0})
    assert (changed.weights, options.weights) == ({"x": 2.0}, {"x": 1.0})


def test_a_whole_number_becomes_a_float_and_other_types_are_refused():
    changed = replaced(BaseOptions(), {"recipe.ufc.lr": 1})
    assert (changed.recipe.ufc.lr, type(changed.recipe.ufc.lr)) == (1.0, float)
    for key, value, message in (
        ("recipe.ufc.steps", 1.5, "recipe.ufc.steps=1.5: must be a whole number, as 1000 is"),
        ("recipe.ufc.steps", "ten", "recipe.ufc.steps=ten: must be a whole number, as 1000 is"),
        ("recipe.ufc.steps", True, "recipe.ufc.steps=true: must be a whole number, as 1000 is"),
        ("recipe.ufc.lr", True, "recipe.ufc.lr=true: must be a number, as 0.25 is"),
        ("budget.fill", 1, "budget.fill=1: must be true or false, as false is"),
    ):
        with pytest.raises(UserError) as caught:
            replaced(BaseOptions(), {key: value})
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("recipe.ufc.stpes", "recipe.ufc.stpes=1: unknown; did you mean steps?"),
        ("recipe.studnet.steps", "recipe.studnet.steps=1: unknown; did you mean student?"),
        ("ipc.deeper", "ipc.deeper=1: unknown; there is none to choose"),
    ],
)
def test_a_key_that_names_no_field_is_refused_with_the_nearest_field(key, message):
    with pytest.raises(UserError) as caught:
        replaced(BaseOptions(), {key: 1})
    assert str(caught.value).startswith(message)


def test_the_type_of_a_key_is_found_below_options_lists_and_mappings():
    assert expected(hint_at(DistillOptions, "recipe.student.steps")) == "a whole number"
    assert expected(hint_at(DistillOptions, "ipc")) == "a whole number between 1 and 1000000"
    assert expected(hint_at(DistillOptions, "labels.kind")) == "one of static, views, dynamic, hard"
    assert expected(hint_at(DistillOptions, "tune.trials")) == "a whole number between 1 and 1000000"
    assert expected(hint_at(DistillOptions, "published.resnet18")) == "a number between 0 and 100"
    assert hint_at(DistillOptions, "tune.space.recipe.ufc.lr") is Any
    for key in ("nothing", "ipc.x", "recipe.nothing", "students.backbones.x", "published.x.y"):
        assert hint_at(DistillOptions, key) is None


def test_a_value_fits_a_type_exactly():
    for value, hint in ((1, float), (None, int | None), ((1, 2), list[int]), ({"a": 1}, dict[str, float]), ("x", Any)):
        assert fits(value, hint)
    for value, hint in ((True, int), (1.0, int), (None, int), ("1", int), ([1, "a"], list[int]), ("ab", list[str])):
        assert not fits(value, hint)


def test_option_objects_are_frozen_and_checks_do_not_change_them():
    options = TrainOptions(dataset=DatasetOptions(root="folder"))
    before = asdict(options)
    check(options)
    assert asdict(options) == before
    for frozen, name in ((options, "ipc"), (options.recipe.ufc, "steps"), (options.budget, "codec")):
        with pytest.raises(FrozenInstanceError):
            setattr(frozen, name, 3)
    assert asdict(options) == before
    assert TrainOptions().recipe.ufc == UFCOptions()
