"""Weights & Biases and TensorBoard: what is logged to them, and that neither can cost a result."""

import json

import wandb
from conftest import TINY, files
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb_records import ENVIRONMENT, by_type

import infer
from infer.cli import schema
from infer.pipeline.run import distill
from infer.pipeline.train import train

WORDS = ["students.sources=[distilled,random,random_hard]", "students.seeds=1", "ipc=3"]


def test_both_log_a_run_offline_and_without_an_account(command, tmp_path):
    done = command("distill.py", f"output={tmp_path}", *TINY, *WORDS, "logger=[wandb,tensorboard]", env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    (file,) = files(tmp_path)
    result = json.loads((file.parent / "result.json").read_text())

    (offline,) = tmp_path.rglob("offline-run-*/*.wandb")
    found = by_type(offline)
    (run,) = found["run"]
    assert (run.job_type, list(run.tags)) == ("distill", ["digits", "infer", "ipc3", "static"])
    config = {item.key or ".".join(item.nested_key) for record in found["config"] for item in record.update}
    assert {"recipe.ufc.lr", "method.name", "budget.by"} <= config  # flat, for searching and grouping
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


def test_loggers_do_not_change_the_file(command, tmp_path):
    for output, words in (("logged", ["logger=tensorboard"]), ("plain", [])):
        done = command("distill.py", f"output={tmp_path / output}", *TINY, *WORDS, "distill.rounds=2", *words)
        assert done.returncode == 0, done.stderr
    logged, plain = files(tmp_path / "logged")[0], files(tmp_path / "plain")[0]
    assert logged.read_bytes() == plain.read_bytes()
    rows = [json.loads((file.parent / "result.json").read_text())["students"] for file in (logged, plain)]
    assert [row["accuracies"] for row in rows[0]] == [row["accuracies"] for row in rows[1]]


def test_an_unreachable_server_costs_no_result(command, tmp_path):
    gone = {"WANDB_MODE": "online", "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}
    environment = {**ENVIRONMENT, **gone, "WANDB_INIT_TIMEOUT": "2"}
    done = command("distill.py", f"output={tmp_path}", *TINY, *WORDS, "logger=wandb", env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "going on offline, `wandb sync` uploads" in done.stdout
    assert files(tmp_path)
    (offline,) = tmp_path.rglob("offline-run-*/*.wandb")
    assert {"distilled", "teacher"} <= {artifact.type for artifact in by_type(offline)["artifact"]}


def test_a_wandb_artifact_is_read_by_its_name(config, monkeypatch, tmp_path):
    options = config("distill", *WORDS)
    distill(options, schema.backbones(options))
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
    options = config("train", "source=distilled", f"source.path='{name}'")
    assert train(options, schema.backbones(options))["steps"] == 20


def test_a_wandb_artifact_that_cannot_be_fetched_is_one_line(command, tmp_path):
    environment = {**ENVIRONMENT, "HOME": str(tmp_path)}  # without an account
    done = command("train.py", f"output={tmp_path / 'out'}", "source=wandb:team/infer/digits:v0", env=environment)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: wandb:team/infer/digits:v0: cannot be fetched (")
    assert not (tmp_path / "out").exists()
