"""What a run finds on disk is checked: what has changed is made again, and no number of another file is served."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY
from hydra import compose, initialize_config_dir
from safetensors import safe_open
from safetensors.torch import save_file

import infer
from infer.cli import schema
from infer.pipeline.options import TrainOptions
from infer.pipeline.records import analysis_digests, read_result
from infer.pipeline.results import machine
from infer.pipeline.run import create, plan
from infer.pipeline.train import _named_teachers, train

WORDS = [*TINY, "recipe.teacher.epochs=1", "recipe.ufc.steps=5", "students.seeds=1", "ipc=3", "distill.rounds=2"]
WORDS += ["students.sources=[distilled,random,real]"]
TEXTS = ["{}", "[]", "3", "null", '"x"', '{"accuracy": 0.5', '{"accuracy": "x", "digests": []}']
RUN, TEACHER = Path("distill/digits/infer-ipc3/seed0"), Path("train/digits/convnet_narrow/seed0")
REAL = Path("train/digits/convnet_narrow/real-seed0")
ROWS = {source: RUN / f"students/convnet_narrow-{source}/seed0" for source in ("distilled", "random")} | {"real": REAL}


class Outputs:
    """An output folder and the run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def options(self, *words: str):
        schema.register()
        with initialize_config_dir(str(schema.CONF), version_base="1.3"):
            return schema.typed(compose("distill", [f"output={self.folder}", *WORDS, *words]))

    def run(self, *words: str) -> dict:
        return create(self.options(*words), {})[0]

    def state(self, *words: str) -> str:
        return plan(self.options(*words), {})["state"]

    def __truediv__(self, name: str | Path) -> Path:
        return self.folder / name

    def written(self) -> dict[Path, int]:
        """When each network and set was written."""
        return {path: path.stat().st_mtime_ns for path in self.folder.rglob("*.safetensors")}


def accuracies(result: dict) -> dict[str, list[float]]:
    return {row["source"]: row["accuracies"] for row in result["students"]}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Iterator[Outputs]:
    """A finished run, which no test changes."""
    made = Outputs(tmp_path_factory.mktemp("fresh"))
    made.result = made.run()
    before = made.written()
    yield made
    assert made.written() == before


@pytest.fixture
def outputs(fresh, tmp_path) -> Outputs:
    """A copy of the finished run."""
    return Outputs(Path(shutil.copytree(fresh.folder, tmp_path / "outputs")))


def assert_ends_as(fresh: Outputs, outputs: Outputs, result: dict) -> None:
    assert accuracies(result) == accuracies(fresh.result)
    assert result["teachers"]["convnet_narrow"]["accuracy"] == fresh.result["teachers"]["convnet_narrow"]["accuracy"]
    for name in (RUN / "distilled.safetensors", TEACHER / "teacher.safetensors"):
        assert (outputs / name).read_bytes() == (fresh / name).read_bytes()
    assert outputs.state() == "finished"
    before = outputs.written()
    assert accuracies(outputs.run()) == accuracies(result)
    assert outputs.written() == before


def test_what_is_as_it_was_is_served(outputs):
    before = outputs.written()
    assert outputs.state() == "finished"
    outputs.run()
    assert outputs.written() == before


@pytest.mark.parametrize("content", [b"junk", b"", None], ids=["junk", "empty", "gone"])
def test_a_set_that_has_changed_is_created_again_and_its_students_stay(fresh, outputs, caplog, content):
    file = outputs / RUN / "distilled.safetensors"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    before = outputs.written()
    assert outputs.state() == "unfinished"
    result = outputs.run()
    assert f"{file}: is not the file that" in caplog.text
    assert {path for path, when in outputs.written().items() if before.get(path) != when} == {file}
    assert_ends_as(fresh, outputs, result)


def test_another_set_of_the_same_classes_is_no_set_of_this_run(fresh, outputs):
    outputs.run("ipc=4", "students.sources=[distilled]")
    shutil.copy(outputs / "distill/digits/infer-ipc4/seed0/distilled.safetensors", outputs / RUN)
    assert outputs.state() == "unfinished"
    assert_ends_as(fresh, outputs, outputs.run())


@pytest.mark.parametrize("source", ROWS)
def test_a_row_whose_weights_have_changed_is_trained_again(fresh, outputs, caplog, source):
    file = outputs / ROWS[source] / "student.safetensors"
    shutil.copy(outputs / ROWS["random" if source != "random" else "real"] / "student.safetensors", file)
    assert outputs.state() == "unfinished"
    result = outputs.run()
    assert f"{file}: is not the file that the row {source} describes; it is trained again" in caplog.text
    assert file.read_bytes() == (fresh / ROWS[source] / "student.safetensors").read_bytes()
    assert_ends_as(fresh, outputs, result)


def test_a_teacher_that_has_changed_is_trained_again(fresh, outputs, caplog):
    file = outputs / TEACHER / "teacher.safetensors"
    shutil.copy(outputs / REAL / "student.safetensors", file)  # of the same network
    assert outputs.state() == "unfinished"
    result = outputs.run()
    assert f"{file}: is not the file that" in caplog.text
    assert_ends_as(fresh, outputs, result)


def test_teachers_and_weights_that_were_deleted_leave_the_rows_that_were_measured(outputs):
    shutil.rmtree(outputs / "train")
    shutil.rmtree(outputs / RUN / "students")
    assert outputs.state() == "finished"


@pytest.mark.parametrize("content", [b"junk", b"", "another"], ids=["junk", "empty", "another"])
def test_compensators_that_have_changed_are_optimised_again(fresh, outputs, caplog, content):
    (file,) = (outputs / TEACHER).glob("compensators-*.safetensors")
    if content == "another":
        outputs.run("ipc=4", "students.sources=[distilled]")
        (other,) = set((outputs / TEACHER).glob("compensators-*.safetensors")) - {file}
        content = other.read_bytes()
    file.write_bytes(content)
    (outputs / RUN / "distilled.safetensors").unlink()
    result = outputs.run()
    assert f"{file}: no compensators of this run" in caplog.text
    assert_ends_as(fresh, outputs, result)


@pytest.mark.parametrize("text", TEXTS)
def test_json_that_says_nothing_is_made_again(fresh, outputs, text):
    """Of the run, its teacher, its students, and the measured micro-batch."""
    for path in outputs.folder.rglob("*.json"):
        if path.name != "settings.json":
            path.write_text(text)
    assert outputs.state() == "unfinished"
    assert_ends_as(fresh, outputs, outputs.run())


@pytest.mark.parametrize("text", ["{}", "null", '{"ipc": 3'])
@pytest.mark.parametrize("where", [RUN, TEACHER])
def test_settings_that_are_none_are_one_line_whose_cure_helps(fresh, outputs, where, text):
    (outputs / RUN / "distilled.safetensors").unlink()  # so that the teacher is asked for
    (outputs / where / "settings.json").write_text(text)
    with pytest.raises(infer.UserError, match=r"^\S+settings\.json: .*; remove it or choose another output=$"):
        outputs.run()
    (outputs / where / "settings.json").unlink()
    assert_ends_as(fresh, outputs, outputs.run())


def test_a_result_without_settings_is_not_that_of_other_settings(fresh, outputs):
    for where in (RUN, TEACHER):
        (outputs / where / "settings.json").unlink()
    other = ["recipe.teacher.lr=0.02", "students.sources=[distilled]"]
    assert outputs.state(*other) == "new"
    result = outputs.run(*other)
    assert result["teachers"] != fresh.result["teachers"]
    assert accuracies(result)["distilled"] != accuracies(fresh.result)["distilled"]


def variants(content: dict) -> Iterator[tuple[str, dict]]:
    """``content`` without each of its keys, and with a value of another type under each."""
    for key in content:
        yield key, {name: value for name, value in content.items() if name != key}
        yield key, {**content, key: [[{}]]}


def test_a_result_that_lacks_a_key_or_has_another_type_is_not_finished(fresh, outputs):
    path = outputs / RUN / "result.json"
    whole = json.loads(path.read_text())
    unread = {"version"}
    for key, content in variants(whole):
        path.write_text(json.dumps(content))
        found = read_result(path.parent)
        finished = found is not None and {"scores", "hardware"} <= set(found)
        assert finished == (key in unread or (key == "analysis_digests" and key not in content)), key
    row = whole["students"][0]
    later = {"pictures", "balanced_accuracies"}  # rows of version 0.1 have none
    for key, content in variants(row):
        path.write_text(json.dumps({**whole, "students": [content]}))
        assert (read_result(path.parent) is None) == (key in content or key not in later), key
    for change in ({"recall": row["recall"][1:]}, {"seeds": 2}, {"source": "x"}, {"accuracy_mean": 2}):
        path.write_text(json.dumps({**whole, "students": [{**row, **change}]}))
        assert read_result(path.parent) is None, change


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("scores", None, "scores: "),
        ("hardware", None, "hardware: "),
        ("teachers", {}, "teachers: "),
        ("published", {"convnet_narrow": float("nan")}, "published.convnet_narrow: "),
        ("published", {"convnet_narrow": 100.5}, "published.convnet_narrow: "),
        ("scores", {"convnet_narrow": {"label_robust": float("inf")}}, "has the number Infinity, which is not finite"),
        ("scores", {"convnet_narrow": {"label_robust": "1e400"}}, "has the number 1e400, which is not finite"),
        ("unread", [1, {"x": float("nan")}], "has the number NaN, which is not finite"),
        ("bytes", {"file": 0}, "bytes: "),
        ("bytes", {"natural": -5}, "bytes: "),
        ("students", {"recall": [1.5] * 10}, "students.0.recall.0: "),
    ],
)
def test_a_result_with_a_number_out_of_its_range_is_made_again(fresh, outputs, caplog, key, value, told):
    path = outputs / RUN / "result.json"
    content = json.loads(path.read_text())
    if key == "bytes":
        value = {**content["bytes"], **value}
    if key == "students":
        value = [{**content["students"][0], **value}, *content["students"][1:]]
    path.write_text(json.dumps({**content, key: value}).replace('"1e400"', "1e400"))
    assert outputs.state() == "unfinished"
    assert f"{path}: {told}" in caplog.text
    assert caplog.text.rstrip().endswith("; the set is created again")
    result = outputs.run()
    assert_ends_as(fresh, outputs, result)
    json.loads(path.read_text(), parse_constant=lambda number: pytest.fail(f"{number} is no JSON"))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400"])
def test_a_network_with_a_number_that_is_not_finite_is_trained_again(fresh, outputs, caplog, number):
    path = outputs / ROWS["distilled"] / "result.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({**whole, "macro_f1": "number"}).replace('"number"', number))
    (outputs / RUN / "result.json").unlink()
    result = outputs.run()
    assert f"{path}: " in caplog.text
    assert "it is trained again" in caplog.text
    assert_ends_as(fresh, outputs, result)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0])
def test_compensators_whose_seconds_are_none_are_optimised_again(fresh, outputs, caplog, seconds):
    (file,) = (outputs / TEACHER).glob("compensators-*.safetensors")
    with safe_open(file, framework="pt") as content:
        u, metadata = content.get_tensor("u"), content.metadata()
    save_file({"u": u, "seconds": torch.tensor(seconds)}, file, metadata)
    (outputs / RUN / "distilled.safetensors").unlink()
    result = outputs.run()
    assert f"{file}: no compensators of this run" in caplog.text
    assert 0 <= result["seconds"]["distill"] < 60
    assert_ends_as(fresh, outputs, result)


def test_pictures_that_were_deleted_are_drawn_again(fresh, outputs):
    before = {path.name: path.read_bytes() for path in (outputs / RUN / "images").iterdir()}
    assert "naturals.png" in before
    shutil.rmtree(outputs / RUN / "images")
    assert outputs.state() == "finished"
    outputs.run()
    assert {path.name: path.read_bytes() for path in (outputs / RUN / "images").iterdir()} == before


def test_an_analysis_is_kept_only_with_its_arrays(outputs):
    folder = outputs / RUN
    arrays, path = folder / "report_arrays.safetensors", folder / "result.json"
    arrays.write_bytes(b"arrays")
    analysed = {"evidence": {"loss": 0.25}, "data": {"count": 3}}
    whole = {**json.loads(path.read_text()), **analysed, "analysis_digests": analysis_digests(folder, analysed)}
    path.write_text(json.dumps(whole))
    assert read_result(folder) == whole
    for change in ({"evidence": {"loss": 0.5}}, {"evidence": {}}, {"data": None}, {"analysis_digests": {"data": "x"}}):
        path.write_text(json.dumps({**whole, **change}))
        assert "evidence" not in read_result(folder), change
    path.write_text(json.dumps(whole))
    arrays.write_bytes(b"others")
    assert "evidence" not in read_result(folder)
    assert read_result(folder)["students"] == whole["students"]


def without_digests(path: Path) -> None:
    """Leave what an earlier version wrote."""
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in content.items() if not key.endswith("digests")}))


@pytest.mark.parametrize("swapped", [False, True])
def test_a_teacher_of_an_earlier_version_is_measured_again(fresh, outputs, swapped):
    """It stays where it reaches the accuracy that was recorded; the rest of such a run is made again."""
    file = outputs / TEACHER / "teacher.safetensors"
    if swapped:
        shutil.copy(outputs / REAL / "student.safetensors", file)
    before = file.stat().st_mtime_ns
    for path in (outputs / TEACHER / "result.json", outputs / RUN / "result.json"):
        without_digests(path)
    assert outputs.state() == "unfinished"
    result = outputs.run()
    assert (file.stat().st_mtime_ns != before) == swapped
    assert_ends_as(fresh, outputs, result)


def test_the_folders_of_a_run_are_swept_though_it_is_finished(outputs):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    litter = [outputs / RUN / place / f".x.{platform.node()}.{gone.pid}.tmp" for place in ("", "images", "proxy")]
    litter += [path.parent / f".student.{platform.node()}.{gone.pid}.tmp" for path in (outputs / RUN).rglob("*.csv")]
    for path in litter:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    outputs.run()
    assert not [*outputs.folder.rglob("*.tmp")]


def test_a_run_whose_file_cannot_be_read_back_is_not_finished(outputs, monkeypatch):
    real = infer.DistilledSet.to_bytes

    def with_nan(self) -> bytes:
        labels = None if self.labels is None else torch.full_like(self.labels, float("nan"))
        return real(self if labels is None else type(self)(**{**vars_of(self), "labels": labels}))

    def vars_of(made) -> dict:
        return {name: getattr(made, name) for name in type(made).__dataclass_fields__}

    monkeypatch.setattr(infer.DistilledSet, "to_bytes", with_nan)
    words = ["ipc=4", "students.sources=[distilled]"]
    with pytest.raises(infer.UserError, match=r"distilled\.safetensors: .*label"):
        outputs.run(*words)
    folder = outputs / "distill/digits/infer-ipc4/seed0"
    assert not (folder / "distilled.safetensors").exists()
    assert not (folder / "result.json").exists()
    assert outputs.state(*words) == "unfinished"


@pytest.mark.parametrize("name", ["../../../x", "/tmp/x", "a\\b", "..", ".x", "CON", "x\ny"])
def test_a_network_does_not_write_outside_the_output(config, name, tmp_path):
    schema.register()
    options = config("train")
    named = type(options.backbone)(name, "convnet", "auto", {"depth": 1, "width": 4, "norm": "batch"})
    options = TrainOptions(**{**vars(options), "backbone": named})
    before = {*tmp_path.parent.iterdir()}
    with pytest.raises(infer.UserError, match=r"^backbone\.name=.* names a folder below output=; choose another$"):
        train(options, {})
    assert not (tmp_path / "outputs").exists()
    assert {*tmp_path.parent.iterdir()} == before


@pytest.mark.parametrize(
    "files", [5, [], {"a": 5}, {"a": ["x"]}, {"a": ["x", 7]}, {"a": ["x", "../x"]}, {"a": ["x", ""]}]
)
def test_teachers_that_a_file_names_wrongly_are_one_line(files):
    header = SimpleNamespace(provenance={"files": files})
    with pytest.raises(infer.UserError, match=r"^source\.path=d: the header's provenance\.files must give each"):
        _named_teachers(None, SimpleNamespace(header=header), "d")


@pytest.mark.skipif(os.name == "nt", reason="has no /dev")
def test_a_device_is_no_teacher():
    header = SimpleNamespace(provenance={"files": {"a": ["/dev/zero", "0" * 16]}})
    with pytest.raises(infer.UserError, match=r"/dev/zero: the teacher a .* is missing or another"):
        _named_teachers(None, SimpleNamespace(header=header), "d")


def test_a_system_that_does_not_tell_the_peak_of_the_memory_ends_the_run_as_well(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    caplog.set_level("INFO", "infer")
    assert machine()["peak_bytes"] is None
    assert "does not tell the peak of the memory" in caplog.text
    monkeypatch.undo()
    assert machine()["peak_bytes"] > 10**7
