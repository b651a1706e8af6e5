"""The loggers of a run, without a run: TensorBoard's content, and W&B's offline files."""

import errno
from pathlib import Path

import pytest
import torch
import wandb
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from infer.core.errors import UserError
from infer.report import tracking

ROW = {"backbone": "net", "source": "distilled", "bytes": 123, "accuracy_mean": 0.5, "accuracy_std": 0.1, "steps": 20}
ROW["seeds"] = 2
RESULT = {
    "dataset": "写真",
    "method": "infer",
    "ipc": 3,
    "seed": 4,
    "command": "python distill.py",
    "images": {},
    "students": [ROW, {**ROW, "source": "random", "accuracy_mean": 0.25}],
    "teachers": {"teacher": {"accuracy": 0.75}},
    "bytes": {"file": 124, "real": 1000},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of a finished run."""
    (tmp_path / "images").mkdir()
    Image.fromarray(torch.zeros(4, 4, dtype=torch.uint8).numpy()).save(tmp_path / "images" / "naturals.png")
    for name in ("distilled.safetensors", "result.json", "teacher.safetensors"):
        (tmp_path / name).write_bytes(b"{}")
    return tmp_path


def test_tensorboard_has_the_results_the_table_and_the_images(folder):
    with tracking.loggers({"tensorboard": {}}, folder, "name", "distill", [], {}) as active:
        tracking.log_results(active, RESULT)
        tracking.log_artifacts(active, RESULT, folder, {"teacher": folder / "teacher.safetensors"})
    board = EventAccumulator(str(folder / "tensorboard"), size_guidance={"tensors": 0})
    board.Reload()
    numbers = {name: board.Scalars(name)[0].value for name in board.Tags()["scalars"]}
    assert numbers["accuracy/net/distilled"] == 0.5
    assert numbers["accuracy/net/random"] == 0.25
    assert numbers["teacher/teacher/accuracy"] == 0.75
    assert (numbers["bytes/file"], numbers["bytes/real"]) == (124, 1000)
    assert board.Tags()["images"] == ["naturals"]
    (table,) = board.Tensors("comparison/text_summary")
    assert "| net | distilled | 123 | 0.5 | 0.1 | 20 |" in table.tensor_proto.string_val[0].decode()


def test_one_student_has_no_deviation_and_an_image_that_is_none_is_left_out(folder, caplog):
    (folder / "images" / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    result = {**RESULT, "students": [{**ROW, "seeds": 1, "accuracy_std": 0.0}]}
    with tracking.loggers({"tensorboard": {}}, folder, "name", "distill", [], {}) as active:
        tracking.log_artifacts(active, result, folder, {})
    board = EventAccumulator(str(folder / "tensorboard"), size_guidance={"tensors": 0})
    board.Reload()
    assert board.Tags()["images"] == ["naturals"]
    assert "script.png is not logged (not a picture of a known format)" in caplog.text
    (table,) = board.Tensors("comparison/text_summary")
    assert "| net | distilled | 123 | 0.5 |  | 20 |" in table.tensor_proto.string_val[0].decode()


@pytest.mark.parametrize("content", ["{}", "[]", '"x"', '{"id": 5}', '{"id": "../x"}', '{"id": "x", "mode": "online"}'])
def test_a_wandb_identity_that_is_none_is_one_line(content, tmp_path):
    (tmp_path / "wandb.json").write_text(content)
    with (
        pytest.raises(UserError, match="holds no id of a W&B run; remove it, and the run is logged under a new id"),
        tracking.loggers({"wandb": {"mode": "offline"}}, tmp_path, "name", "distill", [], {}),
    ):
        pass


def test_a_full_disk_is_one_line(folder, monkeypatch):
    def full(**_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tracking, "WandbLogger", full)
    with (
        pytest.raises(UserError, match=rf"^{folder}: cannot be written \(No space left on device\); free space, give"),
        tracking.loggers({"wandb": {}}, folder, "name", "distill", [], {}),
    ):
        pass


def test_a_wandb_run_resumes_under_its_id_and_records_its_failure(folder, monkeypatch):
    codes = []
    finish = wandb.finish
    monkeypatch.setattr(wandb, "finish", lambda exit_code: (codes.append(exit_code), finish(exit_code=exit_code)))
    ids = []
    options = {"wandb": {"mode": "offline", "project": "infer", "tags": ["mine"]}}
    for fails in (True, False):
        try:
            with tracking.loggers(options, folder, "name", "distill", ["digits"], {"a": {"b": 1}}) as (logger,):
                ids.append(logger.experiment.id)
                assert list(logger.experiment.tags) == ["digits", "mine"]
                assert logger.experiment.config["a.b"] == 1
                if fails:
                    raise RuntimeError("stopped")
                tracking.log_artifacts([logger], RESULT, folder, {"teacher": folder / "teacher.safetensors"})
        except RuntimeError:
            assert fails
    assert ids[0] == ids[1]
    assert codes == [1, 0]


def test_artifact_names_have_only_the_characters_that_wandb_takes(folder):
    logged = []

    class Run:
        offline = True

        def log_artifact(self, artifact, aliases=None):
            logged.append((artifact.name, artifact.type, aliases))
            return artifact

    tracking._log_wandb_files(Run(), RESULT, folder, {"teacher": folder / "teacher.safetensors"})
    assert logged == [
        ("teacher-__-teacher", "teacher", None),
        ("__-infer-ipc3", "distilled", ["seed4", "latest"]),
    ]
