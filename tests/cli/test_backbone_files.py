"""Networks by name: of a file backbone/<name>.yaml in the user's folder, and of timm."""

import json
import re

from conftest import TINY, files

from infer.cli import schema
from infer.pipeline.run_folder import Run

MINE = """\
name: mine
model: convnet
options: {depth: 2, width: 8, norm: batch}
"""


def test_a_network_in_a_folder_of_ones_own_is_known_by_its_name(command, tmp_path):
    (tmp_path / "own" / "backbone").mkdir(parents=True)
    (tmp_path / "own" / "backbone" / "mine.yaml").write_text(MINE)
    words = [f"output={tmp_path / 'out'}", *TINY, "teachers.backbones=[mine]", "teachers.margin=-1", "ipc=2"]
    words += ["students.seeds=1", "students.sources=[distilled]"]
    done = command("distill.py", "--config-dir", str(tmp_path / "own"), *words)
    assert done.returncode == 0, done.stderr
    (file,) = files(tmp_path)
    assert [*json.loads((file.parent / "result.json").read_text())["teachers"]] == ["mine"]
    known = json.loads((file.parent / "settings.json").read_text())["backbones"]
    options = {"depth": 2, "width": 8, "norm": "batch"}
    assert known["mine"] == {"name": "mine", "model": "convnet", "stem": "auto", "options": options}
    assert (tmp_path / "out" / "train" / "digits" / "mine" / "seed0" / "teacher.safetensors").is_file()
    without = command("distill.py", *words)
    assert without.returncode == 2
    assert re.search("error: teachers.backbones=mine: unknown; .*choose one of ", without.stderr)


def test_a_network_that_no_file_describes_is_timms(config):
    options = config("distill", "teachers.backbones=[convnet_narrow,resnet10t]", "ipc=3")
    own = schema.backbones(options)
    assert [*own] == ["convnet_narrow"]
    run = Run.prepare(options, own)
    timms = {"name": "resnet10t", "model": "resnet10t", "stem": "auto", "options": {}}
    assert run.settings["backbones"]["resnet10t"] == timms
    assert type(run.context.network("resnet10t")).__module__.startswith("timm.")


def test_a_backbone_file_that_cannot_be_read_is_one_line(command, tmp_path):
    (tmp_path / "backbone").mkdir()
    file = tmp_path / "backbone" / "tiny.yaml"
    cases = [("name: [tiny\n", "while parsing"), ("name: tiny\ndepth: 3\n", "backbone.depth=3: unknown")]
    cases += [("name: ../tiny\nmodel: convnet\n", "backbone.name=../tiny: has / in it")]
    for content, says in cases:
        file.write_text(content)
        words = [
            "--config-dir",
            str(tmp_path),
            "students.backbones=[tiny]",
            f"output={tmp_path / 'out'}",
            "dry_run=true",
        ]
        done = command("distill.py", *words)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {file}: ")
        assert says in done.stderr
        assert done.stderr.count("\n") == 1
