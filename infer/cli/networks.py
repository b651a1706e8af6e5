"""The networks of experiment=poc: with ImageNet weights where these are installed, and from scratch where not."""

from __future__ import annotations

import sys

from infer.core.extras import install
from infer.models.options import has_packaged_weights

_POC, _PRETRAINED = "experiment=poc", "experiment=poc_pretrained"
_MODEL = "tf_efficientnet_lite0"
"""The model of conf/teachers/lite0.yaml and conf/students/lite0.yaml."""

_NETWORKS = ("teachers", "students", "teachers.backbones", "students.backbones")


def with_networks(words: list[str]) -> list[str]:
    """Return the words of a command line, in which ``experiment=poc`` with pretrained networks has its own name.

    What the user says wins: a recipe, or networks. Where neither is said, a note tells which networks are chosen.
    """
    if _POC not in words:
        return words
    given = dict(word.partition("=")[::2] for word in words)
    if "recipe" in given:
        pretrained = given["recipe"] == "finetune"
    elif any(key in given for key in _NETWORKS):
        pretrained = False
    else:
        pretrained = has_packaged_weights(_MODEL)
        print(f"note: {_POC}: {_chosen(pretrained)}", file=sys.stderr)
    return [_PRETRAINED if pretrained and word == _POC else word for word in words]


def _chosen(pretrained: bool) -> str:
    if pretrained:
        return "EfficientNet-Lite0 with ImageNet weights (recipe=finetune); recipe=poc trains networks from scratch"
    return f"networks are trained from scratch (recipe=poc); for ImageNet weights: {install('weights')}"
