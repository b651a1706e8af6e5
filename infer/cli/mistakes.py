"""A user's mistake in one line: what is wrong, where, and the cure."""

from __future__ import annotations

import re
import sys
from typing import Any, NoReturn, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue, OmegaConfBaseException

from infer.cli import schema
from infer.cli.keys import groups, hint
from infer.core.checks import expected, fields_of
from infer.core.errors import UserError, choices, message_in


def fail(line: str) -> NoReturn:
    """Print the line and exit."""
    print(f"error: {' '.join(line.splitlines())}", file=sys.stderr)
    raise SystemExit(2)


def one_line(error: BaseException, name: str) -> str:
    """Return the line for ``error`` in the command ``name``."""
    text = str(error)
    if isinstance(error, UserError):
        return message_in(text) or text.strip()  # an error of a loader's worker contains its traceback
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key}: has no value; give {error.full_key}=<value>"
    if isinstance(error, InterpolationToMissingValueError):
        key = text.partition("Missing mandatory value: ")[2].split()[0]
        return f"{key}: has no value; give {key}=<value>"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, value = error.missing_cfg_file.rpartition("/")
        return str(choices(group, value, error.options))
    if found := re.search(r"Cannot find primary config '([^']+)'", text):
        return f"--config-name={found[1]}: no such file in conf/, nor in the folder of --config-dir"
    if found := re.search(r"Could not load '([^']+)/([^'/]+)'", text):
        return str(choices(found[1], found[2], groups().get(found[1], [])))
    if found := re.search(r"Could not override '([^']+)'", text):
        return str(_unknown_key(getattr(error.__cause__, "full_key", None) or found[1], name))
    if found := re.search(r"Error merging override (.*)", text):
        return _another_type(found[1], str(error.__cause__).splitlines()[0], name)
    if isinstance(error, OverrideParseException):
        return _another_type(error.override, "is not a value of Hydra's grammar; quote it", name)
    return " ".join(line.strip() for line in text.splitlines() if line.strip() and "object_type=" not in line)


def _another_type(word: str, reason: str, name: str) -> str:
    """Return the line for an override with a value that is none of its key's type."""
    key = word.partition("=")[0].lstrip("+")
    kind = hint(key, name)
    if kind in (None, Any):
        return f"{word}: {reason}"
    if fields := list(fields_of(kind)):
        return f"{word}: has keys of its own; give {key}.{fields[0]}=<value>, or another of {', '.join(fields)}"
    return f"{word}: must be {expected(kind)}"


def no_study(name: str, words: list[str]) -> str | None:
    """Return the line for a key of a study where there is none; None for other mistakes."""
    for word in words:
        if word.startswith(("tune.", "+tune.")):
            others = [other for other in words if not other.lstrip("+").startswith("tune.")]
            if OmegaConf.select(_composed(name, others), "tune") is None:
                return f"{word}: no study is asked for; add tune=default, or another of conf/tune/"
    return None


def _composed(name: str, words: list[str]) -> DictConfig:
    """Compose the command with ``words``, or without any where one of them is wrong."""
    try:
        return schema.composed(name, words)
    except (HydraException, OmegaConfBaseException, AssertionError, ValueError):
        return schema.tree(schema.OPTIONS[name])


def _unknown_key(key: str, name: str) -> UserError:
    if key.startswith("hydra."):
        return UserError(f"{key}: Hydra has no such key; --cfg hydra shows those it has")
    given = {word.lstrip("+").partition("=")[0]: word for word in sys.argv[1:]}
    said = max((known for known in given if f"{key}.".startswith(f"{known}.")), key=len, default="")
    above, _, _ = key.rpartition(".")
    if said == key and get_origin(hint(above, name)) is dict and hint(key, name) is not Any:
        return UserError(f"{given[said]}: {above} has no such entry yet; add it with +{given[said]}")
    value: Any = OverridesParser.create().parse_override(given[said]).value() if said else ""
    parts = key.removeprefix(said).split(".")[1:]
    for done, part in enumerate(parts, start=1):
        if part not in value:
            inner, path = ".".join(parts[done - 1 :]), ".".join([said, *parts[: done - 1]])
            return UserError(f"{given[said]}: a key in braces has no dots ({inner}); give {path}.{inner}=<value>")
        value = value[part]
    words = [word for known, word in given.items() if known != said]
    node: Any = _composed(name, words)  # other words choose groups, which have keys such as method.options
    for part in filter(None, above.split(".")):
        if part not in node or not isinstance(node[part], DictConfig):
            return choices(key, value, map(str, node), given=part)
        node = node[part]
    return choices(key, value, (f"{above}.{known!s}" if above else str(known) for known in node), given=key)
