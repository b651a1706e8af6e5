"""How batches of students are mixed, as a result tells it."""

from types import SimpleNamespace

import pytest

from infer.core.options import MixingOptions
from infer.models.options import BackboneOptions
from infer.pipeline.options import DistillOptions, StudentsOptions
from infer.pipeline.results import _mixing

KNOWN = {"tuned": BackboneOptions("tuned", "resnet18", pretrained="true"), "plain": BackboneOptions("plain", "convnet")}


@pytest.mark.parametrize(
    ("names", "kind", "told"),
    [
        (["plain"], "mixup", "mixup"),
        (["tuned"], "mixup", "none"),
        (["plain", "tuned"], "cutmix", "cutmix (not of tuned)"),
        (["plain", "tuned"], "none", "none"),
    ],
)
def test_pretrained_students_mix_nothing(names, kind, told):
    assembler = SimpleNamespace(context=SimpleNamespace(backbone=KNOWN.__getitem__))
    options = DistillOptions(students=StudentsOptions(backbones=names), mixing=MixingOptions(kind))
    assert _mixing(assembler, options) == told
