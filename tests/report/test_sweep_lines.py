"""Many runs as one table: what is combined, and what is paired."""

import csv
import math

import pytest
from scipy import stats

from infer.report import sweep


def result(ipc: int, ours: list[float], theirs: list[float], size: int) -> dict:
    def row(source: str, accuracies: list[float], stored: int) -> dict:
        run = "" if source == "real" else f"run {ipc} {size}"
        weights = [f"{run}{source}{seed}" for seed in range(len(accuracies))]
        return {"backbone": "net", "source": source, "accuracies": accuracies, "bytes": stored, "weights": weights}

    rows = [row("distilled", ours, size), row("random", theirs, size - 1), row("real", [0.9, 0.92], 10**6)]
    return {"dataset": "data", "method": "a", "ipc": ipc, "students": rows}


RUNS = [
    ("method=a", result(1, [0.50, 0.54], [0.48, 0.50], 100)),
    ("method=a", result(1, [0.52, 0.55], [0.47, 0.52], 102)),
    ("method=a", result(10, [0.60, 0.64], [0.60, 0.60], 1000)),
    ("method=b", result(1, [0.40], [0.41], 90)),
]


def test_seeds_of_a_setting_are_combined():
    line = next(x for x in sweep.lines(RUNS) if (x.setting, x.ipc, x.source) == ("method=a", 1, "distilled"))
    assert line.students == 4
    assert line.mean == pytest.approx(0.5275)
    assert line.bytes == 101
    mean, half, pairs = line.against
    test = stats.ttest_rel([0.52, 0.535], [0.49, 0.495])  # students of one set are no pairs of their own
    low, high = test.confidence_interval(0.95)
    assert pairs == 2
    assert (mean - half, mean + half) == (pytest.approx(low), pytest.approx(high))


def test_random_runs_of_the_same_budget_are_the_baseline_of_runs_without_a_random_row():
    def run(method: str, seed: int, accuracies: list[float], more: str = "", **other: object) -> tuple[str, dict]:
        weights = [f"{method}{seed}-{number}" for number in range(len(accuracies))]
        row = {"backbone": "net", "source": "distilled", "accuracies": accuracies, "bytes": 100, "weights": weights}
        facts = {"dataset": "data", "ipc": 1, "seed": seed, "budget": {"by": "images"}, "labels": "static"}
        return f"method={method}{more}", {**facts, **other, "method": method, "recipe": {}, "students": [row]}

    randoms = [run("random", 1, [0.4, 0.6]), run("random", 0, [0.2, 0.4])]
    rded = [run("rded", 0, [0.4, 0.5]), run("rded", 1, [0.7, 0.7])]
    coded = [run("coded", seed, [0.9], budget={"by": "bytes"}) for seed in (0, 1)]
    tail = [run("herding", seed, [0.1], " dataset.imbalance=50") for seed in (0, 1)]
    found = {line.setting: line.against for line in sweep.lines([*randoms, *rded, *coded, *tail])}
    assert found == {
        "method=random": None,
        "method=coded": None,
        "method=herding dataset.imbalance=50": None,
        "method=rded": (pytest.approx(0.175), pytest.approx(0.025 * stats.t.ppf(0.975, 1)), 2),
    }


def test_runs_with_a_random_row_and_runs_without_are_not_paired_in_one_mean():
    """A random row has as many bytes, a run of method=random as many images: one of the two for all seeds, or none."""

    def run(method: str, seed: int, **rows: float) -> tuple[str, dict]:
        students = [
            {"backbone": "net", "source": source, "accuracies": [x], "bytes": 9, "weights": [f"{method}{seed}{source}"]}
            for source, x in rows.items()
        ]
        facts = {"dataset": "data", "ipc": 1, "seed": seed, "budget": {}, "labels": "static", "recipe": {}}
        return f"method={method}", {**facts, "method": method, "students": students}

    ours = [run("infer", 0, distilled=0.5, random=0.1), run("infer", 1, distilled=0.7)]
    (line,) = [line for line in sweep.lines(ours) if line.source == "distilled"]
    assert line.against is None
    randoms = [run("random", seed, distilled=0.4) for seed in (0, 1)]
    (line,) = [
        line for line in sweep.lines([*ours, *randoms]) if (line.setting, line.source) == ("method=infer", "distilled")
    ]
    assert line.against[0] == pytest.approx(0.2)


def test_a_student_that_runs_share_counts_once():
    (line,) = [line for line in sweep.lines(RUNS[:2]) if line.source == "real"]
    assert (line.students, line.mean) == (2, pytest.approx(0.91))


def test_one_pair_has_no_interval():
    assert sweep.paired([0.5], [0.4]) == (pytest.approx(0.1), math.inf, 1)
    sweep.show(RUNS)


def test_one_student_has_no_spread_and_one_pair_no_interval(capsys, tmp_path):
    sweep.show(RUNS)
    printed = capsys.readouterr().out
    (single,) = [line for line in printed.splitlines() if "method=b" in line and "distilled" in line]
    assert "±" not in single
    assert printed.count("±") > 0
    with sweep.write(RUNS, tmp_path)[0].open() as table:
        (row,) = [row for row in csv.DictReader(table) if (row["setting"], row["source"]) == ("method=b", "distilled")]
    assert (row["std"], row["half_interval"], row["students"], row["pairs"]) == ("", "", "1", "1")


def test_names_with_any_letters_are_drawn_without_a_word(recwarn, capfd):
    for name in ("写真 $x_", "שלום", "🐈", "$\\frac{1}{", "_x", "n" * 300):
        runs = [(name, {**result(1, [0.5], [0.4], 9), "dataset": name})]
        assert sweep.plot(sweep.lines(runs)).startswith(b"\x89PNG")
    assert [str(warning.message) for warning in recwarn] == []
    assert capfd.readouterr() == ("", "")


def test_the_table_and_the_plots_are_written(tmp_path):
    paths = sweep.write(RUNS, tmp_path)
    assert [path.name for path in paths] == ["table.csv", "data-net.png"]
    with paths[0].open() as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 9
    assert {row["against_random"] for row in rows if row["source"] == "real"} == {""}
    assert paths[1].read_bytes().startswith(b"\x89PNG")
