"""The experiments are what their heads say."""

import re

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir

from infer.cli import schema

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
