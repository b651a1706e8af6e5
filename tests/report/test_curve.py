"""The learning curve: its intervals against plain statements, what it recommends, and its section on the page."""

import math
import re
from html import unescape

import pytest
from reading_pages import assert_numbers_are_those_of
from untrained_reports import distilled, report, splits, written

from infer.report.curve import command_at, curve_point, effective_count, interval, recommendation

T_2 = 4.302653  # Student's t of 2 degrees of freedom, 97.5 %
NORMAL = 1.959964


def test_the_interval_of_one_student_is_wilsons():
    """The ends solve (p - e)² = z² e (1 - e) / n."""
    for accuracy, count in ((0.5, 10), (0.9, 359), (1.0, 8), (0.0, 8)):
        low, high = interval([accuracy], count)
        assert 0 <= low <= accuracy <= high <= 1
        assert high - low > 0
        for end in (low, high):
            if end != accuracy:
                assert (accuracy - end) ** 2 == pytest.approx(NORMAL**2 * end * (1 - end) / count)


def test_several_students_add_the_spread_of_their_mean_in_quadrature():
    alone = interval([0.8], 100)
    low, high = interval([0.7, 0.8, 0.9], 100)
    spread = T_2 * 0.1 / math.sqrt(3)
    assert 0.8 - low == pytest.approx(math.hypot(0.8 - alone[0], spread), rel=1e-5)
    assert high == 1  # an accuracy is no larger
    assert interval([0.8, 0.8, 0.8], 100) == pytest.approx(alone)


def test_a_point_of_balanced_classes_has_the_mean_recall_and_the_variance_of_its_weights():
    row = {"source": "distilled", "pictures": 9, "bytes": 100, "backbone": "net", "seeds": 1, "seconds": 2.0}
    row |= {"accuracies": [0.75], "balanced_accuracies": [0.5]}
    plain, balanced = (curve_point(row, 120, [30, 10, 0], balanced) for balanced in (False, True))
    assert (plain["accuracy"], balanced["accuracy"]) == (0.75, 0.5)
    assert (plain["low"], plain["high"]) == interval([0.75], 40)
    weights = [1 / 60] * 30 + [1 / 20] * 10
    assert effective_count([30, 10, 0], balanced=True) == pytest.approx(1 / sum(weight**2 for weight in weights))
    assert (balanced["low"], balanced["high"]) == interval([0.5], effective_count([30, 10, 0], balanced=True))
    assert balanced["budget"] == 120


def points(**accuracies: float) -> list[dict]:
    """Points of files of 1000, 2000 and 4000 bytes, of random images of two of them, and of all images."""
    found = []
    for source, budget, pictures in (
        *(("distilled", budget, budget // 100) for budget in (1000, 2000, 4000)),
        *(("random", budget, budget // 90) for budget in (1000, 2000)),
        ("random_hard", 1000, 14),
        ("real", None, 90),
    ):
        mean = accuracies.get(f"{source}{budget}" if budget else source, 0.5)
        sizes = {"pictures": pictures, "bytes": (budget or 9000) - 10, "budget": budget}
        ends = {"accuracy": mean, "low": max(0.0, mean - 0.1), "high": min(1.0, mean + 0.1)}
        found.append({"source": source, **sizes, **ends, "backbone": "net", "seeds": 1, "seconds": 1.0})
    return found


def result(**accuracies: float) -> dict:
    command = "python distill.py ipc=4 'report.curve=[0.5,1,2]' '++budget.bytes=2000' 'dataset.root=my parts'"
    return {"curve": points(**accuracies), "bytes": {"budget": 2000}, "command": command}


def test_the_smallest_file_within_the_tolerance_is_recommended():
    found = recommendation(result(real=0.9, distilled1000=0.7, distilled2000=0.86, distilled4000=0.88), tolerance=3)
    assert found["recommended"] == {
        "pictures": 40,
        "bytes": 3990,
        "budget": 4000,
        "within": pytest.approx(0.02),
        "command": "python distill.py ipc=4 'dataset.root=my parts' budget.bytes=4000 report.curve=null",
    }
    known = result(real=0.9, distilled1000=0.7, distilled2000=0.86, distilled4000=0.88)
    assert recommendation(known, tolerance=5)["recommended"]["command"] == known["command"]  # the run's own file
    assert recommendation(known, tolerance=30)["recommended"]["budget"] == 1000


def test_a_small_file_that_was_lucky_is_not_recommended():
    lucky = result(real=0.869, distilled1000=0.822, distilled2000=0.803, distilled4000=0.838)
    assert recommendation(lucky, tolerance=5)["recommended"]["budget"] == 4000
    assert recommendation(lucky, tolerance=7)["recommended"]["budget"] == 1000
    assert recommendation(lucky, tolerance=3)["recommended"] is None


def test_none_within_the_tolerance_is_null_and_no_curve_says_nothing():
    known = result(real=0.9, distilled1000=0.7, distilled2000=0.86, distilled4000=0.88)
    assert recommendation(known, tolerance=1) == {"recommended": None}
    assert recommendation({"command": "x"}, tolerance=1) == {}


def test_a_command_at_another_budget_keeps_its_other_words():
    given = "infer-distill experiment=poc +budget.bytes=9 'dataset.name=a b' report.curve=null seed=1"
    wanted = "infer-distill experiment=poc 'dataset.name=a b' seed=1 budget.bytes=70 report.curve=null"
    assert command_at(given, 70) == wanted


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("real", [0.52, 0.9])
def test_the_page_draws_the_curve_and_says_what_it_recommends(language, real, tmp_path):
    data = splits(("a", "b", "c"))
    made = distilled(data, "random", "hard", "raw")
    curve = {"curve": points(real=real), "curve_left_out": [{"budget": 10, "reason": "small"}]}
    curve["curve_left_out"].append({"budget": 99000, "reason": "whole"})
    known, arrays = report(data, made, budget="raw", **curve)
    known |= recommendation(known, tolerance=5)
    numbers, html = written(known, arrays, made, tmp_path, language)
    assert_numbers_are_those_of(numbers, html)
    heading = {"en": "How many images", "ja": "必要な画像の枚数"}[language]
    section = html.partition(f"<h2>{heading}</h2>")[2].partition("</section>")[0]
    text = " ".join(unescape(re.sub(r"<[^>]+>", "", re.sub(r"<svg.*?</svg>", "", section, flags=re.S))).split())
    advice = {
        "en": (
            "stores 10 images and takes a budget of 1.0 kB. It loses 2.0 points",
            "The largest of the files is not within",
        ),
        "ja": ("10枚の画像を保存し、容量の上限は1.0 kBです。", "許容範囲（5.0ポイント）に収まりません。"),
    }[language]
    assert (advice[0] in text, advice[1] in text) == (real < 0.9, real == 0.9)
    assert ("budget.bytes=1000 report.curve=null" in text) == (real < 0.9)
    assert "99.0 kB" in text
    by_pictures, by_bytes = re.findall(r"<svg.*?</svg>", section, flags=re.S)
    assert re.findall(r">(10|20|40)<", by_pictures)[:3] == ["10", "20", "40"]
    assert re.findall(r">([\d.]+ k?B)<", by_bytes) == ["990 B", "2.0 kB", "4.0 kB"]
