"""The structure of the package: which room imports which, where frameworks are used, and how large things are."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from safetensors.torch import save_file

FLOORS = [
    {"core"},
    {"data", "models", "distilled", "metrics"},
    {"training", "methods", "report"},
    {"pipeline"},
    {"cli"},
]
"""The rooms of infer/. A room imports itself and rooms of floors before its own."""

SEAMS = {
    "hydra": ("cli/",),
    "omegaconf": ("cli/",),
    "wandb": ("report/tracking.py", "distilled/artifacts.py"),
    "wandb_workspaces": (),
    "optuna": ("pipeline/tune.py", "pipeline/study_process.py", "pipeline/study_result.py", "report/study.py"),
    "matplotlib": ("report/",),
    "pytorch_lightning": ("models/", "distilled/", "training/", "report/", "pipeline/", "cli/"),
}
"""The only places that import a framework."""

MOST_FLOORS = 7
LONGEST = {"file": 300, "class": 120, "function": 50}
MOST_PARAMETERS = 8

EXCEPTIONS = {
    "infer/distilled/header.py:Header": "the metadata of the file: a field for each key of its JSON",
    "infer/core/mixed_views.py:MixedViews": "the header's entry on mixed views: a field for each key of its JSON",
}
"""Definitions with more parameters, each with the reason."""

BLOCKED = {
    *("hydra", "omegaconf", "rich", "filelock", "psutil", "jinja2"),
    *("pytorch_lightning", "torchmetrics", "torchvision", "timm", "scipy", "sklearn"),
    *("wandb", "tensorboard", "optuna", "matplotlib"),
}
"""Libraries that the base install does not have."""


def source_files(*patterns: str) -> list[Path]:
    """Paths of the repository's files, relative to its root."""
    return sorted(path.relative_to(ROOT) for pattern in patterns for path in ROOT.glob(pattern))


PACKAGE = source_files("infer/**/*.py")
SCRIPTS = source_files("train.py", "distill.py")
BENCHMARKS = source_files("benchmarks/*.py")
MEASURED = [*PACKAGE, *SCRIPTS, *source_files("examples/*.py")]


def module(path: Path) -> str:
    """The dotted name of a file."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path) for path in PACKAGE}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Dotted names of what a file imports, wherever in the file it does.

    A name imported from a package is its submodule, where there is one of that name, and else the package itself.
    """
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path}:{node.lineno}: relative imports are not resolved here"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in MODULES else node.module


def own_imports(path: Path) -> set[str]:
    """Modules of infer that a file imports. infer/__init__.py does not count, because it imports late."""
    return {name for name in imports(path) if name in MODULES and name != "infer"}


def room(name: str) -> str:
    return name.split(".")[1]


def none(offenders: Iterable[str]) -> None:
    """Fail with the list of all offenders, where there are any."""
    if listed := sorted(offenders):
        pytest.fail(f"{len(listed)} offenders:\n" + "\n".join(listed), pytrace=False)


ROOMED = [path for path in PACKAGE if path != Path("infer/__init__.py")]


def test_every_module_is_in_a_room():
    known = set().union(*FLOORS)
    none(str(path) for path in ROOMED if len(path.parts) < 3 or path.parts[1] not in known)


def test_rooms_import_one_way():
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    none(
        f"{path} imports {name}"
        for path in ROOMED
        for name in own_imports(path)
        if room(name) != path.parts[1] and floor[room(name)] >= floor[path.parts[1]]
    )


def test_there_are_few_floors():
    """The longest chain of rooms, the scripts included."""
    above: dict[str, set[str]] = {}
    for path in [*ROOMED, *SCRIPTS]:
        owner = path.parts[1] if len(path.parts) > 1 else path.name
        above.setdefault(owner, set()).update(room(name) for name in own_imports(path) if room(name) != owner)
    height: dict[str, int] = {}
    for owner in TopologicalSorter(above).static_order():
        height[owner] = 1 + max((height[name] for name in above[owner]), default=0)
    assert max(height.values()) <= MOST_FLOORS, height


def test_modules_import_without_a_cycle():
    graph = {module(path): own_imports(path) for path in [*ROOMED, *SCRIPTS]}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" is imported by ".join(error.args[1]), pytrace=False)


@pytest.mark.parametrize("framework", SEAMS)
def test_frameworks_are_imported_only_at_their_seams(framework):
    seams = tuple(f"infer/{place}" for place in SEAMS[framework])
    importing = [path for path in PACKAGE if framework in {name.partition(".")[0] for name in imports(path)}]
    none(path.as_posix() for path in importing if not path.as_posix().startswith(seams))


@dataclass(frozen=True)
class Definition:
    """A class or function: where it is, how many lines it has, and how many parameters."""

    place: str
    kind: str
    lines: int
    parameters: int


def definitions(path: Path) -> Iterator[Definition]:
    """Every class and function of a file, nested ones included."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef):
            kind, parameters = "class", fields(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            kind, parameters = "function", arguments(node)
        else:
            continue
        assert node.end_lineno
        yield Definition(f"{path.as_posix()}:{node.name}", kind, node.end_lineno - node.lineno + 1, parameters)


def arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many parameters a function has, self and cls aside."""
    spec = node.args
    named = [each.arg for each in [*spec.posonlyargs, *spec.args, *spec.kwonlyargs]]
    return len([name for name in named if name not in ("self", "cls")]) + bool(spec.vararg) + bool(spec.kwarg)


def fields(node: ast.ClassDef) -> int:
    """How many fields a dataclass is created with; an options class has as many as there are options."""
    decorators = {ast.unparse(each).partition("(")[0].rpartition(".")[2] for each in node.decorator_list}
    if "dataclass" not in decorators or node.name.endswith("Options"):
        return 0
    annotated = [each for each in node.body if isinstance(each, ast.AnnAssign)]
    texts = [ast.unparse(each) for each in annotated]
    return len([text for text in texts if "ClassVar" not in text and "init=False" not in text])


def test_files_are_short():
    lengths = {path: len((ROOT / path).read_text().splitlines()) for path in [*MEASURED, *BENCHMARKS]}
    none(f"{path}: {lines} lines" for path, lines in lengths.items() if lines > LONGEST["file"])


def test_classes_and_functions_are_short():
    everything = [each for path in MEASURED for each in definitions(path)]
    none(f"{each.place}: {each.lines} lines" for each in everything if each.lines > LONGEST[each.kind])


def test_functions_and_dataclasses_have_few_parameters():
    everything = [each for path in MEASURED for each in definitions(path)]
    many = {each.place: each.parameters for each in everything if each.parameters > MOST_PARAMETERS}
    none(f"{place}: {count} parameters" for place, count in many.items() if place not in EXCEPTIONS)
    none(f"{place}: no longer needs its exception" for place in EXCEPTIONS if place not in many)


def test_importing_infer_loads_neither_torch_nor_hydra():
    code = "import infer, sys; sys.exit('torch' in sys.modules or 'hydra' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


BASE_INSTALL = """
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
import infer
for room in ("core", "distilled"):
    package = importlib.import_module(f"infer.{{room}}")
    for found in pkgutil.iter_modules(package.__path__, f"infer.{{room}}."):
        if found.name != "infer.distilled.datamodule":
            importlib.import_module(found.name)

distilled = infer.load({file!r})
assert len(distilled) == 8
image, label = distilled[4]
assert image.flatten().tolist() == [16] * 64, image  # natural 0, of level 10, and three steps of two levels
assert label.argmax() == 0
"""


def test_the_base_install_reads_a_file_and_composes_its_images(tmp_path):
    """With torch, NumPy, Pillow, safetensors and pydantic alone."""
    header = {
        "classes": ["a", "b"],
        "mean": [0.5],
        "std": [0.5],
        "labels": "static",
        "space": "logits",
        "temperature": 4.0,
        "compensators_per_round": 1,
        "label_bytes": 0,
        "step": 2,
        "sheets": [],
        "views": None,
        "version": 2,
        "provenance": {},
    }
    targets = torch.tensor([0, 1, 0, 1], dtype=torch.uint8)
    pixels = torch.ones(1, 1, 8, 8)
    tensors = {
        "naturals": (torch.tensor([10, 20, 30, 40]).view(4, 1, 1, 1) * pixels).to(torch.uint8),
        "targets": targets,
        "compensators": (torch.tensor([3, -3]).view(2, 1, 1, 1) * pixels).to(torch.int8),
        "labels": torch.nn.functional.one_hot(targets.long(), 2).half().repeat(2, 1),
    }
    file = tmp_path / "small.safetensors"
    save_file(tensors, file, {"infer": json.dumps(header)})
    code = BASE_INSTALL.format(blocked=BLOCKED, file=str(file))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
