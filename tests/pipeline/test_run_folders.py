"""The folder of a run: what decides it, what is found in it again, and what version 0.1 left there."""

import json
import shutil

import pytest
from conftest import files

import infer
from infer.cli import schema
from infer.core.files import find_folder, read_json, read_tensors, write_json
from infer.core.sources import SOURCES
from infer.pipeline.records import analysis_digests
from infer.pipeline.run_folder import Run, is_same_set

TEACHER = {"batch": 64, "optimizer": "nesterov", "lr": 0.1, "weight_decay": 0.0005, "schedule": "one_cycle"}
STUDENT = {"batch": 64, "optimizer": "adamw", "lr": 0.01, "weight_decay": 0.01, "schedule": "one_cycle"}
CONVNET = {"depth": 3, "width": 32, "norm": "batch"}
SHARED = {
    "data": "644c00adcaa936d6",
    "crop": 1,
    "flip": False,
    "resized_crop": None,
    "precision": "32-true",
    "ipc": 5,
    "seed": 0,
    "teachers": {"backbones": ["convnet_narrow"], "seed": 0, "margin": 0.1},
    "students": {"backbones": ["convnet_narrow"], "seeds": 2},
    "recipe": {
        "teacher": {**TEACHER, "epochs": 4, "min_steps": 0},
        "ufc": {"steps": 20, "lr": 0.25, "bn_weight": 1.0, "first_weight": 10.0, "jitter": 1, "resized_crop": None},
        "student": {**STUDENT, "epochs": None, "steps": 20, "real_epochs": 1, "temperature": 4.0},
    },
    "mixing": {"kind": "mixup", "alpha": 0.8, "natural_ratio": None},
    "backbones": {"convnet_narrow": {"name": "convnet_narrow", "model": "convnet", "stem": "auto", "options": CONVNET}},
}
CHOICES = {
    "budget": {"codec": None, "quality": None},
    "labels": {"share": None, "candidates": None, "mixing": None},
    "mixing": {"alpha": None, "natural_ratio": None},
}
BUDGET = {"codec": None, "quality": 50, "per_class": "uniform", "choices": CHOICES}
LABELS = {"space": "logits", "share": 0.1, "mixing": "cutmix", "candidates": 1, "scout": 1500}

VERSION_0_1 = {
    "ipc=5": {
        **SHARED,
        "budget": {"by": "images", "fill": False, **BUDGET},
        "labels": {"kind": "static", **LABELS},
        "method": {"name": "infer", "compensators": True, "options": {}},
    },
    "ipc=8 method=random budget=raw labels=views labels.smooth_noise=8 dataset.imbalance=40 dataset.balanced=true": {
        **SHARED,
        "ipc": 8,  # at 5 the header leaves no room for an image of every class
        "data": "447597fd7ceb7307",
        "balanced": True,
        "budget": {"by": "bytes", "fill": True, **BUDGET},
        "labels": {"kind": "views", **LABELS, "compensators": 8},  # by which name 0.1 called smooth noise
        "method": {"name": "random", "compensators": False, "options": {}},
    },
}
"""The settings.json that version 0.1 wrote for the command in small (TINY), by its further words."""


def prepared(config, *words: str) -> Run:
    options = config("distill", *words)
    return Run.prepare(options, schema.backbones(options))


@pytest.mark.parametrize("words", VERSION_0_1, ids=["static", "views"])
def test_a_run_of_version_0_1_is_found_again_and_is_to_be_made_again(config, run, words, tmp_path, caplog):
    """Its folder is the same; its result has no digests, by which its files could be known again."""
    place = prepared(config, *words.split()).place
    named = f"{VERSION_0_1[words]['method']['name']}-ipc{VERSION_0_1[words]['ipc']}"
    assert place == tmp_path / "outputs" / "distill" / "digits" / named / "seed0"
    place.mkdir(parents=True)
    (place / "settings.json").write_text(json.dumps(VERSION_0_1[words]))
    (place / "distilled.safetensors").touch()
    rows = [{"backbone": "convnet_narrow", "source": source} for source in SOURCES]
    (place / "result.json").write_text(json.dumps({"students": rows}))
    found = run("distill", *words.split(), "dry_run=true")
    assert found == {"state": "unfinished", "folder": str(place)}
    assert "result.json: dataset: field required; the set is created again" in caplog.text


@pytest.mark.parametrize("words", VERSION_0_1, ids=["static", "views"])
def test_settings_have_the_keys_and_names_of_version_0_1(config, words):
    assert json.loads(json.dumps(prepared(config, *words.split()).settings)) == VERSION_0_1[words]


def test_given_moments_are_settings_and_leave_the_place(config):
    plain = prepared(config, "ipc=4")
    given = prepared(config, "ipc=4", "dataset.mean=[0.1]", "dataset.std=[0.9]")
    assert plain.place == given.place
    assert {**plain.settings, "moments": [[pytest.approx(0.1)], [pytest.approx(0.9)]]} == given.settings


def test_rows_come_to_a_finished_table_and_none_is_trained_again(run, tmp_path):
    words = ["ipc=5", "students.seeds=1"]
    before = run("distill", *words, "students.sources=[random,distilled]")
    file = files(tmp_path)[0]
    written = file.stat().st_mtime_ns
    shutil.rmtree(file.parent / "students")  # so that no student of the first time can be read
    after = run("distill", *words, "students.sources=[distilled,distilled_hard,random_hard]")
    assert [row["source"] for row in after["students"]] == ["distilled", "distilled_hard", "random", "random_hard"]
    assert [row for row in after["students"] if row in before["students"]] == before["students"]
    assert {key: after[key] for key in ("bytes", "images", "teachers")} == {
        key: before[key] for key in ("bytes", "images", "teachers")
    }
    assert files(tmp_path) == [file]
    assert file.stat().st_mtime_ns == written
    shown = run("distill", *words, "students.sources=[distilled]")
    assert shown == after
    plain = run("distill", *words, "students.sources=[distilled_plain,random_plain,random_images,real]")
    sources = [row["source"] for row in plain["students"]]
    assert sources == [s for s in SOURCES if s != "random_static"]  # labels are static: that row is random's
    assert {"label_robust", "augmentation_robust"} <= set(plain["scores"]["convnet_narrow"])


def test_more_students_and_other_backbones_come_to_a_finished_table(run, tmp_path):
    words = ["ipc=5", "students.sources=[distilled,random]"]
    before = run("distill", *words, "students.seeds=1")
    (file,) = files(tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in [file, *file.parent.rglob("student.safetensors")]}
    more = run("distill", *words, "students.seeds=2")["students"]
    assert [(row["source"], row["seeds"]) for row in more] == [("distilled", 2), ("random", 2)]
    assert [row["accuracies"][0] for row in more] == [row["accuracy_mean"] for row in before["students"]]
    after = run("distill", *words, "students.seeds=1", "students.backbones=[convnet_deep]")
    assert [(row["backbone"], row["source"], row["seeds"]) for row in after["students"]] == [
        ("convnet_narrow", "distilled", 2),
        ("convnet_deep", "distilled", 1),
        ("convnet_narrow", "random", 2),
        ("convnet_deep", "random", 1),
    ]
    assert [row for row in after["students"] if row["backbone"] == "convnet_narrow"] == more
    assert set(after["scores"]) == {"convnet_narrow", "convnet_deep"}
    assert files(tmp_path) == [file]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert run("distill", *words, "students.seeds=1") == after
    at_once = run("distill", *words, "students.seeds=2", f"output={tmp_path}/elsewhere")["students"]
    assert [row["accuracies"] for row in at_once] == [row["accuracies"] for row in more]


def test_an_analysis_of_fewer_students_does_not_stay(run):
    words = ["ipc=5", "students.sources=[distilled,random,real]", "labels=hard"]
    first = run("distill", *words, "students.seeds=1", "report.language=en")
    assert first["evidence"]["seeds"] == 1
    assert "evidence" in run("distill", *words, "students.seeds=1", "students.backbones=[convnet_deep]")
    assert "evidence" not in run("distill", *words, "students.seeds=2")


@pytest.mark.parametrize("old", [False, True])
def test_a_report_whose_weights_were_deleted_stays_and_nothing_is_trained_for_it(run, tmp_path, caplog, old):
    """One of an earlier version lacks the comparison with random images, which one line says."""
    words = ["ipc=5", "students.sources=[distilled,random,real]", "labels=hard", "students.seeds=1"]
    first = run("distill", *words, "report.language=en")
    (page,) = tmp_path.rglob("report.html")
    if old:
        del first["evidence"]["against_random"]
        first["analysis_digests"] = analysis_digests(page.parent, first)
        write_json(page.parent / "result.json", first)
    before = page.read_bytes()
    students = [path.unlink() or path for path in tmp_path.rglob("student.safetensors")]
    assert run("distill", *words, "report.language=en", "dry_run=true")["state"] == "finished"
    again = run("distill", *words, "report.language=en")
    more = run("distill", *words, "report.language=en", "students.sources=[distilled,random,distilled_plain,real]")
    assert again["evidence"] == more["evidence"] == first["evidence"]
    assert not any(path.exists() for path in students)
    assert [row for row in more["students"] if row["source"] != "distilled_plain"] == again["students"]
    assert len(more["students"]) == 4
    assert ("lacks the comparison with random images" in caplog.text) == old
    assert (page.read_bytes() == before) == old  # the new row is on a page of this version


@pytest.mark.parametrize(
    ("words", "more", "same"),
    [
        ([], ["students.seeds=7"], True),
        ([], ["students.backbones=[convnet_deep]"], True),
        ([], ["students.backbones=[convnet_deep,convnet_narrow]", "students.sources=[real]"], True),
        ([], ["ipc=4"], False),
        ([], ["recipe.student.lr=0.02"], False),
        ([], ["teachers.backbones=[convnet_deep]"], False),
        (["method=infer_plus", "ipc=20"], ["students.backbones=[convnet_narrow,convnet_deep]"], True),
        (["method=infer_plus", "ipc=20"], ["students.backbones=[convnet_deep]"], False),  # the proxy model
        (["method=random", "labels=views", "labels.candidates=2"], ["students.backbones=[convnet_deep]"], False),
        (
            ["budget=coded", "ipc=20", "budget.choices.budget.quality=[40,60]"],
            ["students.backbones=[convnet_deep]"],
            False,
        ),
        (["budget=coded", "ipc=20", "budget.choices.budget.quality=[40,60]"], ["students.seeds=7"], True),
    ],
)
def test_a_set_is_found_again_by_what_made_it(config, words, more, same):
    first, other = prepared(config, "ipc=5", *words), prepared(config, "ipc=5", *words, *more)
    place = first.place.with_name("seed0-0123456789abcdef")  # where an earlier version put it, beside another run
    write_json(first.place / "settings.json", {"ipc": 99})
    write_json(place / "settings.json", first.settings)
    assert find_folder(first.place, first.settings, first.is_same) == (place, True)
    found = find_folder(first.place, other.settings, other.is_same)
    assert (found == (place, True)) is same
    assert found[1] is same
    write_json(found[0] / "settings.json", other.settings)  # of equal ones, its own is the first
    assert find_folder(first.place, other.settings, other.is_same) == (found[0], True)


def test_a_network_that_changes_is_another_only_where_it_made_the_set(config):
    def known(name: str) -> dict:
        settings = json.loads(json.dumps(prepared(config, "students.backbones=[convnet_deep]").settings))
        settings["backbones"][name]["options"] = {"width": 5}
        return settings

    wanted = prepared(config, "students.backbones=[convnet_deep]").settings
    assert is_same_set(known("convnet_deep"), wanted, with_student=False)
    assert not is_same_set(known("convnet_deep"), wanted, with_student=True)
    assert not is_same_set(known("convnet_narrow"), wanted, with_student=False)
    assert not is_same_set({"students": 3}, wanted, with_student=False)


def test_a_damaged_file_is_named(tmp_path):
    for name, read in (("result.json", read_json), ("u.safetensors", read_tensors)):
        (tmp_path / name).write_bytes(b'{"seed": ')
        with pytest.raises(infer.UserError, match=rf"{name}: cannot be read .*; remove it"):
            read(tmp_path / name)
