"""The rules of the house: who imports whom, what must answer at once, and a README that tells the truth."""

import ast
import csv
import json
import re
import statistics
import subprocess
import sys

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from infer.cli import schema

LAYERS = [
    {"errors", "ufc", "progress"},
    {"budget", "mixing", "labels", "store", "augment", "coding", "metrics", "published", "dashboard"},
    {"views"},
    {"distilled", "backbones", "data"},
    {"methods", "lit"},
    {"fitting", "passes", "tracking"},
    {"schema"},
    {"report", "bench"},
    {"teachers", "students"},
    {"compensators"},
    {"assemble"},
    {"compare", "allocate"},
    {"evidence"},
    {"runs", "cli"},
    {"tune"},
]
"""A module imports from layers before its own, or from its own package."""

SEAMS = {
    "hydra": {"schema", "cli"},
    "omegaconf": {"schema", "cli"},
    "wandb": {"tracking", "published"},
    "wandb_workspaces": {"dashboard"},
    "optuna": {"tune", "report"},
}


def imports() -> list[tuple[str, str]]:
    """(module of infer, what it imports), wherever in the file it does."""
    found = []
    for path in (ROOT / "infer").rglob("*.py"):
        relative = path.relative_to(ROOT / "infer")
        owner = relative.parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [
                    f"{node.module}.{alias.name}" if node.module == "infer" else node.module for alias in node.names
                ]
                found += [(owner, name) for name in names]
            elif isinstance(node, ast.Import):
                found += [(owner, alias.name) for alias in node.names]
    return found


def test_imports_go_one_way():
    layer = {name: number for number, names in enumerate(LAYERS) for name in names}
    for owner, name in imports():
        if name.startswith("infer.") and owner != "__init__" and not name.endswith("__version__"):
            needed = name.split(".")[1]
            assert needed == owner or layer[needed] < layer[owner], f"{owner} imports {needed}"


def test_only_the_seams_know_the_frameworks():
    for owner, name in imports():
        allowed = SEAMS.get(name.partition(".")[0])
        assert allowed is None or owner in allowed, f"{owner} imports {name}"


def test_importing_infer_loads_no_torch():
    code = "import infer, sys; sys.exit('torch' in sys.modules or 'hydra' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


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
    """Hydra composes each and our checks pass; the digits ones are run for real in test_commands."""
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
        config = schema.checked(compose("distill", words))
    assert list(config.published) == config.students.backbones
    for name, figure in config.published.items():
        assert f"{name} {figure} %" in head
    assert path.stem.startswith(f"{config.dataset.name}-ipc{config.ipc}")
    assert config.labels.kind == ("dynamic" if path.stem.endswith("-dyn") else "static")


def test_the_file_map_of_the_readme_is_the_tree():
    text = (ROOT / "README.md").read_text()
    for path in [*(ROOT / "infer").glob("*.py"), *(ROOT / "infer").glob("*/")]:
        name = path.name
        if not name.startswith("_"):
            assert re.search(rf"^\s+{re.escape(name)}/?\s", text, re.M), f"the file map lacks {name}"


RESULTS = ROOT / "docs" / "results"


def table(name: str) -> list[dict[str, str]]:
    """The rows of a recorded table."""
    with (RESULTS / name).open() as file:
        return list(csv.DictReader(file))


def figure(accuracy: float | str, std: float | str) -> str:
    """An accuracy as the README has it."""
    return f"{100 * float(accuracy):.1f} ± {100 * float(std):.1f}"


@pytest.mark.parametrize("name", ["digits", "cifar10-jpeg-cpu", "neu-steel-poc", "digits-imbalance"])
def test_the_readmes_figures_are_those_of_the_recorded_run(name):
    text = (ROOT / "README.md").read_text()
    result = json.loads((RESULTS / name / "result.json").read_text())
    hard = set() if name == "neu-steel-poc" else {"random_hard"}  # a report has no such row
    assert {"distilled", "random", "real"} | hard <= {row["source"] for row in result["students"]}
    for row in result["students"]:
        figures = figure(row["accuracy_mean"], row["accuracy_std"])
        if name == "digits-imbalance":
            rarest = row["recall"][result["train_pictures"].index(min(result["train_pictures"]))]
            shares = (row["balanced_accuracy"], row["macro_f1"], rarest)
            figures += "".join(f" | {100 * share:.1f}" for share in shares)
        assert f"| {row['bytes']:,} | {figures} |" in text
    for teacher in result["teachers"].values():
        assert f"{100 * teacher['accuracy']:.1f} %" in text


def test_the_readmes_table_of_methods_is_the_recorded_sweep():
    text = (ROOT / "README.md").read_text()
    rows = [row for row in table("cifar10-jpeg-sweep/table.csv") if row["source"] == "distilled"]
    assert len(rows) == 17  # six methods at three sizes; the published split has no ipc 1
    cells = {}
    for row in rows:
        cells.setdefault(row["setting"], {})[row["ipc"]] = figure(row["accuracy"], row["std"])
        assert row["students"] == "3"
    for figures in cells.values():
        assert f"| {' | '.join(figures.get(ipc, 'too small to split') for ipc in ('1', '10', '50'))} |" in text
    *_, of_others = [row for row in table("cifar10-jpeg-sre2l/table.csv") if row["source"] == "distilled"]
    assert f"came to {figure(of_others['accuracy'], of_others['std'])} at ipc {of_others['ipc']}" in text


@pytest.mark.parametrize(
    "name", ["cifar10-jpeg-bytes", "cifar10-jpeg-bytes-ipc50", "cifar10-jpeg-images", "neu-steel-32"]
)
def test_the_readmes_sweeps_are_the_recorded_ones(name):
    text = (ROOT / "README.md").read_text()
    rows = table(f"{name}/table.csv")
    assert [row["source"] for row in rows][:2] == ["distilled", "random"]
    for row in rows:
        assert f"| {int(row['bytes']):,} | {figure(row['accuracy'], row['std'])} |" in text
    for ours in [row for row in rows if row["pairs"]]:
        assert f"+{figure(ours['against_random'], ours['half_interval'])}" in text
        assert re.search(rf"[Oo]ver {ours['pairs']}\s+seeds", text)


def test_the_readmes_rows_of_the_papers_networks_are_the_recorded_students():
    text = (ROOT / "README.md").read_text()
    taught = table("cifar10-jpeg-paper/students.csv")
    published = OmegaConf.load(ROOT / "conf" / "experiment" / "cifar10-ipc10.yaml").published
    for name, of_paper in published.items():
        cells = []
        for source in ("distilled", "random"):
            found = [float(row["accuracy"]) for row in taught if (row["backbone"], row["source"]) == (name, source)]
            note = "" if len(found) == 3 else " (two seeds)"
            cells.append(figure(statistics.fmean(found), statistics.stdev(found)) + note)
        assert f"| {name} | {of_paper} | {' | '.join(cells)} |" in text


def test_the_readmes_ablation_is_the_recorded_runs():
    text = (ROOT / "README.md").read_text()
    rows = [row for path in (RESULTS / "ablation").glob("*.csv") for row in table(f"ablation/{path.name}")]
    assert len(rows) == len(re.findall(r"^\| (?:raw|coded) \|", text, re.M)) == 14
    for row in rows:
        assert f"| {int(row['bytes']):,} | {figure(row['accuracy'], row['std'])} |" in text
        assert row["students"] == "3"


def test_the_readmes_gains_on_many_classes_are_the_recorded_ones():
    text = (ROOT / "README.md").read_text()
    rows = table("subclasses/gain.csv")
    assert {row["rival"] for row in rows} == {"random", "random_images"}
    for row in rows:
        half = f" ± {100 * float(row['half']):.1f}" if row["half"] != "inf" else ""
        figures = f"| {100 * float(row['random']):.1f} | {100 * float(row['gain']):+.1f}{half} |"
        classes = row["classes"] if row["teachers"] == "3" else f"{row['classes']}, one teacher"
        ratio = f"{int(row['classes']) / int(row['teachers']):.1f}".removesuffix(".0")
        assert re.search(rf"^\| {classes} \| {re.escape(ratio)} \| .*{re.escape(figures)}", text, re.M), row
