"""The experiments are what their heads say."""

import re

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir

from infer.cli import schema

EXPERIMENTS = sorted((ROOT / "conf" / "experiment").glob("*.yaml"))
PUBLISHED = [path for path in EXPERIMENTS if "-ipc" in path.stem]
FRONTIER = [path for path in EXPERIMENTS if path.stem.startswith("frontier-")]


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


@pytest.mark.parametrize("path", FRONTIER, ids=lambda path: path.stem)
def test_an_experiment_of_the_frontier_has_the_size_in_its_name_and_the_published_figure_in_its_head(path):
    head = " ".join(line[2:] for line in path.read_text().splitlines() if line.startswith("# "))
    _, dataset, size = path.stem.split("-")
    assert f"experiment={path.stem} " in head
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        config = schema.typed(compose("distill", [f"experiment={path.stem}", "dataset.root=folder"]))
    assert (config.dataset.name, config.budget.bytes) == (dataset, 1000 * int(size.removesuffix("kB")))
    assert config.students.backbones == ["convnet_instance"]
    for figure in config.published.values():
        assert f"{figure} % (TM-RUO)" in head
    assert bool(config.published) == ("Nothing is published" not in head)
