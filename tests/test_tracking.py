"""Weights & Biases and TensorBoard: what they are shown, and that neither costs a result."""

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb
from conftest import TINY, files
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto import wandb_internal_pb2

import infer

WORDS = ["students.sources=[distilled,random,random_hard]", "students.seeds=1", "ipc=3"]
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}


def records(path: Path) -> Iterator[wandb_internal_pb2.Record]:
    """What a run left for ``wandb sync``: W&B's own messages, in blocks of 32 KiB as LevelDB's logs have them."""
    content, at, held = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        size, kind = struct.unpack("<HB", content[at + 4 : at + 7]) if left >= 7 else (0, 0)
        if kind == 0:  # the rest of a block
            at += left
            continue
        held += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or its last part
            yield wandb_internal_pb2.Record.FromString(held)
            held = b""


def said(path: Path) -> dict[str, list]:
    """The records of a run by their type."""
    found: dict[str, list] = {}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        found.setdefault(kind, []).append(getattr(record, kind))
    return found


def test_both_show_a_run_offline_and_without_an_account(command, tmp_path):
    done = command("distill.py", f"output={tmp_path}", *TINY, *WORDS, "logger=[wandb,tensorboard]", env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    (file,) = files(tmp_path)
    result = json.loads((file.parent / "result.json").read_text())

    (offline,) = tmp_path.rglob("offline-run-*/*.wandb")
    found = said(offline)
    (run,) = found["run"]
    assert (run.job_type, list(run.tags)) == ("distill", ["digits", "infer", "ipc3", "static"])
    config = {item.key or ".".join(item.nested_key) for record in found["config"] for item in record.update}
    assert {"recipe.ufc.lr", "method.name", "budget.by"} <= config  # flat: what one searches and groups by
    assert found["exit"][0].exit_code == 0
    artifacts = {artifact.type: artifact for artifact in found["artifact"]}
    assert artifacts["distilled"].name == "digits-infer-ipc3"
    assert [entry.path for entry in artifacts["distilled"].manifest.contents] == [file.name, "result.json"]
    lineage = json.loads(artifacts["distilled"].metadata)["teachers"]
    assert list(lineage) == [artifacts["teacher"].name] == ["teacher-digits-convnet_narrow"]
    history = {key for record in found["history"] for key in (i.key or i.nested_key[0] for i in record.item)}
    curves = {f"distill/convnet_narrow/{term}" for term in ("bn", "cross_entropy")}
    curves.add("student/convnet_narrow-distilled-0/accuracy")
    shown = {"comparison", "pictures/naturals", "pictures/compensators", "pictures/composed", "bytes/file"}
    assert curves | shown <= history
    assert "accuracy/convnet_narrow/random" in history

    board = EventAccumulator(str(file.parent / "tensorboard"), size_guidance={"images": 0})
    board.Reload()
    assert curves <= set(board.Tags()["scalars"])
    assert {"naturals", "compensators", "composed", "round0"} <= set(board.Tags()["images"])
    (figure,) = board.Scalars("bytes/file")
    assert figure.value == result["bytes"]["file"]


def test_a_run_that_is_watched_makes_the_same_file(command, tmp_path):
    for output, words in (("seen", ["logger=tensorboard"]), ("unseen", [])):
        done = command("distill.py", f"output={tmp_path / output}", *TINY, *WORDS, "distill.rounds=2", *words)
        assert done.returncode == 0, done.stderr
    seen, unseen = files(tmp_path / "seen")[0], files(tmp_path / "unseen")[0]
    assert seen.read_bytes() == unseen.read_bytes()
    rows = [json.loads((file.parent / "result.json").read_text())["students"] for file in (seen, unseen)]
    assert [row["accuracies"] for row in rows[0]] == [row["accuracies"] for row in rows[1]]


def test_a_server_that_cannot_be_had_costs_no_result(command, tmp_path):
    gone = {"WANDB_MODE": "online", "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}
    environment = {**ENVIRONMENT, **gone, "WANDB_INIT_TIMEOUT": "2"}
    done = command("distill.py", f"output={tmp_path}", *TINY, *WORDS, "logger=wandb", env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "going on offline, `wandb sync` uploads" in done.stdout
    assert files(tmp_path)
    (offline,) = tmp_path.rglob("offline-run-*/*.wandb")
    assert {"distilled", "teacher"} <= {artifact.type for artifact in said(offline)["artifact"]}


def test_a_published_file_is_read_by_its_name(config, monkeypatch, tmp_path):
    from infer.pipeline.run import distill, train

    distill(config("distill", *WORDS))
    (file,) = files(tmp_path)
    asked = []

    class Api:
        def artifact(self, name: str, type: str) -> "Api":
            asked.append((name, type))
            return self

        def download(self) -> str:
            return str(file.parent)

    monkeypatch.setattr(wandb, "Api", Api)
    name = "wandb:team/infer/digits-infer-ipc3:v0"
    assert len(infer.load(name)) == len(infer.load(file))
    assert asked == [("team/infer/digits-infer-ipc3:v0", "distilled")]
    assert train(config("train", "source=distilled", f"source.path='{name}'"))["steps"] == 20


def test_a_published_file_that_cannot_be_had_is_one_line(command, tmp_path):
    environment = {**ENVIRONMENT, "HOME": str(tmp_path)}  # without an account
    done = command("train.py", f"output={tmp_path / 'out'}", "source=wandb:team/infer/digits:v0", env=environment)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: wandb:team/infer/digits:v0: cannot be fetched (")
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pydantic's, of wandb-workspaces' own classes
def test_the_dashboard_has_a_sweeps_panels():
    from infer.dashboard import workspace

    made = workspace("team", "infer", ["convnet_narrow", "resnet18"], "ipc-0a1b2c3d")
    panels = {section.name: section.panels for section in made.sections}
    assert [len(some) for some in panels.values()] == [5, 5, 3]
    assert [panel.y.name for panel in panels["What it came to"][:2]] == [
        "accuracy/convnet_narrow/distilled",
        "accuracy/resnet18/distilled",
    ]
    assert "ipc-0a1b2c3d" in made._to_model().model_dump_json()
