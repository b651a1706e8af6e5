"""The commands answer at once, the README's commands compose, and the experiments are what their heads say."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir

from infer.cli import schema


@pytest.mark.parametrize("script", ["distill.py", "train.py"])
def test_help_loads_no_torch_and_names_every_key(script):
    code = f"""
import runpy, sys
sys.argv = [{script!r}, "--help"]
runpy.run_path({script!r}, run_name="__main__")
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for word in ("dataset: cifar10, cifar100, digits", "ipc: 10", "temperature: 4.0", "-m key=a,b"):
        assert word in done.stdout


def readme_commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("python ")]


def test_the_readme_has_the_commands():
    assert {"python distill.py", "python distill.py -m ipc=5,10,20 seed=0,1,2"} <= set(readme_commands())


@pytest.mark.parametrize("line", readme_commands())
def test_every_command_of_the_readme_composes(line, command):
    """Hydra composes each and our checks pass; the digits ones are run for real in cli/test_command_runs."""
    words = re.sub(r"<.*>", "folder", line).split()[1:]
    if "-m" in words:
        words = [word.partition(",")[0] for word in words if word != "-m"]
    done = command(*words, "--cfg", "job")
    assert done.returncode == 0, done.stderr


PUBLISHED = [path for path in sorted((ROOT / "conf" / "experiment").glob("*.yaml")) if path.stem != "poc"]


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_an_experiment_is_what_its_head_says(path):
    head = " ".join(line[2:] for line in path.read_text().splitlines() if line.startswith("# "))
    found = re.search(r"python distill.py (.*?)( dataset.root=\S+ \S+)? Not run here", head)
    assert found, "no command in its head, or no word on whether it was run"
    words = [*found[1].split(), "dataset.root=folder"]
    assert f"experiment={path.stem}" in words
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        config = schema.typed(compose("distill", words))
    assert list(config.published) == config.students.backbones
    for name, figure in config.published.items():
        assert f"{name} {figure} %" in head
    assert path.stem.startswith(f"{config.dataset.name}-ipc{config.ipc}")
    assert config.labels.kind == ("dynamic" if path.stem.endswith("-dyn") else "static")


def test_the_file_map_of_the_readme_names_every_room():
    text = (ROOT / "README.md").read_text()
    rooms = sorted(path.parent.name for path in (ROOT / "infer").glob("*/__init__.py"))
    missing = [room for room in rooms if not re.search(rf"^\s+{room}/\s", text, re.M)]
    assert not missing, f"the file map lacks {', '.join(missing)}"
