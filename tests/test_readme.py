"""The README is short, its commands and programs run, its links lead somewhere, and its figures are recorded ones."""

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, TINY

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "docs" / "results"
QUICK = {
    "distill.py": [*TINY, "labels.proxy_steps=5", "teachers.margin=-1", "budget.choices.budget.quality=null"],
    "train.py": TINY,
    "examples/draw_pictures.py": ["--pictures", "12"],
    "examples/pytorch_loop.py": ["--steps", "3"],
    "examples/lightning_timm.py": ["--steps", "2"],
}
"""Words that a test adds to a command, so that it takes seconds."""
QUICK_PROGRAM = {"epochs=20": "epochs=1", "image_size=32": "image_size=16", "ipc=2": "ipc=3"}
"""Words of a program that a test replaces, likewise."""


def blocks() -> list[tuple[str, str]]:
    """Every code block: its language and its text, in the order of the README."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.M | re.S)


def test_the_readme_is_read_in_three_minutes():
    assert len(TEXT.splitlines()) <= 150
    assert len(TEXT.split()) <= 1500


def test_no_placeholder_is_a_redirection():
    shell = [text for language, text in blocks() if language in ("bash", "sh", "shell")]
    assert not [text for text in shell if "<" in text or ">" in text]
    assert {language for language, _ in blocks()} == {"bash", "python"}


def test_the_blocks_run_one_after_another(tmp_path):
    """A newcomer's path in a folder of its own: every command and every program, in small."""
    for name in ("distill.py", "train.py", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    ran = []
    for language, text in blocks():
        for words in shell_lines(text) if language == "bash" else [program(text)]:
            done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
            assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
            ran.append(words[1])
    assert ran == [
        *("distill.py", "examples/draw_pictures.py", "distill.py", "-c", "-c"),
        *("examples/pytorch_loop.py", "examples/lightning_timm.py"),
    ]
    (report,) = tmp_path.rglob("report.html")
    assert report.with_name("distilled.safetensors").is_file()
    assert (tmp_path / "small.safetensors").is_file()


def shell_lines(text: str) -> list[list[str]]:
    """The commands of a block that run here; make and the shell's own are held to the Makefile."""
    commands = []
    for line in text.splitlines():
        first, *words = shlex.split(line, comments=True)
        if first == "python":
            commands.append([sys.executable, *words, *QUICK[words[0]]])
        elif first == "make":
            assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.M)
        else:
            assert line == "source .venv/bin/activate"
    return commands


def program(text: str) -> list[str]:
    """A program as a command, in small."""
    for word, quick in QUICK_PROGRAM.items():
        text = text.replace(word, quick)
    return [sys.executable, "-c", text]


def test_the_commands_within_the_text_are_ours():
    inline = re.findall(r"`((?:python|make) [^`]+)`", TEXT)
    assert {"python distill.py", "python train.py", "make docs"} <= set(inline)
    extras = re.findall(r"pip install '\.\[(\w+)\]'", " ".join(inline))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extras
    assert set(extras) <= set(project["optional-dependencies"])


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_a_link_leads_to_a_file(name):
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / name).read_text(encoding="utf-8"))
    inside = [link.partition("#")[0] for link in links if not link.startswith("https://")]
    created = {"docs/configuration.md", "docs/contributing.md"}  # by the build of the site
    assert not [link for link in inside if not (ROOT / link).exists() and link not in created]


def test_the_readme_links_to_what_people_look_for():
    for address in ("arxiv.org/abs/2408.06927", "](docs/index.md)", "](CITATION.cff)", "](LICENSE)", "](CHANGELOG.md)"):
        assert address in TEXT


def part(title: str) -> str:
    """The text below a heading."""
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_the_glossary_has_seven_words():
    assert len(re.findall(r"^- \*\*", part("Seven words"), re.M)) == 7


def test_the_table_has_the_recorded_figures():
    rows = re.findall(r"^\| (.+?) \| ([\d,]+) \| (.+?) \|$", part("What it reaches"), re.M)
    assert [[size, figure] for _, size, figure in rows] == [
        of_run("real"),
        of_sweep("distilled"),
        of_sweep("random"),
        of_run("random"),
        of_run("distilled"),
    ]


def of_run(source: str) -> list[str]:
    """Bytes and accuracy of a row of the recorded run of the paper's method."""
    students = json.loads((RESULTS / "cifar10-jpeg-cpu" / "result.json").read_text())["students"]
    (row,) = [row for row in students if row["source"] == source]
    return [f"{row['bytes']:,}", f"{100 * row['accuracy_mean']:.1f} ± {100 * row['accuracy_std']:.1f}"]


def of_sweep(source: str) -> list[str]:
    """Bytes and accuracy of a row of the recorded sweep of INFER+, over 20 seeds."""
    with (RESULTS / "cifar10-jpeg-bytes" / "table.csv").open() as file:
        (row,) = [row for row in csv.DictReader(file) if row["source"] == source]
    assert row["students"] == "20"
    return [f"{int(row['bytes']):,}", f"{100 * float(row['accuracy']):.1f} ± {100 * float(row['std']):.1f}"]


def test_the_citation_has_the_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    version = re.search(r'__version__ = "(.+)"', (ROOT / "infer" / "core" / "version.py").read_text())[1]
    assert citation["version"] == version
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(), re.M)
    (paper,) = citation["references"]
    assert paper["title"].startswith("Breaking Class Barriers")
    assert [author["family-names"] for author in paper["authors"]] == ["Zhang", "Du", "Liu", "Zhou"]


def test_the_project_says_its_licence():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    assert (ROOT / "LICENSE").read_text().split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert not [key for key in ("readme", "authors", "urls", "classifiers") if not project.get(key)]


def test_ci_calls_the_gate():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert ".ci/run" in [step.get("run") for step in steps]
    for form in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        assert {"name", "description", "body"} <= set(yaml.safe_load(form.read_text()))


@pytest.fixture(scope="module")
def extended(tmp_path_factory) -> Path:
    """A copy of the code to which everything that CONTRIBUTING.md adds is added, as it says."""
    folder = tmp_path_factory.mktemp("extended")
    for name in ("infer", "conf", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests").mkdir()
    shutil.copytree(ROOT / "tests" / "methods", folder / "tests" / "methods")
    for name in ("distill.py", "pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / name, folder / name)
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path, content in re.findall(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)^```$", text, re.M | re.S):
        assert not (folder / path).exists()
        (folder / path).write_text(content)
    entries = re.findall(r"entry in `(\w+)` of `([\w/.]+)`:\n\n```text\n(.*?)^```$", text, re.M | re.S)
    for name, path, content in entries:
        source = (folder / path).read_text()
        opening = re.search(rf"^{name}\b.*\($", source, re.M)
        (folder / path).write_text(source[: opening.end() + 1] + content + source[opening.end() + 1 :])
    assert [name for name, *_ in entries] == ["_ALL", "NETWORKS"]
    return folder


def done_in(folder: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_a_method_a_backbone_and_a_data_set_are_added_as_contributing_says(extended):
    done_in(extended, "examples/draw_pictures.py", "data/shapes", "--pictures", "8")
    words = ["dataset=shapes", "method=contrast", "ipc=2", "students.backbones=[convnet_wide]"]
    done_in(extended, "distill.py", *TINY, *words, "teachers.margin=-1")
    folder = extended / "outputs" / "distill" / "shapes" / "contrast-ipc2" / "seed0"
    content = json.loads((folder / "result.json").read_text())
    assert (content["dataset"], content["method"]) == ("shapes", "contrast")
    assert content["students"][0]["backbone"] == "convnet_wide"


def test_the_tests_of_methods_hold_for_the_added_one(extended):
    done_in(extended, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/methods", "-k", "contrast or conf")
