"""The comments in conf/, which say what files, groups and keys are for.

- The comment lines at the top of a file, up to the first empty line or key, are about the file.
- The comment behind a key, or on the lines right above it, is about the key.
- The comment behind an entry of a defaults list, such as ``- dataset: digits  # the pictures``, is about the group.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

from infer.cli.keys import CONF

_PACKAGE = "# @package _global_"
"""The first line of a file whose keys are those of the whole configuration."""

_KEY = re.compile(r"(?P<indent> *)(?P<key>\w+):(?!\S).*?(?: # (?P<comment>.*))?")
_ENTRY = re.compile(r" *- /?(?P<group>\w+)(?:@[\w.]+)?: .*? # (?P<comment>.*)")


@dataclass(frozen=True)
class Comments:
    """What the comments of a file say.

    Attributes:
        head: What the file is for.
        keys: What keys mean, by the key in the whole configuration, such as ``dataset.root``.
        groups: What the groups of the defaults list are for.
    """

    head: str
    keys: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)


@cache
def comments(group: str, name: str) -> Comments:
    """Read the comments of ``conf/<group>/<name>.yaml``; ``group`` is empty for a file that is in none.

    Example:
        >>> comments("mixing", "none").keys["mixing.alpha"]
        'has no effect without mixing'
    """
    lines = (CONF / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    whole = not group or lines[0] == _PACKAGE
    lines = lines[lines[0] == _PACKAGE :]
    head = _block(lines)
    keys: dict[str, str] = {}
    groups: dict[str, str] = {}
    path: list[tuple[int, str]] = [] if whole else [(-1, group)]
    above: list[str] = []
    for line in lines[len(head) :]:
        if line.lstrip().startswith("# "):
            above.append(line.strip()[2:])
            continue
        if found := _ENTRY.fullmatch(line):
            groups[found["group"]] = found["comment"]
        elif found := _KEY.fullmatch(line):
            path = [part for part in path if part[0] < len(found["indent"])] + [(len(found["indent"]), found["key"])]
            if comment := found["comment"] or " ".join(above):
                keys[".".join(part for _, part in path)] = comment
        above = []
    return Comments(" ".join(head), keys, groups)


def _block(lines: Iterable[str]) -> list[str]:
    """Return the comment lines at the top."""
    found: list[str] = []
    for line in lines:
        if not line.startswith("# "):
            break
        found.append(line[2:])
    return found
