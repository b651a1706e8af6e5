"""What options put into a set, and how its students are trained."""

import json

from conftest import files

from infer.core.identity import as_identity
from infer.core.options import UFCOptions
from infer.data import DatasetOptions
from infer.models.compensator import MicroBatch
from infer.models.options import BackboneOptions
from infer.pipeline.options import DistillOptions, RecipeOptions, StudentsOptions, TeachersOptions
from infer.pipeline.run import create
from infer.training import compensators
from infer.training.options import StudentOptions, TeacherOptions, TrainerOptions


def test_labels_mixing_and_budget_are_options(run):
    results = {}
    short = ["students.sources=[distilled,random,random_hard]", "students.seeds=1", "ipc=3"]
    for name, overrides in {
        "static": [],
        "probabilities": ["labels.space=probabilities", "mixing=cutmix"],
        "dynamic": ["labels=dynamic", "mixing.natural_ratio=0.5"],
        "hard": ["labels=hard", "mixing=none"],
        "filled": ["budget=filled"],
        "random": ["method=random"],
    }.items():
        results[name] = run("distill", *short, *overrides)
    assert [row["source"] for row in results["hard"]["students"]] == ["distilled", "random"]
    sizes = {name: result["bytes"] for name, result in results.items()}
    images = {name: size["natural"] + size["compensators"] for name, size in sizes.items()}
    assert images["filled"] == images["random"] == sizes["filled"]["budget"] > images["static"]
    assert sizes["dynamic"]["labels"] > 50_000  # the teacher itself
    assert sizes["hard"]["labels"] < 30
    assert results["random"]["images"]["compensators"] == 0
    assert results["dynamic"]["students"][0]["steps"] == 10  # M + 1 times fewer


def test_students_of_every_method_take_as_many_steps(run):
    """Though recipes count epochs, and every method makes another number of images to pass over."""
    steps = set()
    for words in (["method=infer"], ["method=random"], ["method=infer_plus", "labels.proxy_steps=5"]):
        words += ["ipc=20", "recipe.student.steps=null", "recipe.student.epochs=2", "students.seeds=1"]
        rows = run("distill", *words, "students.sources=[distilled,random]")["students"]
        steps |= {row["steps"] for row in rows}
    assert len(steps) == 1


def test_micro_batches_are_measured_once_and_kept(run, monkeypatch, tmp_path):
    used = []

    class Spied(compensators.CompensatorModule):
        def __init__(self, name, problem, micro_batch, compile):
            used.append((tuple(problem.targets.shape), micro_batch))
            super().__init__(name, problem, micro_batch, compile)

    monkeypatch.setattr(compensators, "CompensatorModule", Spied)
    words = ["students.sources=[distilled,random,random_hard]", "students.seeds=1", "ipc=4"]
    run("distill", *words)
    (kept,) = tmp_path.rglob("passes-*.json")
    content = json.loads(kept.read_text())
    assert content["measured_on"]["shape"] == [3, 10, 1, 8, 8]
    content["rounds"], content["classes"] = 1, 7  # what no measurement gives here
    kept.write_text(json.dumps(content))
    used.clear()
    run("distill", *words, "recipe.ufc.lr=0.2")
    assert used == [((3, 10), MicroBatch(1, 7))]
    run("distill", *words, "recipe.ufc.lr=0.2", "distill.chunk=4")  # other micro-batches, the same run
    assert len(used) == 1
    assert len(files(tmp_path)) == 2


def test_option_objects_and_networks_of_ones_own_are_a_run_without_a_command(tmp_path):
    options = DistillOptions(
        ipc=3,
        output=str(tmp_path),
        dataset=DatasetOptions("digits", "digits", image_size=8, channels=1, crop=1, flip=False, balanced=False),
        teachers=TeachersOptions(["mine"]),
        students=StudentsOptions(["mine"], 1, ["distilled"]),
        recipe=RecipeOptions(
            TeacherOptions(64, "nesterov", schedule="one_cycle", epochs=4),
            UFCOptions(20, jitter=1),
            StudentOptions(lr=0.01, schedule="one_cycle", epochs=None, steps=20, temperature=4.0),
        ),
        trainer=TrainerOptions("cpu"),
    )
    own = BackboneOptions("mine", "convnet", "auto", {"depth": 2, "width": 8, "norm": "batch"})
    result, folder = create(options, {"mine": own})
    assert folder == tmp_path / "distill" / "digits" / "infer-ipc3" / "seed0"
    assert files(tmp_path) == [folder / "distilled.safetensors"]
    assert [*result["teachers"]] == ["mine"]
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["backbones"] == {"mine": as_identity(own)}
    assert [(row["backbone"], row["source"], row["steps"]) for row in result["students"]] == [("mine", "distilled", 20)]
