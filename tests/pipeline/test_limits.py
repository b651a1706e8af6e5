"""Budgets beyond the data are refused by every method alike; a budget that is not used up is reported."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import files

import infer
from infer.core.options import AugmentOptions, BudgetOptions, LabelOptions
from infer.data import Splits
from infer.methods.options import METHODS
from infer.pipeline import limits
from infer.pipeline.assemble import Assembler, planned
from infer.pipeline.limits import asked_views, require_possible, stored_views, view_bytes
from infer.pipeline.search import require_choices
from infer.pipeline.set_options import MethodOptions, SetOptions
from infer.training.context import Context
from infer.training.options import StudentOptions, TrainerOptions


def splits(pictures: int, classes: int, *shape: int) -> Splits:
    """Data of that many black pictures."""
    images, targets = np.zeros((pictures, *shape), dtype=np.uint8), np.arange(pictures) % classes
    return Splits.from_arrays(images, targets, images, targets)


def options_of(method: str, by: str, ipc: int) -> SetOptions:
    made = SetOptions.of_method(method, ipc=ipc)
    return replace(made, budget=replace(made.budget, by=by))


@pytest.mark.parametrize("by", ["images", "bytes"])
@pytest.mark.parametrize("method", METHODS)
def test_the_largest_ipc_is_the_same_for_every_method_and_budget(method, by):
    data = splits(83, 2, 3, 16, 16)
    require_possible(options_of(method, by, 41), data, teachers=3)
    for ipc in (42, 1000):
        with pytest.raises(infer.UserError) as caught:
            require_possible(options_of(method, by, ipc), data, teachers=3)
        assert str(caught.value) == (
            f"ipc={ipc}: asks for {2 * ipc:,} images, {ipc} of each of 2 classes, but there are 83 train pictures; "
            "the largest possible is ipc=41"
        )


@pytest.mark.parametrize("method", METHODS)
def test_a_library_call_says_so_before_it_does_anything(method):
    data = splits(80, 2, 3, 16, 16)
    teachers = infer.train_teachers(data, ["convnet_narrow"], epochs=0)
    with pytest.raises(infer.UserError, match=r"^ipc=1000: .* the largest possible is ipc=40$"):
        infer.distill(data, teachers, ipc=1000, method=method)


def test_no_more_views_than_a_student_sees_are_stored():
    data = splits(80, 2, 3, 16, 16)
    short = SetOptions.of_method("infer_plus", ipc=40, student=StudentOptions(epochs=None, steps=10, batch=64))
    assert asked_views(short, data) == 0.25 * 40 * 768
    assert stored_views(short, data, teachers=3) == 640
    long = replace(short, student=replace(short.student, steps=1000))
    assert stored_views(long, data, teachers=3) == asked_views(long, data)


@pytest.mark.parametrize(
    ("classes", "shape", "ipc", "steps"),
    [
        *((10, (3, 32, 32), ipc, 2000) for ipc in (1, 10, 50)),  # cifar10 recipe=cpu
        (10, (3, 32, 32), 50, 6000),
        (10, (1, 8, 8), 10, 600),  # digits
        (6, (1, 32, 32), 10, 2000),  # neu-steel-32
        (6, (1, 64, 64), 10, 1000),  # neu-steel-poc
    ],
)
def test_recorded_settings_have_the_views_that_they_ask_for(classes, shape, ipc, steps):
    student = StudentOptions(epochs=None, steps=steps)
    options = SetOptions.of_method("infer_plus", ipc=ipc, student=student)
    data = splits(classes, classes, *shape)
    assert stored_views(options, data, teachers=3) == round(0.25 * ipc * np.prod(shape))


@pytest.mark.parametrize(("views", "stored"), [(None, 7680), ("auto", 2560), (100, 100), (10**6, 7680)])
def test_views_may_be_as_many_as_help_and_the_other_bytes_go_to_pictures(views, stored):
    """1,000 steps of 64 see 2,560 views 25 times each; a quarter of the bytes would be 7,680 at 32 pixels."""
    made = SetOptions.of_method("infer_plus", ipc=10, student=StudentOptions(epochs=None, steps=1000))
    made = replace(made, labels=replace(made.labels, views=views))
    data = splits(40, 4, 3, 32, 32)
    assert stored_views(made, data, teachers=3) == stored
    assert view_bytes(made, data, stored) == 4 * stored + stored // 4  # and two bits for the choice of four candidates


def test_small_files_have_no_more_views_than_their_share():
    made = SetOptions.of_method("infer_plus", ipc=2, student=StudentOptions(epochs=None, steps=1000))
    made = replace(made, labels=replace(made.labels, views="auto"))
    assert stored_views(made, splits(80, 4, 1, 8, 8), teachers=3) == 0.25 * 2 * 64


def test_labels_that_take_the_whole_file_are_refused_at_once():
    data = splits(80, 2, 3, 16, 16)
    made = SetOptions("ipc", labels=LabelOptions("views", share=1.5), budget=BudgetOptions("bytes"))
    made = replace(made, ipc=10, method=MethodOptions("random"))
    with pytest.raises(infer.UserError, match=r"^labels.share=1.5: the labels of 11,520 .* 23,040 of the 15,360 bytes"):
        require_possible(made, data, teachers=1)
    require_possible(replace(made, budget=BudgetOptions("images")), data, teachers=1)  # labels are not counted


def test_crops_smaller_than_a_pixel_are_refused_at_once():
    made = SetOptions("ipc", method=MethodOptions("rded", options={"factor": 9}))
    with pytest.raises(infer.UserError, match=r"^method.options.factor=9: images of 8 x 8 pixels"):
        require_possible(replace(made, ipc=1), splits(80, 2, 1, 8, 8), teachers=1)


def test_crops_larger_than_an_image_are_refused_before_anything_is_distilled(tmp_path):
    """A reader refuses them in a file of mixed views."""
    data = splits(80, 2, 1, 8, 8)
    teachers = infer.train_teachers(data, ["convnet_narrow"], epochs=0)

    def of(crop: int, labels: str) -> SetOptions:
        made = SetOptions.of_method("random", ipc=20, labels=LabelOptions(labels))
        return replace(made, augment=AugmentOptions(crop=crop))

    with pytest.raises(
        infer.UserError, match=r"^augment.crop=9: .* the side of its images, 8 pixels; choose 8 or less$"
    ):
        infer.distill(data, teachers, options=of(9, "views"))
    for crop, labels in ((8, "views"), (9, "static")):
        infer.distill(data, teachers, options=of(crop, labels)).save(tmp_path / "made.safetensors")
        assert len(infer.load(tmp_path / "made.safetensors")) > 0


def test_more_candidates_than_a_file_may_have_are_refused_at_once(monkeypatch):
    data = splits(80, 2, 3, 16, 16)
    made = SetOptions.of_method("random", ipc=40, labels=LabelOptions("views", share=1, candidates=256))
    require_possible(made, data, teachers=1)
    monkeypatch.setattr(limits, "MOST_CANDIDATES", 1000)
    views = stored_views(made, data, 1)
    with pytest.raises(
        infer.UserError, match=rf"^labels.candidates=256: {views:,} mixed views have {256 * views:,} cand"
    ):
        require_possible(made, data, teachers=1)


def test_more_classes_than_a_file_numbers_are_refused_at_once():
    for classes in (2**16, 2**16 + 1):
        data = splits(classes, classes, 1, 1, 1)
        made = SetOptions.of_method("random", ipc=1)
        if classes == 2**16:
            require_possible(made, data, teachers=1)
        else:
            with pytest.raises(
                infer.UserError, match=r"^dataset: has 65,537 classes, .* at most 65,536; leave some out$"
            ):
                require_possible(made, data, teachers=1)


def test_choices_are_tried_without_the_held_out_pictures(config):
    words = ["method=random", "budget=infer", "budget.choices.mixing.alpha=[0.2,0.8]", "search.held_out=0.1"]
    context = Context(splits(80, 2, 1, 8, 8), trainer=TrainerOptions("cpu"))

    def require(*more: str) -> None:
        options = config("distill", *words, *more)
        require_choices(planned(context, options.set_options(options.method), ["convnet"], {}), options)

    require("ipc=36")
    with pytest.raises(infer.UserError, match=r"^ipc=37: .* is ipc=36 \(budget.choices are tried without search.held"):
        require("ipc=37")
    with pytest.raises(infer.UserError, match=r"^ipc=41: .* is ipc=40$"):
        require("ipc=41")


@pytest.mark.parametrize("method", ["random", "herding", "rded"])
def test_a_file_of_every_picture_says_what_it_leaves_unused(caplog, method):
    """Black pictures take a few bytes each under a codec."""
    data = splits(80, 2, 3, 16, 16)
    made = SetOptions.of_method(method, ipc=20, budget=BudgetOptions("bytes", codec="webp"))
    made = replace(made, labels=LabelOptions("hard"))
    with caplog.at_level("INFO", logger="infer"):
        small = infer.distill(data, infer.train_teachers(data, ["convnet_narrow"], epochs=0), options=made)
    assert len(small) == 80
    assert len(small.to_bytes()) < 20 * 2 * 768 / 2
    held = "as many images as there are train pictures" if method == "rded" else "every train picture"
    (line,) = {line for line in caplog.messages if "bytes asked" in line}
    assert line.startswith(f"ipc=20, method={method}: ")
    assert line.endswith(f"used: the file holds {held} (80)")


def test_a_baseline_of_more_images_than_there_are_is_told(caplog):
    data = splits(80, 2, 3, 16, 16)
    made = SetOptions.of_method("random", ipc=2, labels=LabelOptions("hard"))
    assembler = Assembler(Context(data, trainer=TrainerOptions("cpu")), made, data.picks(0), [])
    with caplog.at_level("INFO", logger="infer"):
        assert len(assembler.of_images(81)) == 80
    assert "81 random pictures are asked for; the set holds every train picture (80)" in caplog.text


def test_views_that_no_student_sees_are_told(run, tmp_path, caplog):
    caplog.set_level("INFO", logger="infer")
    words = ["method=random", "budget=raw", "labels=views", "labels.share=0.5", "ipc=20", "recipe.student.steps=5"]
    result = run("distill", *words, "students.seeds=1", "students.sources=[distilled,random]")
    assert result["images"]["views"] == infer.load(files(tmp_path)[0]).mixed_views.count == 320
    assert "labels.share=0.5: 640 mixed views asked, 320 stored" in caplog.text
    ours, baseline = result["students"]
    assert 0.97 * ours["bytes"] < baseline["bytes"] <= ours["bytes"]
