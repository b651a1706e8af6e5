"""What a report says of a file whose provenance another program wrote: any JSON object, and no error."""

from dataclasses import replace

import pytest
from tiny_analysis import distilled
from untrained_reports import distilled as made_by
from untrained_reports import report, splits, written

from infer.report.file_facts import file_facts, origin, with_file_numbers

FOREIGN = [
    {},
    {"settings": 5},
    {"settings": []},
    {"settings": None},
    {"settings": "budget"},
    {"settings": {"method": "rded", "budget": 7}},
    {"settings": {"method": {"name": ["rded"]}, "budget": {"quality": "high", "choices": 3}}},
    {"settings": {"method": {"name": {}}, "budget": {"quality": True, "choices": {"budget": 3, "labels": None}}}},
    {"settings": {"method": {"name": 1.5}, "budget": {"quality": [1], "choices": {"budget": {"quality": 40}}}}},
    {"settings": {"budget": {"choices": ["quality"]}}},
]
RESULT = {
    "choices": [{"budget.quality": 60, "accuracy": 0.5}],
    "train_pictures": [100, 100, 100],
    "evidence": {"privacy": {}},
    "budget": {"quality": 50},
    "bytes": {},
}


@pytest.mark.parametrize("provenance", FOREIGN)
def test_a_foreign_provenance_is_no_error(provenance):
    made = distilled("stored")
    made = replace(made, header=replace(made.header, provenance=provenance))
    assert origin(made) == "real"
    assert file_facts(RESULT, made).settings["budget"]["quality"] == 60  # what the search chose
    assert with_file_numbers(RESULT, made)["searched"] == {"tried": 1, "of": 1}
    without = with_file_numbers({**RESULT, "choices": []}, made)
    assert without["budget"]["quality"] == 50
    assert made.header.provenance == provenance  # which is not changed


def test_our_own_provenance_is_read():
    made = distilled("stored")
    budget = {"quality": 33, "choices": {"budget": {"quality": [33, 40], "codec": None}, "labels": {"share": [0.1]}}}
    settings = {"method": {"name": "rded"}, "budget": budget}
    made = replace(made, header=replace(made.header, provenance={"settings": settings}))
    assert origin(made) == "crops"
    found = with_file_numbers({**RESULT, "choices": []}, made)
    assert (found["budget"]["quality"], found["searched"]) == (33, {"tried": 0, "of": 2})


@pytest.mark.parametrize("settings", [5, {"method": [], "budget": {"quality": "high"}}])
def test_a_page_of_such_a_file_is_written(tmp_path, settings):
    data = splits(["flat", "wave", "ridge"])
    made = made_by(data, "random", "hard", "coded")
    result, arrays = report(data, made, budget="coded")
    foreign = replace(made, header=replace(made.header, provenance={"settings": settings}))
    _, html = written(result, arrays, foreign, tmp_path)
    assert "at quality" in html
