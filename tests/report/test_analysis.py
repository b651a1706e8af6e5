"""The analysis of a distilled file, against plain statements of its definitions on a tiny set."""

import json
import math
import statistics

import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score
from tiny_analysis import CLASSES, STORED, inputs
from torch.nn.functional import cross_entropy

from infer.core import codec, ufc
from infer.report.analysis import REPORTED, ReportArrays, analyse, usable
from infer.report.arrays import KINDS
from infer.report.contents import privacy
from infer.report.decisions import accuracy_loss, gain_over_random, paired_interval
from infer.report.feature_space import FeatureSpace

CALLERS = {"student", "seeds", "real_coded"}
EVIDENCE = {
    *("level", "test_pictures", "rarest", "loss", "against_random", "mixed_in", "sources"),
    *("classes", "kept", "components", "privacy"),
}


def logits(given, student, images) -> torch.Tensor:
    return student(ufc.normalise(images, *given.data.moments))


def correct(given, source: str) -> torch.Tensor:
    """Whether each student of a source classifies each test image correctly: float32 [S, N]."""
    test = given.data.test
    answers = [logits(given, student, test.images).argmax(1) == test.targets for student in given.students[source]]
    return torch.stack(answers).float()


@pytest.mark.parametrize("kind", ["composed", "views", "stored"])
def test_the_analysis_has_its_keys_and_can_be_written_as_json(kind, tmp_path):
    found, arrays = analyse(inputs(kind))
    assert set(found) == EVIDENCE
    assert not CALLERS & set(found)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set(found["sources"]) == set(REPORTED)
    assert set(found["kept"]) == {"naturals", "random"} | ({"composed"} if kind != "stored" else set())
    assert ("nearness" in found["privacy"]) == (kind != "stored")
    arrays.save(tmp_path / "arrays.safetensors")
    loaded = ReportArrays.load(tmp_path / "arrays.safetensors")
    assert loaded.margins.keys() == arrays.margins.keys() == set(REPORTED)
    for name, value in arrays._asdict().items():
        if name != "margins":
            assert torch.equal(getattr(loaded, name), value)


def of_images(weight: torch.Tensor, difference: torch.Tensor) -> tuple[float, float]:
    """The interval with one image more that each source alone has right, of the weight of an average image."""
    average = float((weight**2).sum())
    pairs = [*zip(weight.tolist(), difference.tolist(), strict=True), (average, 1.0), (average, -1.0)]
    whole = sum(share for share, _ in pairs)
    mean = sum(share * each for share, each in pairs) / whole
    half = 1.959964 * sum((share / whole * (each - mean)) ** 2 for share, each in pairs) ** 0.5
    return mean - half, mean + half


@pytest.mark.parametrize("balanced", [False, True])
def test_the_loss_is_the_difference_of_accuracies_and_its_interval_that_of_images_and_students(balanced):
    given = inputs(balanced=balanced)
    targets = given.data.test.targets
    weight = torch.ones(len(targets)) / len(targets)
    if balanced:
        weight = 1 / (3 * targets.bincount()[targets].float())
    assert accuracy_loss(given)["balanced"] is balanced
    for found, pair in ((accuracy_loss(given), ("real", "distilled")), (gain_over_random(given), SECOND)):
        better, worse = (correct(given, source) for source in pair)
        difference = (better - worse).mean(0)
        points = float((weight * difference).sum())
        assert found["points"] == pytest.approx(points, abs=1e-6)
        low, high = of_images(weight, difference)
        variance = sum(statistics.variance((weight * each).sum(1).tolist()) / 2 for each in (better, worse))
        of_students = float(stats.t.ppf(0.975, 2)) * variance**0.5
        assert points - found["low"] == pytest.approx(math.hypot(points - low, of_students), abs=1e-6)
        assert found["high"] - points == pytest.approx(math.hypot(high - points, of_students), abs=1e-6)
    loss = accuracy_loss(given)
    assert loss["real"] - loss["distilled"] == pytest.approx(loss["points"], abs=1e-6)


SECOND = ("distilled", "random")


def test_one_student_has_the_interval_of_the_images_alone():
    loss = accuracy_loss(inputs(seeds=1))
    difference = (correct(inputs(seeds=1), "real") - correct(inputs(seeds=1), "distilled"))[0]
    low, high = of_images(torch.ones(len(difference)) / len(difference), difference)
    assert (loss["low"], loss["high"]) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))


def test_few_images_that_all_sources_classify_alike_have_a_wide_interval():
    low, high = paired_interval(torch.zeros(5), torch.full((5,), 0.2))
    assert (low, high) == (pytest.approx(-0.3959, abs=1e-4), pytest.approx(0.3959, abs=1e-4))  # 1.96 * sqrt(2) / 7
    one = paired_interval(torch.zeros(1), torch.ones(1))  # 1.96 * sqrt(2) / 3
    assert one == (pytest.approx(-0.9239, abs=1e-4), pytest.approx(0.9239, abs=1e-4))


def test_the_interval_of_few_images_is_that_of_adjusted_counts():
    """Of ten images two are lost and one is won: 3 and 2 of 12, by Bonett and Price."""
    difference = torch.tensor([1.0, 1.0, -1.0] + [0.0] * 7)
    half = 1.959964 * ((5 / 12 - (1 / 12) ** 2) / 12) ** 0.5
    assert paired_interval(difference, torch.full((10,), 0.1)) == (
        pytest.approx(1 / 12 - half, abs=1e-6),
        pytest.approx(1 / 12 + half, abs=1e-6),
    )


def test_the_interval_of_many_images_is_that_of_their_standard_error():
    difference = torch.tensor([1.0] * 100 + [-1.0] * 40 + [0.0] * 1860)
    half = 1.959964 * (0.07 - 0.03**2) ** 0.5 / 2000**0.5
    low, high = paired_interval(difference, torch.full((2000,), 1 / 2000))
    assert low == pytest.approx(0.03 - half, abs=5e-4)  # below the rounding to tenths of a point
    assert high == pytest.approx(0.03 + half, abs=5e-4)


def test_mistakes_are_images_that_most_students_of_the_file_alone_get_wrong():
    found, arrays = analyse(inputs())
    real, file = (correct(inputs(), source).mean(0) > 0.5 for source in ("real", "distilled"))
    test = inputs().data.test
    assert sum(each["lost"] for each in found["classes"]) == int((real & ~file).sum()) > 0
    assert sum(each["won"] for each in found["classes"]) == int((file & ~real).sum())
    assert [each["pictures"] for each in found["classes"]] == test.targets.bincount().tolist()
    recalls = correct(inputs(), "distilled")
    for number, each in enumerate(found["classes"]):
        assert each["recall"]["distilled"] == pytest.approx(float(recalls[:, test.targets == number].mean()))
    assert len(arrays.mistakes) == len(arrays.taken) == sum(each["shown"] for each in found["classes"]) > 0
    lost = {image.numpy().tobytes() for image in test.images[real & ~file]}
    assert {image.numpy().tobytes() for image in arrays.mistakes} <= lost
    assert (arrays.taken[:, 0] != arrays.taken[:, 1]).all()


def test_confused_classes_are_named_and_decisions_flip():
    found = analyse(inputs())[0]["sources"]["distilled"]
    assert {found["confused"][0]["one"], found["confused"][0]["other"]} <= set(CLASSES)
    assert found["confused"][0]["share"] == max(pair["share"] for pair in found["confused"]) > 0
    assert 0 < found["turned"] < 1
    assert -1 < found["margin_quarter"] < found["margin_median"] < 1


def test_the_random_row_has_as_many_training_images_as_the_file_stores():
    found = analyse(inputs())[0]["kept"]
    assert found["naturals"]["images"] == found["random"]["images"] == STORED
    assert sum(each["images"] for each in found["composed"]["classes"]) == found["composed"]["images"]
    assert found["naturals"]["memorised_fid"] is None
    assert found["composed"]["memorised_fid"] >= found["composed"]["fid"]


def test_components_are_those_of_the_test_images():
    given = inputs()
    space = FeatureSpace(given)
    batch = ufc.normalise(given.data.test.images, *given.data.moments)
    centred = given.teacher[:-1](batch) - given.teacher[:-1](batch).mean(0)
    distances = torch.pdist(space.embed(given.data.test.images[:20]))
    assert space.dimensions == 32
    assert torch.allclose(distances, torch.pdist(centred[:20]), atol=1e-4)  # 32 features keep all their distances
    spread = space.test.var(0)
    assert (spread.diff() <= 1e-6).all()


def test_the_attack_is_on_stored_images_and_test_images_under_the_same_codec():
    given = inputs()
    found = privacy(given, FeatureSpace(given))["distilled"]
    test = given.data.test
    compressed = codec.decode(codec.encode(given.test.images, "webp", 40), len(test), (1, 8, 8))
    student = given.students["distilled"][0]
    members = cross_entropy(
        logits(given, student, given.distilled.naturals), given.distilled.natural_targets, reduction="none"
    )
    others = cross_entropy(logits(given, student, compressed), given.test.targets, reduction="none")
    is_member = [True] * len(members) + [False] * len(others)
    assert found["auc"] == pytest.approx(roc_auc_score(is_member, (-torch.cat([members, others])).tolist()))
    assert (found["members"], found["others"]) == (STORED, len(test))
    raw = inputs("stored")
    assert torch.equal(raw.compressed(raw.test).images, raw.test.images)


def test_the_attack_asks_the_first_student_alone():
    given = inputs(seeds=2)
    seen = []
    for each in given.students["distilled"]:
        each.register_forward_hook(lambda module, *_: seen.append(module))
    privacy(given, FeatureSpace(given))
    assert set(seen) == {given.students["distilled"][0]}


def test_the_class_map_has_all_kinds_in_one_plane():
    arrays = analyse(inputs())[1]
    counts = arrays.kind.bincount(minlength=len(KINDS)).tolist()
    composed = len(inputs().distilled) - STORED
    assert counts == [200, STORED, composed, STORED, 0]  # the random set composes nothing
    assert arrays.points.shape == (sum(counts), 2)
    assert arrays.of[arrays.kind == 1].tolist() == inputs().distilled.natural_targets.tolist()


def test_a_row_is_usable_while_its_weights_exist(tmp_path):
    file = tmp_path / "student.safetensors"
    assert not usable({})
    assert not usable({"weights": [str(file)]})
    file.touch()
    assert usable({"weights": [str(file)]})
