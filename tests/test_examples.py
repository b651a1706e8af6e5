"""The examples run, in small, and are short; their help starts no job."""

import contextlib
import io
import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT, TINY

import infer

EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
NOTEBOOK = EXAMPLES / "quickstart.ipynb"
LONGEST = 59
LONGER = {"ddranking.py", "wandb_dashboard.py"}
"""Scripts that are tools, no example to learn from."""


def run(folder, *words: str) -> str:
    """Run a script as a user does; return what it prints."""
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_help_starts_no_job(script, tmp_path):
    shown = run(tmp_path, script, "--help")
    assert shown.startswith("usage:")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_an_example_is_short(script):
    assert script.name in LONGER or len(script.read_text().splitlines()) <= LONGEST


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A folder of drawn pictures, and distilled files of them: one of images, one of mixed views."""
    folder = tmp_path_factory.mktemp("parts")
    run(folder, EXAMPLES / "draw_pictures.py", "parts", "--pictures", "25")
    data = infer.read_folder(folder / "parts", image_size=32)
    recipe = infer.TeacherOptions(epochs=20, batch=32, lr=0.1, optimizer="nesterov", schedule="one_cycle")
    teachers = infer.train_teachers(data, ["convnet_narrow"], options=recipe)
    for kind in ("static", "views"):
        labels = infer.LabelOptions(kind=kind, share=0.5)
        student = infer.StudentOptions(temperature=4.0)
        options = infer.SetOptions.of_method("random", labels=labels, student=student)
        infer.distill(data, teachers, ipc=15, options=options).save(folder / f"{kind}.safetensors")
    return folder


def test_drawn_pictures_are_the_same_each_time(parts, tmp_path):
    run(tmp_path, EXAMPLES / "draw_pictures.py", "again", "--pictures", "25")
    files = sorted(path.relative_to(parts / "parts") for path in (parts / "parts").rglob("*.png"))
    assert len(files) == 100
    assert all((parts / "parts" / file).read_bytes() == (tmp_path / "again" / file).read_bytes() for file in files)


@pytest.mark.parametrize("kind", ["static", "views"])
def test_the_plain_loop_learns(parts, kind):
    """Chance is 25 %."""
    shown = run(parts, EXAMPLES / "pytorch_loop.py", f"{kind}.safetensors", "parts", "--steps", "60")
    assert re.fullmatch(rf"{kind}\.safetensors: [\d.]+ % of 20 test pictures after 60 steps\n", shown)
    assert float(shown.split()[1]) > 40


@pytest.mark.parametrize("kind", ["static", "views"])
def test_the_lightning_loop_runs_a_timm_model(parts, kind):
    words = ("parts", "--steps", "3", "--model", "resnet10t")
    shown = run(parts, EXAMPLES / "lightning_timm.py", f"{kind}.safetensors", *words).splitlines()
    assert re.fullmatch(r"resnet10t: [\d.]+ % of 20 test pictures after 3 steps", shown[-1])


def test_the_sweep_prints_its_table_and_is_found_again(tmp_path):
    words = (EXAMPLES / "hydra_sweep.py", "--", *TINY[:6], "trainer=cpu", "seed=0,1", "ipc=4,5")
    first, again = (run(tmp_path, *words).splitlines() for _ in range(2))
    rows = [line for line in first if re.fullmatch(r"method=\w+ ipc=\d: [\d.]+ ± [\d.]+ % over 2 seeds", line)]
    assert len(rows) == 4
    assert again[-4:] == rows


def cells() -> list[dict]:
    return [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def printed(cell: dict) -> str:
    """What the stored output of a cell shows as text."""
    return "".join("".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream")


def test_the_notebook_runs_and_prints_what_it_shows(tmp_path, monkeypatch):
    """Cell after cell in one namespace. Machines round differently, so digits are not compared."""
    monkeypatch.chdir(tmp_path)
    space: dict = {"__name__": "__main__"}
    for cell in cells():
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            exec(compile("".join(cell["source"]), cell["id"], "exec"), space)
        assert re.sub(r"[\d,]+", "0", shown.getvalue()) == re.sub(r"[\d,]+", "0", printed(cell))
    assert space["accuracy"] > 0.6
    assert not list(tmp_path.iterdir())


def test_the_notebook_shows_its_picture():
    pictures = [output for cell in cells() for output in cell["outputs"] if "image/png" in output.get("data", {})]
    assert len(pictures) == 1
    assert NOTEBOOK.stat().st_size < 100_000


def test_the_picture_of_the_readme_is_made_by_its_script(tmp_path):
    words = ("--to", tmp_path / "idea.png", "--pictures", "10", "--epochs", "1", "--steps", "3")
    run(tmp_path, ROOT / "docs" / "images" / "make_idea.py", *words)
    made, kept = ((folder / "idea.png").read_bytes() for folder in (tmp_path, ROOT / "docs" / "images"))
    assert made[:24] == kept[:24]  # PNG files of the same size
