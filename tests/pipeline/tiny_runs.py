"""A run of distill.py with few steps, as a process: how it ends undisturbed, and whether what it left is whole."""

from __future__ import annotations

import atexit
import csv
import functools
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from kill_runs import finish, start, state
from PIL import Image
from safetensors.torch import load_file

WORDS = [
    *("distill.py", "method=infer", "ipc=30", "distill.rounds=2", "trainer=cpu", "students.seeds=1"),
    *("teachers.backbones=[convnet_narrow]", "recipe.teacher.epochs=2", "recipe.teacher.min_steps=0"),
    *("recipe.ufc.steps=5", "recipe.student.steps=5", "students.sources=[distilled]"),
]


@functools.cache
def undisturbed() -> tuple[Path, dict[str, Any]]:
    """Run WORDS once in this session; return the output folder and its :func:`kill_runs.state`."""
    place = tempfile.TemporaryDirectory()
    atexit.register(place.cleanup)
    output = Path(place.name, "outputs")
    finish(WORDS, output)
    return output, state(output)


def begin(output: Path) -> subprocess.Popen[str]:
    """Start WORDS; what it prints is in its stdout."""
    return start(WORDS, output)


def require_whole(output: Path) -> None:
    """Fail where a file below ``output`` is half-written, or is none that a run leaves."""
    for path in (path for path in output.rglob("*") if not path.is_dir()):
        match path.suffix or path.name:
            case ".json":
                assert json.loads(path.read_text(encoding="utf-8")), path
            case ".safetensors":
                assert load_file(path), path
            case ".ckpt":
                assert torch.load(path, weights_only=True)["state_dict"], path
            case ".csv":
                with path.open(newline="", encoding="utf-8") as file:
                    first, *rows = csv.reader(file)
                opening = ["path", "class"] if path.name == "selected.csv" else ["stage", "step"]
                assert first[:2] == opening, path
                assert all(len(row) == len(first) for row in rows), path
            case ".png":
                with Image.open(path) as picture:
                    picture.load()
            case ".md":
                assert path.read_text(encoding="utf-8").endswith("\n"), path
            case ".lock":
                assert path.stat().st_size == 0, path
            case _:
                pytest.fail(f"{path} is no file of a run")
