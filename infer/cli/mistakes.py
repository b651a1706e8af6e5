"""A user's mistake in one line: what is wrong, where, and the cure."""

from __future__ import annotations

import re
import sys
from typing import Any, NoReturn

from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue, OmegaConfBaseException

from infer.cli import schema
from infer.core.errors import UserError, choices


def fail(line: str, code: int = 2) -> NoReturn:
    """Print the line and exit."""
    print(f"error: {line}", file=sys.stderr)
    raise SystemExit(code)


def one_line(error: BaseException, name: str) -> str:
    """Return the line for ``error`` in the command ``name``."""
    text = str(error)
    if isinstance(error, UserError):
        return text.rpartition("UserError: ")[2].strip()  # an error of a loader's worker contains its traceback
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key}: has no value; give {error.full_key}=<value>"
    if isinstance(error, InterpolationToMissingValueError):
        key = text.partition("Missing mandatory value: ")[2].split()[0]
        return f"{key}: has no value; give {key}=<value>"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, value = error.missing_cfg_file.rpartition("/")
        return str(choices(group, value, error.options))
    if found := re.search(r"Could not load '([^']+)/([^'/]+)'", text):
        return str(choices(found[1], found[2], (path.stem for path in (schema.CONF / found[1]).glob("*.yaml"))))
    if found := re.search(r"Could not override '([^']+)'", text):
        return str(_unknown_key(found[1], name))
    if found := re.search(r"Error merging override (.*)", text):
        return f"{found[1]}: {str(error.__cause__).splitlines()[0]}"
    return " ".join(line.strip() for line in text.splitlines() if line.strip() and "object_type=" not in line)


def diagnosed(name: str, words: list[str]) -> str | None:
    """Return the line for a key below a list, or below a study where there is none; None for other keys."""
    for word in words:
        key = word.partition("=")[0].lstrip("+")
        above, _, _ = key.rpartition(".")
        node = OmegaConf.select(_composed(name, [other for other in words if other != word]), above) if above else {}
        if isinstance(node, ListConfig):
            return f"{key}: {above} is a list; give {above}=[...]"
        if node is None and key.startswith("tune."):
            return f"{word.lstrip('+')}: no study is asked for; add tune=default, or another of conf/tune/"
    return None


def _composed(name: str, words: list[str]) -> DictConfig:
    """Compose the command with ``words``, or without any where one of them is wrong."""
    try:
        return schema.composed(name, words)
    except (HydraException, OmegaConfBaseException, AssertionError, ValueError):
        return schema.tree(schema.OPTIONS[name])


def _unknown_key(key: str, name: str) -> UserError:
    words = [word for word in sys.argv[1:] if not word.startswith(f"{key}=")]
    value = next((word.partition("=")[2] for word in sys.argv[1:] if word.startswith(f"{key}=")), "")
    node: Any = _composed(name, words)  # other words choose groups, which have keys such as method.options
    above, _, _ = key.rpartition(".")
    for part in filter(None, above.split(".")):
        if part not in node or not isinstance(node[part], DictConfig):
            return choices(key, value, map(str, node), given=part)
        node = node[part]
    return choices(key, value, (f"{above}.{known!s}" if above else str(known) for known in node), given=key)
