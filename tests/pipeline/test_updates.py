"""update=<file>: new pictures come to a distilled file, within a budget and without the pictures it was made from."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import files
from PIL import Image

import infer
from infer.cli import schema
from infer.core.errors import UserError
from infer.core.files import file_digest
from infer.distilled import DistilledSet, Header
from infer.pipeline.run_folder import Run

SIDE, OLD, EACH = 16, ["ridge", "flat"], 4


def stripes(count: int, kind: int, seed: int) -> torch.Tensor:
    """Pictures of one kind of stripes, uint8 [N, 1, SIDE, SIDE]."""
    draw = np.random.default_rng(seed)
    ramp = np.sin(np.arange(SIDE) * (0.3 + 0.5 * kind))[:, None] * 80 + draw.normal(128, 30, (count, 1, SIDE, SIDE))
    return torch.from_numpy(ramp.clip(0, 255).astype(np.uint8))


def saved(path: Path, method: str = "random", seed: int = 0) -> Path:
    """An earlier file: EACH pictures of the OLD classes, as a run of ``method`` writes it."""
    naturals = torch.cat([stripes(EACH, kind, seed) for kind in range(len(OLD))])
    targets, none = torch.arange(len(OLD)).repeat_interleave(EACH), torch.empty(0, 1, SIDE, SIDE, dtype=torch.int8)
    provenance = {"settings": {"method": {"name": method}}}
    header = Header(OLD, [0.5], [0.25], "hard", "probabilities", 1.0, 0, provenance=provenance)
    DistilledSet(naturals, targets, none, None, header).save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """New pictures of the new class and of one that the file has; nothing tests the other."""
    root = tmp_path_factory.mktemp("new")
    for part, count in (("train", 8), ("test", 3)):
        for kind, name in enumerate(("ridge", None, "ash")):
            for number, image in enumerate(stripes(count, kind, 10 * kind + count) if name else ()):
                (root / part / str(name)).mkdir(parents=True, exist_ok=True)
                Image.fromarray(image[0].numpy()).save(root / part / str(name) / f"{number}.png")
    return root


def words(folder: Path, update: Path, *more: str) -> list[str]:
    of_data = ["dataset=image_folder", f"dataset.root={folder}", "dataset.name=set"]
    shape = ["dataset.image_size=auto", "dataset.channels=auto"]
    return [*of_data, *shape, f"update={update}", "method=random", "labels=hard", "ipc=4", "teachers.margin=-1", *more]


def prepared(config, *given: str) -> Run:
    options = config("distill", *given)
    return Run.prepare(options, schema.backbones(options))


def test_a_file_is_distilled_from_stored_and_new_pictures(run, folder, tmp_path, caplog):
    """And its report: a class that nothing tests has no recall, and a run that is asked for again is not made again."""
    earlier = saved(tmp_path / "earlier.safetensors")
    caplog.set_level("INFO")
    report = ["report.language=en", "students.sources=[distilled,random,real]"]
    result = run("distill", *words(folder, earlier, *report))
    assert result["train_pictures"] == [EACH + 8, EACH, 8]
    assert result["test_pictures"] == [3, 0, 3]
    assert result["update"] == {
        "file": str(earlier),
        "digest": file_digest(earlier),
        "bytes_before": earlier.stat().st_size,
        "classes_before": 2,
        "pictures_before": 2 * EACH,
        "classes_added": 1,
        "pictures_added": 16,
    }
    (file,) = files(tmp_path)
    small = infer.load(file)
    assert small.classes == [*OLD, "ash"]
    assert small.natural_targets.bincount().tolist() == [4, 4, 4]
    before = {image.numpy().tobytes() for image in infer.load(earlier).naturals}
    kept = [image.numpy().tobytes() in before for image in small.naturals[small.natural_targets == 1]]
    assert kept == [True] * EACH  # the stored pictures of flat stand for it
    told = "classes without test pictures, which no accuracy counts: flat"
    assert [record.message for record in caplog.records].count(told) == 1
    for row in result["students"]:
        assert row["recall"][1] is None
        assert row["balanced_accuracy"] == pytest.approx((row["recall"][0] + row["recall"][2]) / 2, abs=1e-6)
    assert result["evidence"]["rarest"] == 2
    page = file.with_name("report.html").read_text(encoding="utf-8")
    assert '<data value="" data-key="evidence.classes.1.recall.real" data-unit="percent">–</data>' in page
    assert told in page
    sheet = file.with_name("datasheet.md").read_text(encoding="utf-8")
    assert (
        f"It updates an earlier file, `{earlier}`, whose digest is `{file_digest(earlier)}`: 8 training images" in sheet
    )
    assert re.search(r"\| flat \| 4 \| 0 \| 4 \|", sheet)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert run("distill", *words(folder, earlier, *report)) == result
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == written
    assert small.header.provenance["settings"]["update"] == file_digest(earlier)
    return_to(run, words(folder, earlier.rename(tmp_path / "moved.safetensors")), file)


def return_to(run, given: list[str], file: Path) -> None:
    """A run that was stopped before its result was written goes on, though the earlier file lies elsewhere now."""
    assert run("distill", *given, "dry_run=true")["state"] == "finished"
    content, teachers = file.read_bytes(), sorted(file.parents[4].rglob("teacher.safetensors"))
    times = [teacher.stat().st_mtime_ns for teacher in teachers]
    file.with_name("result.json").unlink()
    file.unlink()
    assert run("distill", *given, "dry_run=true")["state"] == "unfinished"
    run("distill", *given, "students.sources=[distilled]")
    assert file.read_bytes() == content
    assert [teacher.stat().st_mtime_ns for teacher in teachers] == times
    assert len(teachers) == 1


def test_the_content_of_the_file_makes_the_run_and_not_its_place(config, folder, tmp_path):
    here, moved = saved(tmp_path / "a.safetensors"), tmp_path / "elsewhere" / "b.safetensors"
    moved.parent.mkdir()
    shutil.copy(here, moved)
    first, second = (prepared(config, *words(folder, file)) for file in (here, moved))
    assert first.settings == second.settings
    assert first.settings["update"] == file_digest(here)
    assert str(tmp_path) not in json.dumps(first.settings)
    changed = prepared(config, *words(folder, saved(here, seed=1)))
    assert changed.settings["update"] == file_digest(here) != first.settings["update"]
    assert changed.settings["data"] != first.settings["data"]
    plain = prepared(config, "ipc=4")
    assert "update" not in plain.settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("update=none.safetensors", "^update=none.safetensors: no such file; give the distilled.safetensors"),
        ("update=tests", "^update=tests: no such file"),
        ("update=README.md", "^update=README.md: not a whole distilled file"),
        ("dataset.image_size=32", "^dataset.image_size=32: the pictures of update=.* have 16; give .*=16, or auto$"),
        (
            "dataset.channels=3",
            "^dataset.channels=3: the pictures of update=.* have 1; give dataset.channels=1, or auto$",
        ),
        ("dataset=digits", "^update=.*: dataset=digits is no folder of new pictures; give dataset=image_folder"),
        ("method=rded", "^update=.*: stores images made of crops, which stand for no pictures; give a file of real"),
        ("method=sre2l", "^update=.*: stores images optimised from noise, which stand for no pictures"),
    ],
)
def test_what_cannot_be_updated_is_refused_in_a_line(config, folder, tmp_path, given, message):
    key, _, value = given.partition("=")
    earlier = saved(tmp_path / "earlier.safetensors", value if key == "method" else "random")
    plain = [f"update={earlier}"] if given == "dataset=digits" else words(folder, earlier)
    with pytest.raises(UserError, match=message) as error:
        prepared(config, *plain, *([] if key == "method" else [given]))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "outputs").exists()
