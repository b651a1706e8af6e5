"""The decision: one advice by the first rule that applies, sizes, and the time to the same accuracy."""

import math

import pytest

from infer.report.decision import decision


def timeline(*points: tuple[float, float]) -> list[dict]:
    """Measurements of a student: the seconds and the accuracy of each; the balanced accuracy is a tenth lower."""
    return [
        {"step": 10 * at, "seconds": seconds, "accuracy": accuracy, "balanced_accuracy": accuracy - 0.1, "pictures": 50}
        for at, (seconds, accuracy) in enumerate(points, start=1)
    ]


def result(low=0.0, high=0.04, gained=0.01, size=100, coded=1000, folder=None, **other) -> dict:
    """A run whose file loses ``low`` to ``high`` and is at least ``gained`` ahead of random images; sizes in bytes."""
    row = {"backbone": "net", "seeds": 2, "seconds": 6.0, "weights": ["run/students/net-distilled/seed0/s.safetensors"]}
    return {
        "students": [{**row, "source": "distilled"}, {**row, "source": "real", "seconds": 20.0}],
        "evidence": {
            "student": "net",
            "real_coded": coded,
            "privacy": {"naturals": 10},
            "loss": {"points": (low + high) / 2, "low": low, "high": high, "balanced": False},
            "against_random": {"points": gained + 0.02, "low": gained, "high": gained + 0.04},
        },
        "data": {"folder_bytes": folder, "validation": None},
        "bytes": {"file": size, "budget": size},
        "budget": {"by": "bytes"},
        "method": "infer_plus",
        "labels": "views",
        "ipc": 4,
        "command": "python distill.py experiment=poc dataset.root='a b' budget.bytes=100",
        **other,
    }


def advice(**other) -> dict:
    return decision(result(**other), 0.05)["advice"]


def test_a_file_within_the_tolerance_and_ahead_of_random_images_is_used():
    student = "infer-predict run/students/net-distilled/seed0 FOLDER"
    assert advice() == {"choice": "use", "command": student, "bytes": None}
    assert advice(high=0.05)["choice"] == "use"  # the tolerance itself is accepted


@pytest.mark.parametrize("gained", [0.0, -0.001, -0.5])
def test_where_random_images_do_as_well_the_stored_images_are_enough(gained):
    assert advice(gained=gained) == {"choice": "pictures", "command": None, "bytes": None}


def test_a_draw_of_random_images_is_not_better_than_random_images():
    drawn = {"labels": "hard", "images": {"drawn": True, "compensators": 0}}
    assert advice(gained=0.02, **drawn)["choice"] == "pictures"
    assert advice(gained=0.02, **drawn | {"labels": "views"})["choice"] == "use"


def curve_of_classes(**accuracies: float) -> list[dict]:
    """Points of random images with their classes alone, by the number of images, and all images, of 0.9; ± 0.03."""
    ends = {"source": "real", "pictures": 90, "accuracy": 0.9, "low": 0.87, "high": 0.93, "budget": None}
    return [ends] + [
        {
            **ends,
            "source": "random_hard",
            "pictures": int(name[1:]),
            "accuracy": mean,
            "low": mean - 0.04,
            "budget": 100,
        }
        for name, mean in accuracies.items()
    ]


def test_the_stored_images_are_enough_where_as_many_with_their_classes_alone_are_too():
    """The bound of the loss is 0.9 - 0.905 + hypot(0.03, 0.04) = 0.045, in the tolerance of 0.05."""
    found = decision(result(gained=0, curve=curve_of_classes(_5=0.5, _9=0.905, _14=0.5)), 0.05)
    assert found["advice"] == {"choice": "pictures", "command": None, "bytes": None}
    classes = found["accuracy"]["classes"]
    assert (classes["points"], classes["high"], classes["pictures"]) == (pytest.approx(-0.005), pytest.approx(0.045), 9)
    assert classes["low"] == pytest.approx(-0.005 - math.hypot(0.03, 0.93 - 0.905))


@pytest.mark.parametrize("points", [{"_9": 0.89, "_14": 0.9}, {"_10": 0.89}, {"_14": 0.89}])
def test_the_soft_labels_are_needed_where_classes_alone_are_not_shown_to_do(points):
    found = advice(gained=0, curve=curve_of_classes(**points))
    assert found == {
        "choice": "labels",
        "command": "infer-predict run/students/net-distilled/seed0 FOLDER",
        "bytes": None,
    }
    assert advice(gained=0.01, curve=curve_of_classes(**points))["choice"] == "use"


@pytest.mark.parametrize("hard", [{"labels": "hard"}, {"pretrained": True}])
def test_students_with_hard_labels_are_themselves_those_of_classes_alone(hard):
    """Pretrained ones learn from the natural images of a file of mixed views, and from their classes."""
    content = result(gained=0, curve=curve_of_classes(_9=0.5), labels=hard.get("labels", "views"))
    if "pretrained" in hard:
        assert decision(content, 0.05)["advice"]["choice"] == "labels"
        content["evidence"]["hard_labels"] = True
    found = decision(content, 0.05)
    assert (found["accuracy"]["hard_labels"], found["accuracy"]["classes"]) == (True, None)
    assert found["advice"]["choice"] == "pictures"


def test_without_students_of_classes_alone_nothing_is_said_of_them():
    assert decision(result(), 0.05)["accuracy"]["classes"] is None
    assert advice(gained=0, curve=curve_of_classes())["choice"] == "pictures"


@pytest.mark.parametrize("method", ["rded", "sre2l"])
def test_created_images_are_not_advised_but_random_ones_are(method):
    command = f"python distill.py method={method} method.options.crops=2 ipc=4"
    found = advice(gained=0, method=method, command=command)
    assert found == {"choice": "others", "command": "python distill.py ipc=4 method=random", "bytes": None}
    assert advice(method=method, command=command)["choice"] == "use"


@pytest.mark.parametrize("sizes", [{"coded": 100}, {"coded": 99}, {"folder": 100}, {"folder": 20, "coded": 300}])
def test_all_images_are_kept_where_they_take_no_more_than_the_file_whatever_it_loses(sizes):
    for loss in ({}, {"low": 0.2, "high": 0.3}, {"gained": -0.1}):
        assert advice(**sizes, **loss) == {"choice": "keep", "command": None, "bytes": None}
    assert advice(coded=101, folder=101)["choice"] == "use"


def test_beyond_the_tolerance_a_small_file_is_made_twice_as_large():
    found = advice(low=0.06, high=0.0701)
    assert (found["choice"], found["bytes"]) == ("larger", 200)
    assert found["command"] == "python distill.py experiment=poc 'dataset.root=a b' budget.bytes=200 report.curve=null"
    assert advice(low=0.05, high=0.06, coded=201)["choice"] == "larger"
    assert advice(low=0.05, high=0.06, coded=200) == {"choice": "decline", "command": None, "bytes": None}


def test_an_interval_that_reaches_beyond_the_tolerance_alone_asks_for_more_students():
    found = advice(low=0.01, high=0.0501, command="python distill.py ipc=4 students.seeds=2 seed=1")
    assert found == {"choice": "unsure", "command": "python distill.py ipc=4 seed=1 students.seeds=4", "bytes": None}
    assert advice(low=-0.08, high=0.08, coded=150)["choice"] == "unsure"  # however large the file is


def test_a_run_with_a_time_gets_twice_of_it():
    """Its students are as many as the time has room for: students.seeds alone would find the same plan."""
    found = advice(low=0.01, high=0.0501, command="python distill.py time=16m ipc=4 students.seeds=2")
    assert found["command"] == "python distill.py ipc=4 students.seeds=2 time=32m"
    assert (
        advice(low=0.01, high=0.0501, command="python distill.py time=1.5h")["command"] == "python distill.py time=3h"
    )


def test_a_budget_of_images_is_doubled_in_images():
    given = {"budget": {"by": "images"}, "command": "python distill.py ipc=4 seed=1"}
    assert advice(low=0.05, high=0.06, **given)["command"] == "python distill.py seed=1 ipc=8"


def test_budgets_that_the_learning_curve_tried_are_not_advised_again():
    curve = [{"source": "distilled", "budget": 300}, {"source": "real", "budget": None}]
    assert advice(low=0.05, high=0.06, curve=curve, recommended=None)["bytes"] == 600
    assert advice(low=0.05, high=0.06, curve=curve, recommended=None, coded=600)["choice"] == "decline"


def test_the_recommended_budget_is_advised_where_it_is_larger_than_the_files():
    known = {"budget": 300, "command": "python distill.py budget.bytes=300"}
    curve = [{"source": "distilled", "budget": 300}]
    found = advice(low=0.05, high=0.06, curve=curve, recommended=known)
    assert found == {"choice": "larger", "command": known["command"], "bytes": 300}
    smaller = {"budget": 50, "command": "python distill.py budget.bytes=50"}
    assert (
        advice(low=0.05, high=0.06, curve=[{"source": "distilled", "budget": 50}], recommended=smaller)["bytes"] == 200
    )


def test_sizes_are_compared_with_those_of_the_file():
    storage = decision(result(size=100, coded=250, folder=4000), 0.05)["storage"]
    assert storage == {
        "file": 100,
        "folder": 4000,
        "coded": 250,
        "times_smaller_folder": 40,
        "times_smaller_coded": 2.5,
    }
    assert decision(result(), 0.05)["storage"]["times_smaller_folder"] is None


def timed(real: list, file: list, balanced: bool = False) -> dict:
    content = result()
    content["students"][0]["timelines"], content["students"][1]["timelines"] = file, real
    content["evidence"]["loss"]["balanced"] = balanced
    return decision(content, 0.05)["time"]


FILE = [timeline((3.0, 0.8)), timeline((3.2, 0.9))]
"""Two students of a file, which are measured at their end: 0.85 in the mean."""


def test_the_time_to_the_same_accuracy_is_that_of_the_first_measurement_which_has_it():
    # above by chance at 1 s, and not yet for good
    real = [timeline((1.0, 0.9), (1.5, 0.7), (2.0, 0.85), (3.0, 0.95)), timeline((1.0, 0.5), (2.0, 0.8), (4.0, 0.99))]
    found = timed(real, FILE)
    assert (found["file"], found["real"]) == (3.0, 3.0)  # 2 s and 4 s
    assert found["low"] == 0  # 3 - 12.706 * sqrt(2) / sqrt(2) is below zero
    assert found["high"] == pytest.approx(3 + 12.7062, abs=1e-3)
    assert (found["reached"], found["students"], found["pictures"]) == (2, 2, 50)


def test_the_accuracy_is_the_one_that_the_loss_is_measured_in():
    real = [timeline((1.0, 0.84), (2.0, 0.86))] * 2
    for each in real[0]:
        each["balanced_accuracy"] = 0.75  # that of the file's students in the mean, from the first measurement on
    assert timed(real, FILE)["real"] == 2
    assert timed(real, FILE, balanced=True)["real"] == 1


def test_students_that_are_never_as_accurate_have_no_time():
    found = timed([timeline((1.0, 0.9)), timeline((1.0, 0.7), (2.0, 0.84))], FILE)
    assert (found["real"], found["low"], found["high"], found["reached"]) == (None, None, None, 1)


def test_a_single_student_has_no_interval():
    found = timed([timeline((1.0, 0.9))], FILE[:1])
    assert (found["real"], found["low"], found["high"]) == (1.0, None, None)


def test_a_training_without_measurements_is_told():
    found = decision(result(), 0.05)["time"]
    assert (found["file"], found["real"], found["reached"], found["pictures"]) == (3.0, None, None, None)
