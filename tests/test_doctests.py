"""The examples in docstrings run and give what they show."""

import doctest
from importlib import import_module

import pytest
from conftest import ROOT

PUBLIC = [
    "infer",
    "infer.core.budget",
    "infer.core.checks",
    "infer.core.labels",
    "infer.core.ufc",
    "infer.data.datasets",
    "infer.data.splits",
    "infer.distilled.datamodule",
    "infer.distilled.dataset",
    "infer.distilled.export",
    "infer.distilled.reading",
    "infer.methods.options",
    "infer.methods.proxy",
    "infer.models.networks",
    "infer.pipeline.api",
    "infer.training.evaluation",
    "infer.training.students",
    "infer.training.teachers",
]
"""The modules of the public API; each has an example."""


def with_examples() -> list[str]:
    """The modules whose source holds an example, public or not."""
    files = [path for path in (ROOT / "infer").rglob("*.py") if ">>> " in path.read_text(encoding="utf-8")]
    return [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]


@pytest.mark.parametrize("name", sorted({*PUBLIC, *with_examples()}))
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = doctest.testmod(import_module(name))
    assert ran.attempted
    assert not ran.failed
    assert not list(tmp_path.iterdir())  # an example cleans up after itself
