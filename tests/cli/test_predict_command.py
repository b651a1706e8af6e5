"""The command infer-predict as a user runs it."""

import csv
import json
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, TINY


@pytest.fixture(scope="module")
def student(pictures, tmp_path_factory):
    """A student's folder below a run of distill.py."""
    output = tmp_path_factory.mktemp("run")
    words = [f"dataset.root={pictures}", "dataset=image_folder", "dataset.image_size=16", "teachers.margin=-1", "ipc=4"]
    words += [*TINY, f"output={output}", "students.seeds=1", "students.sources=[random]"]
    done = subprocess.run([sys.executable, "distill.py", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = output.rglob("student.safetensors")
    return file.parent


@pytest.fixture
def folder(pictures, tmp_path):
    """Pictures of the test part, a broken one, and a text."""
    shutil.copytree(pictures / "test", tmp_path / "new")
    (tmp_path / "new" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "new" / "notes.txt").write_text("no picture")
    return tmp_path / "new"


def predict(command, *words):
    return command("-m", "infer.cli.predict", *map(str, words))


def test_the_table_is_printed_and_what_is_in_it_told(command, student, folder):
    done = predict(command, student, folder)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert list(rows[0]) == ["file", "class", "unsure", "error", "flat", "kuro 黒", "ridge"]
    assert len(rows) == 13
    for row in rows:
        probabilities = {name: row[name] for name in ("flat", "kuro 黒", "ridge")}
        if row["file"] == "broken.png":
            assert row["error"]
            assert {row["class"], row["unsure"], *probabilities.values()} == {""}
        else:
            assert (folder / row["file"]).is_file()
            assert row["error"] == ""
            assert row["class"] == max(probabilities, key=lambda name: float(probabilities[name]))
            assert sum(map(float, probabilities.values())) == pytest.approx(1, abs=1e-5)
    unsure = sum(row["unsure"] == "true" for row in rows)
    told = done.stderr.strip().splitlines()[-1]
    assert told.startswith(f"12 classified, {unsure} of them unsure (")
    assert told.endswith("; 1 cannot be read; 1 left out, which are no pictures")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("threshold", "flagged"), [(0, 0), (1, 12)])
def test_a_threshold_of_ones_own_flags_what_is_below_it(command, student, folder, tmp_path, threshold, flagged):
    table = tmp_path / "new.csv"
    done = predict(command, student / "student.safetensors", folder, "--threshold", threshold, "--output", table)
    assert (done.returncode, done.stdout) == (0, "")
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert sum(row["unsure"] == "true" for row in rows) == flagged


def test_an_onnx_file_is_written(command, student, tmp_path):
    onnx = pytest.importorskip("onnx")
    done = predict(command, student, "--onnx", tmp_path / "student.onnx")
    assert done.returncode == 0, done.stderr
    found = {entry.key: entry.value for entry in onnx.load(tmp_path / "student.onnx").metadata_props}
    assert json.loads(found["classes"]) == ["flat", "kuro 黒", "ridge"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "the following arguments are required: student"),
        (["{student}"], "folder: is missing; give a folder of pictures to classify, or --onnx=FILE"),
        (["{student}", "--output", "x.csv"], "folder: is missing"),
        (["{student}", "{folder}", "--treshold", "1"], "unrecognized arguments: --treshold 1"),
        (["{student}", "{folder}", "--threshold", "high"], "argument --threshold: invalid float value: 'high'"),
        (["{student}", "{folder}", "--threshold", "1.5"], "--threshold=1.5: must lie between 0 and 1"),
        (["{student}", "{folder}/nowhere"], "folder={folder}/nowhere: no such folder"),
        (["{folder}", "{folder}"], "student={folder}: there is no student"),
        (["{student}", "{folder}", "--output", "{folder}"], "{folder}: is a folder, not a file"),
    ],
)
def test_a_mistake_is_one_line(command, student, folder, words, says):
    places = {"student": student, "folder": folder}
    done = predict(command, *(word.format(**places) for word in words))
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("Classifying")]
    assert line.startswith("error: " + says.format(**places))


def test_help_waits_for_no_library():
    code = """
import sys
from infer.cli.predict import main
sys.argv = ["infer-predict", "--help"]
try:
    main()
except SystemExit as ended:
    sys.exit(ended.code or "torch" in sys.modules or "hydra" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "usage: infer-predict" in done.stdout
