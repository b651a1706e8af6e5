"""What the tests share: options as a command composes them, small pictures on disk, and the commands as processes."""

import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from infer.cli import schema
from infer.cli.command import TASKS

ROOT = Path(__file__).parent.parent

TINY = [
    "teachers.backbones=[convnet_narrow]",
    "recipe.teacher.epochs=4",
    "recipe.teacher.min_steps=0",
    "recipe.ufc.steps=20",
    "recipe.student.steps=20",
    "recipe.student.real_epochs=1",
    "students.seeds=2",
    "students.sources=[distilled,random,random_hard,real]",
    "trainer=cpu",
]
"""A digits run of seconds: every stage, few steps."""


def files(folder: Path) -> list[Path]:
    """The distilled sets below ``folder``."""
    return sorted(folder.rglob("distilled.safetensors"))


def await_file(process: subprocess.Popen, folder: Path, pattern: str, seconds: float = 120) -> None:
    """Wait until a running process has written a file below ``folder``; it fails where the process ends before."""
    deadline = time.time() + seconds
    while not list(folder.rglob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.time() < deadline
        time.sleep(0.001)


@pytest.fixture
def config(tmp_path: Path) -> Callable:
    """Compose the checked options of a command that writes below the test's own folder."""

    def composed(command: str, *overrides: str):
        schema.register()
        with initialize_config_dir(str(schema.CONF), version_base="1.3"):
            return schema.typed(compose(command, [f"output={tmp_path}/outputs", *TINY, *overrides]))

    return composed


@pytest.fixture
def run(config: Callable) -> Callable[..., Any]:
    """Run a command in this process; returns its result."""

    def done(command: str, *overrides: str) -> Any:
        options = config(command, *overrides)
        return TASKS[command](options, schema.backbones(options))

    return done


@pytest.fixture
def command() -> Callable[..., subprocess.CompletedProcess]:
    """Run a script of the project as a user does; returns its exit code and output."""

    def done(*words: str, **options) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False, **options
        )

    return done


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen]]:
    """Start a script of the project and return its process, whose lines are on its stdout; it ends with the test."""
    started = []

    def begin(*words: str, **options) -> subprocess.Popen:
        quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen([sys.executable, *words], cwd=ROOT, **quiet, **options))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of train/ and test/ pictures of three kinds of stripes, of mixed sizes, modes and formats."""
    root = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 4)):
        for number, name in enumerate(("flat", "kuro 黒", "ridge")):
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                side = int(draw.integers(20, 40))
                ramp = np.sin(np.arange(side) * (0.3 + 0.5 * number))[:, None] * 80 + draw.normal(128, 20, (side, side))
                picture = Image.fromarray(ramp.clip(0, 255).astype(np.uint8))
                if index % 3 == 1:
                    picture = picture.convert("RGB")
                suffix = ("png", "jpg", "bmp")[index % 3]
                picture.save(root / part / name / f"{index}.{suffix}")
    return root


@pytest.fixture(scope="session")
def cifar10() -> Path:
    """The JPEG copy of CIFAR-10, where INFER_DATA, data/ or ../shared/data has it; else the test is skipped."""
    return _real("cifar10-jpeg")


@pytest.fixture(scope="session")
def steel() -> Path:
    """The NEU surface-defect pictures, likewise."""
    return _real("neu-steel")


def unpacked(archive: Path, folder: Path) -> Path:
    """Unpack the ``folder`` of an archive, whole or not at all: another session may do so, or a stop cut this one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as beside:
        with tarfile.open(archive) as opened:
            opened.extractall(beside, filter="data")
        try:
            (Path(beside) / folder.name).rename(folder)
        except OSError:
            if not (folder / "train").is_dir():  # which another session has put there
                raise
    return folder


def _real(name: str) -> Path:
    places = [Path(os.environ.get("INFER_DATA", ROOT / "data")), ROOT / "data", ROOT.parent / "shared" / "data"]
    for place in places:
        if (place / name / "train").is_dir():
            return place / name
    for place in places:
        if (place / f"{name}.tar.xz").is_file():
            return unpacked(place / f"{name}.tar.xz", ROOT / "data" / name)
    pytest.skip(f"{name}: neither unpacked nor packed in INFER_DATA, data/ or ../shared/data")
