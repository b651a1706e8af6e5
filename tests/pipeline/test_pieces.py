"""The stages and the pieces of a run are those that it announces: no stage and no title is missing or too many."""

import re

import pytest

from infer.core import forecast
from infer.core.forecast import Forecast
from infer.core.progress import reporting
from infer.pipeline import run as runs
from infer.pipeline.pieces import stages_of
from infer.pipeline.run_folder import context_of

SHORT = ["students.seeds=1", "recipe.student.real_epochs=1", "recipe.student.steps=3", "labels.proxy_steps=3"]
SHORT += ["recipe.teacher.epochs=1", "teachers.margin=0", "recipe.ufc.steps=3", "labels.share=0.1"]
ALL = "students.sources=[distilled,distilled_hard,random,random_images,random_static,random_hard,random_plain,real]"
TWO = "teachers.backbones=[convnet_narrow,convnet]"
REPORTED = "students.sources=[distilled,random,real]"
CURVE = ["method=infer_plus", "budget=raw", "ipc=20", "labels.candidates=2", REPORTED]
AUTO = ["method=random", "budget=auto", "labels=views", "ipc=20", "students.sources=[distilled]"]
AUTO += ["budget.choices.labels.share=[0.02]", "budget.choices.budget.quality=[40]"]


@pytest.fixture
def finished(monkeypatch) -> list[tuple[str, str]]:
    """The title of each piece that ends, and that of the one which the forecast was at."""
    found: list[tuple[str, str]] = []
    finish = Forecast.finish

    def recorded(self: Forecast, title: str, seconds: float) -> None:
        found.append((title, next((piece.title for piece in self._pieces[self._next :]), "")))
        finish(self, title, seconds)
        found_left[:] = [piece.title for piece in self._pieces[self._next :]]

    found_left: list[str] = ["nothing ended"]
    monkeypatch.setattr(forecast.Forecast, "finish", recorded)
    monkeypatch.setattr(Forecast, "to_come", found_left, raising=False)
    return found


def numbers(text: str) -> list[tuple[int, int]]:
    """Those of the stages."""
    return [(int(number), int(of)) for number, of in re.findall(r"\[(\d+)/(\d+)\] ", text)]


RUNS = {
    "hard": ["labels=hard", ALL],
    "static": ["labels=static", ALL, TWO],
    "views": ["labels=views", ALL],
    "dynamic": ["labels=dynamic", ALL],
    "candidates": ["labels=views", "labels.candidates=2", "students.sources=[distilled,random]", TWO],
    "proxy": ["method=infer_plus", "students.sources=[distilled]"],
    "no round": ["ipc=1", "budget=filled", "labels=static", "students.sources=[distilled]"],
    "bytes": ["budget=raw", "labels=views", "ipc=20", "students.sources=[distilled]"],
    "curve": [*CURVE, "report.curve=[0.5,1.5]"],
    "curve of compensators": ["budget=raw", "ipc=40", TWO, REPORTED, "report.curve=[0.5]"],
}


@pytest.mark.parametrize("words", RUNS.values(), ids=RUNS)
def test_a_run_has_the_stages_and_pieces_that_are_foretold(run, finished, caplog, words):
    with caplog.at_level("INFO", "infer"), reporting(True):
        run("distill", *SHORT, *words)
    stages = numbers(caplog.text)
    assert stages == [(number, len(stages)) for number in range(1, len(stages) + 1)]
    assert [title for title, _ in finished] == [expected for _, expected in finished]
    assert Forecast.to_come == []


def test_a_curve_that_comes_to_a_finished_run_is_a_stage_with_the_proxy_model(run, finished, caplog):
    run("distill", *SHORT, *CURVE)
    caplog.clear()
    finished.clear()
    with caplog.at_level("INFO", "infer"), reporting(True):
        run("distill", *SHORT, *CURVE, "report.curve=[0.5]")
    assert numbers(caplog.text) == [(1, 3), (2, 3), (3, 3)]  # the teachers and the table are on disk
    titles = [title for title, _ in finished]
    assert titles == [
        *("labels", "student convnet_narrow-proxy", "candidate 1 of 2", "candidate 2 of 2", "labels"),
        *(f"student convnet_narrow-{source}-0" for source in ("distilled", "random", "random_hard", "random_hard")),
    ]
    assert titles[1:] == [expected for _, expected in finished][1:]  # before the first, students on disk are passed
    assert Forecast.to_come == []


@pytest.mark.parametrize("candidates", [1, 2])
def test_what_is_chosen_decides_the_stages_and_a_known_search_takes_no_time(run, finished, caplog, candidates):
    words = [*SHORT, *AUTO, f"labels.candidates={3 - candidates}", f"budget.choices.labels.candidates=[{candidates}]"]
    words = [word.replace("candidates=3", "candidates=4") for word in words]
    for seed in (0, 1):
        caplog.clear()
        finished.clear()
        with caplog.at_level("INFO", "infer"), reporting(True):
            run("distill", *words, f"seed={seed}")
        assert sum(title.endswith("-auto") for title, _ in finished) == 1 - seed
        assert [title for title, _ in finished] == [expected for _, expected in finished]
        assert Forecast.to_come == []
        stages = numbers(caplog.text)
        assert stages[-1] == (len(stages), len(stages)) == (4 + (candidates - 1),) * 2


def test_a_row_whose_weights_a_report_lacks_is_a_piece(run, finished, monkeypatch, tmp_path):
    words = [*SHORT, "labels=hard", "ipc=5", "students.sources=[distilled,random,real]"]
    run("distill", *words)
    for file in tmp_path.rglob("*-random/seed0/*.safetensors"):
        file.unlink()
    monkeypatch.setattr(runs, "_analysed", lambda *_: {})
    monkeypatch.setattr(runs, "_reported", lambda run, folder, result: result)
    finished.clear()
    run("distill", *words, "report.language=en")
    title = "student convnet_narrow-random-0"
    assert finished == [(title, "teacher convnet_narrow")]  # which is on disk
    assert Forecast.to_come == []


def test_teachers_without_epochs_are_no_pieces(config):
    options = config("distill", "recipe.teacher.epochs=0")
    assert stages_of(options, context_of(options, {}).data, None)[0] == []


def test_labels_have_a_speed_of_their_own(config):
    options = config("distill", "labels=views", "labels.candidates=2", TWO)
    pieces = [piece for stage in stages_of(options, context_of(options, {}).data, None) for piece in stage]
    labels = [piece for piece in pieces if piece.title == "labels" or piece.title.startswith("candidate ")]
    assert len(labels) == 2 + 1 + 1  # of the candidates, of the proxy model, of random pictures
    networks = {*options.teachers.backbones, *options.students.backbones}
    assert not networks & {piece.network for piece in labels}
