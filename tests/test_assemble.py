"""What a configuration puts into a set, and what that set weighs."""

import csv
import json
from dataclasses import replace

import pytest
import torch
from conftest import files

import infer
from infer.core.ufc import normalise
from infer.methods import infer_plus
from infer.pipeline.assemble import Assembly
from infer.pipeline.run import decisive, distill
from infer.training.students import StudentData


def test_passes_are_measured_once_and_kept(config, caplog, tmp_path):
    words = ["students.sources=[distilled,random,random_hard]", "students.seeds=1", "ipc=4"]
    with caplog.at_level("INFO", logger="infer"):
        distill(config("distill", *words))
        (kept,) = tmp_path.rglob("passes-*.json")
        content = json.loads(kept.read_text())
        assert content["measured_on"]["shape"] == [3, 10, 1, 8, 8]
        content["rounds"], content["classes"] = 1, 7  # what no measurement gives here
        kept.write_text(json.dumps(content))
        caplog.clear()
        distill(config("distill", *words, "recipe.ufc.lr=0.2"))
    assert "3 rounds of 10 images, 1 rounds of 7 a pass" in caplog.text
    distill(config("distill", *words, "recipe.ufc.lr=0.2", "distill.chunk=4"))  # other passes, the same run
    assert len(files(tmp_path)) == 2


def test_labels_mixing_and_budget_are_options(config):
    results = {}
    for name, overrides in {
        "static": [],
        "probabilities": ["labels.space=probabilities", "mixing=cutmix"],
        "dynamic": ["labels=dynamic", "mixing.natural_ratio=0.5"],
        "hard": ["labels=hard", "mixing=none"],
        "filled": ["budget=filled"],
        "random": ["method=random"],
    }.items():
        results[name] = distill(
            config(
                "distill", "students.sources=[distilled,random,random_hard]", "students.seeds=1", "ipc=3", *overrides
            )
        )
    assert [row["source"] for row in results["hard"]["students"]] == ["distilled", "random"]
    sizes = {name: result["bytes"] for name, result in results.items()}
    images = {name: size["natural"] + size["compensators"] for name, size in sizes.items()}
    assert images["filled"] == images["random"] == sizes["filled"]["budget"] > images["static"]
    assert sizes["dynamic"]["labels"] > 50_000  # the teacher itself
    assert sizes["hard"]["labels"] < 30
    assert results["random"]["images"]["compensators"] == 0
    assert results["dynamic"]["students"][0]["steps"] == 10  # M + 1 times fewer


@pytest.mark.parametrize("method", ["infer_plus", "random", "herding", "k_center", "rded", "sre2l"])
def test_every_method_keeps_to_the_bytes(config, tmp_path, method):
    """A budget in bytes holds for the file as it lies on disk, and the rival has as many."""
    # JPEG, whose blocks are these tiles: AVIF's size jumps by a quarter where a further column of them crosses a block.
    words = [f"method={method}", "budget=coded", "budget.codec=jpeg", "labels=views", "labels.share=0.1", "ipc=20"]
    words += ["students.seeds=1", "labels.candidates=1", "labels.scout=20"]
    words += ["method.options.steps=20"] if method == "sre2l" else []
    result = distill(config("distill", *words, "students.sources=[distilled,random]"))
    (file,) = files(tmp_path)
    assert 0.95 * result["bytes"]["budget"] < file.stat().st_size == result["bytes"]["file"]
    assert result["bytes"]["file"] <= result["bytes"]["budget"] == 20 * 10 * 64
    ours, rival = result["students"]
    assert 0.97 * ours["bytes"] < rival["bytes"] <= ours["bytes"]
    made = infer.load(file)
    assert len(made) == made.views.count == result["images"]["views"] == 128
    assert len(made.naturals) > 40
    assert made.label_bytes == 128 * 10
    assert made.payload + result["bytes"]["header"] == result["bytes"]["file"]
    assert {path.name for path in (file.parent / "images").iterdir()} == {"naturals.png", "views.png"}
    image, label = made[5]
    assert image.shape == (1, 8, 8)
    assert label.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("ipc", [7, 12])
def test_bytes_leave_no_rest_beside_compensators(config, ipc):
    result = distill(config("distill", "budget=raw", f"ipc={ipc}", "students.sources=[distilled]", "students.seeds=1"))
    sizes, images = result["bytes"], result["images"]
    rounds = min(images["naturals"])
    assert images["compensators"] == rounds > 0
    assert sum(images["naturals"]) > 10 * rounds
    assert 0 <= sizes["budget"] - sizes["file"] < 400  # an image with its label, and what is spared for the header


def test_a_class_that_can_hold_nothing_out_is_told_before_teachers_are_trained(config, tmp_path):
    with pytest.raises(infer.UserError, match="class number 9 has one picture; a split needs two"):
        distill(config("distill", "method=random", "budget=auto", "dataset.imbalance=142", "ipc=20"))
    assert not list(tmp_path.rglob("teacher.safetensors"))


def test_too_few_bytes_for_a_natural_of_every_class_are_one_line(config):
    for method in ("random", "herding", "infer"):
        with pytest.raises(
            infer.UserError, match=r"^ipc=4: \d naturals fit beside the labels, fewer than the 10 class"
        ):
            distill(config("distill", f"method={method}", "budget=raw", "ipc=4"))


def test_students_of_every_method_take_as_many_steps(config):
    """Though recipes count epochs, and every method makes another number of images to pass over."""
    steps = set()
    for words in (["method=infer"], ["method=random"], ["method=infer_plus", "labels.scout=5"]):
        words += ["ipc=20", "recipe.student.steps=null", "recipe.student.epochs=2", "students.seeds=1"]
        rows = distill(config("distill", *words, "students.sources=[distilled,random]"))["students"]
        steps |= {row["steps"] for row in rows}
    assert len(steps) == 1


def test_chosen_views_and_compensators_of_coded_naturals(config, tmp_path):
    words = ["students.seeds=1", "students.sources=[distilled]", "ipc=20", "budget=coded"]
    distill(config("distill", *words, "labels=views", "labels.candidates=4", "labels.scout=20"))
    (file,) = files(tmp_path)
    made = infer.load(file)
    assert made.choices.unique().tolist() == [0, 1, 2, 3]
    assert not list(tmp_path.rglob("*.ckpt"))
    assert made.label_bytes == 128 * 10 + 32
    assert len(made.compensators) == len(made.naturals) // 10 > 0
    assert made.views.pool == made.pool == len(made.naturals) + 10 * len(made.compensators)
    assert file.stat().st_size <= 20 * 10 * 64
    made.export(tmp_path / "out")
    with (tmp_path / "out" / "labels.csv").open(encoding="utf-8") as table:
        assert {row["kind"] for row in csv.DictReader(table)} == {"view"}
    content = bytearray(file.read_bytes())
    start = content.index(b"ftypavif")
    content[start : start + 400] = bytes(400)
    file.write_bytes(content)
    with pytest.raises(infer.UserError, match="cannot be decoded"):
        infer.load(file)


def test_soft_labels_of_a_rival_are_the_papers_beside_views_too(config, monkeypatch):
    """They average logits, unless labels.space says otherwise; views are stored as probabilities whatever it says."""
    spaces = {}
    of_set = StudentData.of_set

    def seen(chosen, networks):
        spaces[chosen.header.labels] = chosen.header.space
        return of_set(chosen, networks)

    monkeypatch.setattr(StudentData, "of_set", seen)
    words = ["method=random", "budget=raw", "ipc=20", "students.seeds=1", "labels=views"]
    words += ["students.sources=[distilled,random_static]"]
    for space, more in {"logits": [], "probabilities": ["labels.space=probabilities"]}.items():
        distill(config("distill", *words, *more))
        assert spaces == {"views": "probabilities", "static": space}


def test_compensators_of_the_seed_take_no_byte_and_the_rival_has_them_too(config, tmp_path):
    words = ["method=random", "budget=raw", "labels=views", "students.seeds=1", "ipc=20"]
    results = {}
    for count in (0, 8):
        more = [f"labels.compensators={count}", f"output={tmp_path / str(count)}"]
        assert ("compensators" in decisive(config("distill", *words, *more))["labels"]) == (count > 0)
        results[count] = distill(config("distill", *words, *more, "students.sources=[distilled,random]"))
    without, made = (infer.load(files(tmp_path / str(count))[0]) for count in (0, 8))
    assert (without.views.compensators, made.views.compensators) == (0, 8)
    assert (made.label_bytes, len(made.compensators)) == (without.label_bytes, 0)
    assert 0 <= len(without.naturals) - len(made.naturals) <= 1  # for a longer header
    assert not torch.equal(without.labels, made.labels)
    ours, rival = results[8]["students"]
    assert ours["accuracy_mean"] == rival["accuracy_mean"]  # the same seed's pictures and views: the same set
    bad = tmp_path / "bad.safetensors"
    for foreign in ({"compensators": 10**6}, {"seed": 2**64}):
        replace(made, header=replace(made.header, views={**made.header.views, **foreign})).save(bad)
        with pytest.raises(infer.UserError, match="out of range"):
            infer.load(bad)


def test_of_every_view_the_candidate_is_kept_that_tells_most(config, tmp_path, monkeypatch):
    def brightness(_, images: torch.Tensor) -> torch.Tensor:  # stands for the scout, whose weights no file keeps
        return images.float().mean(dim=(1, 2, 3))

    monkeypatch.setattr(Assembly, "_telling", brightness)
    words = ["method=infer_plus", "students.seeds=1", "students.sources=[distilled,random]", "ipc=20"]
    ours, rival = distill(config("distill", *words))["students"]
    assert rival["bytes"] == pytest.approx(ours["bytes"], rel=0.03)
    made = infer.load(files(tmp_path)[0])
    told = []
    for number in range(4):
        candidates = replace(made, choices=torch.full((made.views.count,), number))
        told.append(brightness(None, candidates.images(torch.arange(len(made)))))
    assert made.choices.tolist() == torch.stack(told).argmax(dim=0).tolist()


def test_what_tells_is_measured_on_the_scout_as_it_will_be_tested(config, tmp_path, monkeypatch):
    seen = []

    def spied(assembly: Assembly, images: torch.Tensor) -> torch.Tensor:
        found = measure(assembly, images)
        if not seen:
            assert not assembly._scout.training
            inputs = normalise(images, *assembly.bench.data.moments)
            with torch.no_grad():
                teachers = torch.stack([teacher.network(inputs) for teacher in assembly.teachers])
                expected = infer_plus.telling(assembly._scout.network(inputs), teachers, 4.0)
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
            seen.append(len(images))
        return found

    measure = Assembly._telling
    monkeypatch.setattr(Assembly, "_telling", spied)
    words = ["method=infer_plus", "students.seeds=1", "students.sources=[distilled]", "ipc=20", "labels.scout=20"]
    distill(config("distill", *words, "recipe.student.temperature=4"))
    assert seen[0] > 100  # pictures of a whole class
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_file_of_chosen_views_keeps_to_the_bytes(config, tmp_path):
    words = ["method=infer_plus", "students.seeds=1", "students.sources=[distilled]", "labels.scout=20", "budget=raw"]
    for ipc in (12, 13):
        sizes = distill(config("distill", *words, f"ipc={ipc}"))["bytes"]
        assert sizes["budget"] - 300 < sizes["file"] <= sizes["budget"] == ipc * 640


def test_the_budget_is_chosen_on_held_out_pictures_once(config, tmp_path, caplog):
    words = ["method=random", "budget=auto", "labels=views", "students.seeds=1", "students.sources=[distilled]"]
    words += ["budget.choices.labels.share=[0.02,0.2]", "budget.choices.budget.quality=[40,60]", "ipc=20"]
    result = distill(config("distill", *words))
    assert len(result["choices"]) == 4
    best = max(result["choices"], key=lambda choice: choice["accuracy"])
    assert result["budget"]["quality"] == best["budget.quality"]
    assert result["budget"]["label_share"] == best["labels.share"]
    with caplog.at_level("INFO", logger="infer"):
        again = distill(config("distill", *words, "seed=1"))
    assert again["choices"] == result["choices"]
    assert "of the held-out pictures" not in caplog.text  # found, not measured anew
    assert infer.load(files(tmp_path)[0]).views.count == round(best["labels.share"] * 20 * 64)
