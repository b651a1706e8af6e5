"""Budgets in bytes: the file on disk is never larger, and hardly smaller."""

import itertools
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from conftest import files

import infer
from infer.core.checks import check
from infer.core.errors import UserError
from infer.core.options import BudgetOptions, LabelOptions
from infer.data import Splits
from infer.models.networks import build
from infer.pipeline import assemble
from infer.pipeline.byte_budget import ByteBudget
from infer.pipeline.labelling import Labeller
from infer.pipeline.set_options import SetOptions
from infer.training.compensators import Compensators


@pytest.mark.parametrize("method", ["infer_plus", "random", "herding", "k_center", "rded", "sre2l"])
def test_the_file_of_every_method_fits_and_the_baseline_is_as_large(run, tmp_path, method):
    # JPEG, whose blocks are these tiles: AVIF's size jumps by a quarter where a further column of them crosses a block.
    words = [f"method={method}", "budget=coded", "budget.codec=jpeg", "labels=views", "labels.share=0.1", "ipc=20"]
    words += ["students.seeds=1", "labels.candidates=1", "labels.proxy_steps=20"]
    words += ["method.options.steps=20"] if method == "sre2l" else []
    result = run("distill", *words, "students.sources=[distilled,random]")
    (file,) = files(tmp_path)
    assert 0.95 * result["bytes"]["budget"] < file.stat().st_size == result["bytes"]["file"]
    assert result["bytes"]["file"] <= result["bytes"]["budget"] == 20 * 10 * 64
    ours, baseline = result["students"]
    assert 0.97 * ours["bytes"] < baseline["bytes"] <= ours["bytes"]
    made = infer.load(file)
    assert len(made) == made.mixed_views.count == result["images"]["views"] == 128
    assert len(made.naturals) > 40
    assert made.label_bytes == 128 * 10
    assert made.payload + result["bytes"]["header"] == result["bytes"]["file"]
    assert {path.name for path in (file.parent / "images").iterdir()} == {"naturals.png", "views.png"}
    image, label = made[5]
    assert image.shape == (1, 8, 8)
    assert label.sum().item() == pytest.approx(1)


def test_a_budget_of_bytes_is_that_of_the_whole_file_and_names_the_folder(run, tmp_path):
    words = ["method=random", "budget=raw", "budget.bytes=9000", "labels=views", "labels.share=0.2", "ipc=500"]
    result = run("distill", *words, "students.seeds=1", "students.sources=[distilled]", "dataset.name=small")
    (file,) = files(tmp_path)
    assert file.parent.parent.name == "random-9000bytes"
    assert 8800 < file.stat().st_size <= result["bytes"]["budget"] == 9000
    assert result["images"]["views"] == 180  # a fifth of the bytes, ten a view
    assert result["ipc"] == 14.0625  # of 64 bytes in ten classes


@pytest.mark.parametrize("method", ["random", "infer_plus"])
def test_compressed_labels_are_more_in_the_same_bytes(run, tmp_path, method):
    words = [f"method={method}", "budget=raw", "budget.bytes=20000", "labels=views", "labels.share=0.2", "ipc=500"]
    words += ["labels.bits=4", "labels.coding=lzma", "labels.candidates=4", "labels.proxy_steps=20"]
    words += ["recipe.student.epochs=null", "recipe.student.steps=100", "recipe.student.temperature=1"]
    result = run("distill", *words, "students.seeds=1", "students.sources=[distilled,random]")
    (file,) = files(tmp_path)
    assert 19_700 < file.stat().st_size <= 20_000
    made = infer.load(file)
    assert 0.97 * 4000 < made.label_bytes <= 4000
    assert len(made) == result["images"]["views"] == made.mixed_views.count > 4000 / 5.25
    assert len(made) <= (made.mixed_views.drawn or len(made)) < 1.1 * len(made)  # few are labelled for nothing
    ours, baseline = result["students"]
    assert 0.97 * ours["bytes"] < baseline["bytes"] <= 20_000


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"bytes": 9000}, "budget.bytes=9000: budget.by=images counts images; choose budget.by=bytes"),
        ({"speed": 3, "codec": "webp"}, "budget.speed=3: only avif has it, budget.codec=webp is chosen"),
        (
            {"subsampling": "4:2:0", "codec": "webp"},
            "budget.subsampling=4:2:0: only avif and jpeg have it, budget.codec=webp is chosen",
        ),
    ],
)
def test_settings_that_a_budget_or_its_codec_lacks_are_refused(options, line):
    with pytest.raises(UserError, match=f"^{re.escape(line)}$"):
        check(BudgetOptions(**options), "budget.")


@pytest.mark.parametrize("ipc", [7, 12])
def test_naturals_beside_compensators_fill_the_budget(run, ipc):
    result = run("distill", "budget=raw", f"ipc={ipc}", "students.sources=[distilled]", "students.seeds=1")
    sizes, images = result["bytes"], result["images"]
    rounds = min(images["naturals"])
    assert images["compensators"] == rounds > 0
    assert sum(images["naturals"]) > 10 * rounds
    assert 0 <= sizes["budget"] - sizes["file"] < 400  # an image with its label, and what is spared for the header


def test_a_file_of_chosen_mixed_views_fits(run):
    words = ["method=infer_plus", "students.seeds=1", "students.sources=[distilled]", "labels.proxy_steps=20"]
    for ipc in (12, 13):
        sizes = run("distill", *words, "budget=raw", f"ipc={ipc}")["bytes"]
        assert sizes["budget"] - 300 < sizes["file"] <= sizes["budget"] == ipc * 640


@pytest.mark.parametrize(
    ("words", "sets", "optimised"),
    [
        (["method=infer", "budget=raw"], 1, 1),
        (["method=infer_plus", "labels.proxy_steps=5"], 2, 0),  # the proxy model's training set is a set of its own
    ],
    ids=["static", "views"],
)
def test_a_header_longer_than_expected_gets_its_room_before_anything_is_optimised(
    run, tmp_path, monkeypatch, words, sets, optimised
):
    calls = Counter()
    for kind, name in ((Compensators, "optimise"), (Labeller, "label"), (ByteBudget, "fill")):
        monkeypatch.setattr(kind, name, counted(calls, name, getattr(kind, name)))
    monkeypatch.setattr(assemble, "_SLACK", -2000)
    result = run("distill", *words, "ipc=20", "students.sources=[distilled]", "students.seeds=1")
    (file,) = files(tmp_path)
    assert result["bytes"]["budget"] - 400 < file.stat().st_size <= result["bytes"]["budget"] == 20 * 640
    assert result["bytes"]["header"] > 500  # hundreds of bytes that the first try gave to images
    assert calls["fill"] >= 2 * sets
    assert (calls["label"], calls["optimise"]) == (sets, optimised)


def counted(calls: Counter, name: str, function):
    def call(*args, **options):
        calls[name] += 1
        return function(*args, **options)

    return call


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("distill", ["method=infer_plus", "ipc=2"]),
        ("distill", ["method=random", "budget=raw", "ipc=4"]),
        ("train", ["source=random", "budget=raw", "labels=static", "ipc=2"]),
    ],
)
def test_bytes_that_cannot_hold_every_class_are_refused_before_teachers_are_trained(run, tmp_path, command, words):
    with pytest.raises(
        infer.UserError, match=r"naturals fit beside the header and the labels, fewer than the 10 class"
    ):
        run(command, *words)
    assert not list(tmp_path.rglob("*"))


def test_choices_that_cannot_be_tried_are_refused_before_teachers_are_trained(run, tmp_path):
    """What is not among the choices is not refused: the default share of labels would leave no room."""
    words = ["method=random", "budget=auto", "labels=views", "ipc=20", "labels.share=0.95"]
    words += ["students.seeds=1", "students.sources=[distilled]", "budget.choices.budget.quality=null"]
    with pytest.raises(infer.UserError, match=r"^ipc=20: at most \d+ naturals fit .* or a smaller labels.share$"):
        run("distill", *words, "budget.choices.labels.share=[0.1,0.9]")
    assert not list(tmp_path.rglob("*"))
    assert run("distill", *words, "budget.choices.labels.share=[0.1]")["budget"]["label_share"] == 0.1


def noise(level: int) -> Splits:
    """Pictures of four classes, with up to ``level`` of noise: 0 compresses best."""
    images = np.random.default_rng(0).integers(0, level + 1, (80, 1, 8, 8), dtype=np.uint8)
    return Splits.from_arrays(images, np.arange(80) % 4, images, np.arange(80) % 4)


@pytest.mark.parametrize("codec", [None, "avif", "webp", "jpeg"])
@pytest.mark.parametrize("labels", ["hard", "static", "views"])
def test_nothing_is_refused_at_once_that_would_have_worked(monkeypatch, codec, labels):
    teachers, refused = [build("convnet_narrow", 4, 1, 8)], 0
    for method, level in itertools.product(("random", "infer"), (0, 255)):
        data, made = noise(level), SetOptions.of_method(method, budget=BudgetOptions("bytes", True, codec))
        made = replace(made, labels=LabelOptions(labels, share=0.02), ufc=infer.UFCOptions(steps=1))
        for ipc in range(1, 20):
            try:
                infer.distill(data, teachers, ipc=ipc, options=made)
                break
            except infer.UserError as error:
                assert "naturals fit" in str(error)  # noqa: PT017
                if "at most" in str(error):
                    refused += 1
                    with monkeypatch.context() as patch:
                        patch.setattr(ByteBudget, "require_room", lambda *words: None)
                        with pytest.raises(infer.UserError, match="naturals fit"):
                            infer.distill(data, teachers, ipc=ipc, options=made)
        assert ipc < 19
    assert refused > 8


def test_too_few_bytes_for_a_natural_of_every_class_are_an_error(run):
    for method in ("random", "herding", "infer"):
        with pytest.raises(
            infer.UserError,
            match=r"^ipc=4: at most \d naturals fit beside the header and the labels, fewer than the 10",
        ):
            run("distill", f"method={method}", "budget=raw", "ipc=4")
