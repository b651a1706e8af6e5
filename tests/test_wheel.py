"""The built wheel in a folder of its own: both commands from any folder, outputs in the current one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY


def run(*words: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    variables = {**os.environ, **environment}
    return subprocess.run(
        list(map(str, words)), cwd=cwd, env=variables, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the wheel's content alone; built from a copy, so that the checkout gets no build folder."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    for name in ("infer", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip")
    built = run(*pip, "wheel", "--no-deps", "--wheel-dir", place / "dist", source, cwd=place)
    assert built.returncode == 0, built.stderr
    (wheel,) = (place / "dist").glob("*.whl")
    done = run(*pip, "install", "--no-deps", "--target", place / "lib", wheel, cwd=place)
    assert done.returncode == 0, done.stderr
    return place / "lib"


def test_the_wheel_holds_the_configuration_and_the_types(installed):
    assert {path.relative_to(ROOT / "conf") for path in (ROOT / "conf").rglob("*.yaml")} == {
        path.relative_to(installed / "infer" / "conf") for path in (installed / "infer" / "conf").rglob("*.yaml")
    }
    assert (installed / "infer" / "py.typed").is_file()
    assert (installed / "infer" / "report" / "page.html.j2").is_file()
    assert not (installed / "tests").exists()


def test_the_console_scripts_run_from_any_folder(installed, tmp_path):
    script = installed / "bin" / "infer-distill"
    here = {"PYTHONPATH": str(installed)}
    words = [*TINY, "students.seeds=1", "students.sources=[distilled]", "ipc=5"]
    done = run(sys.executable, script, *words, cwd=tmp_path, **here)
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout
    assert (tmp_path / "outputs" / "distill" / "digits" / "infer-ipc5" / "seed0" / "distilled.safetensors").is_file()
    (student,) = tmp_path.rglob("student.safetensors")
    words = [installed / "bin" / "infer-predict", student, ROOT / "docs" / "images"]
    done = run(sys.executable, *words, cwd=tmp_path, **here)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('"file","class","unsure","error","0","1",')
    words = ["backbone=convnet_narrow", *TINY[:4], "trainer=cpu"]
    done = run(sys.executable, installed / "bin" / "infer-train", *words, cwd=tmp_path, **here)
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout


def test_a_missing_extra_is_one_line_that_names_it(installed, tmp_path):
    """Libraries are hidden by empty modules that raise as if they were not there."""
    for library in ("hydra", "optuna"):
        (tmp_path / library).mkdir()
        (tmp_path / library / "__init__.py").write_text(
            f"raise ModuleNotFoundError(\"No module named '{library}'\", name='{library}')"
        )
    script = installed / "bin" / "infer-distill"
    only = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{installed}"}
    done = run(sys.executable, script, "--help", cwd=tmp_path, **only)
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "error: infer-distill: needs hydra, which is not installed; python -m pip install 'infer-distillation[train]'"
    )
    shutil.rmtree(tmp_path / "hydra")
    done = run(sys.executable, script, "tune=default", cwd=tmp_path, **only)
    assert done.returncode == 2
    assert done.stderr.strip().endswith(
        "needs optuna, which is not installed; python -m pip install 'infer-distillation[tune]'"
    )
