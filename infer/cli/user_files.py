"""YAML files of a user's folder: people share them, so they may set options of INFER and nothing else.

Hydra creates whatever a node ``hydra.callbacks`` or ``hydra.launcher`` names, before a command sees its configuration.
So every file outside conf/ is checked where Hydra reads it.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from infer.cli.keys import CONF, groups, hint, unknown
from infer.core.checks import expected, fields_of, fits, is_text
from infer.core.errors import UserError, choices, shown

_MOST = 100_000
"""Bytes of a file."""

_DEEPEST = 30
"""Levels of lists and mappings in a file."""

_EVERY_OPTION = ("experiment", "sweep", "")
"""Groups whose files may set every option; the empty one is that of --config-name."""

_SETS = {
    "method": ("method", "budget", "labels"),
    "recipe": (
        *("recipe", "teachers", "students", "mixing", "labels", "budget", "method.options"),  # what a study may open
        *("dataset.crop", "dataset.flip", "dataset.resized_crop", "dataset.balanced"),
    ),
}
"""Keys that the files of a group may set; those of other groups set their own."""

_SWEPT = "hydra.sweeper.params"
_PLAIN = re.compile(r"\$\{\.*(?!hydra\b)[A-Za-z_][\w.]*\}")
"""A reference to another key, which has no resolver."""

_ENVIRONMENT = ("${oc.env:INFER_DATA,data}", "${oc.env:WANDB_MODE,offline}")
"""Those of conf/, whose files people copy."""

_NAME = re.compile(r"\w[\w.-]*")
_DEFAULT = re.compile(r"(?:optional )?(?:override )?/?(?P<group>\w+)(?:@_global_\.(?P<package>\w+))?")
"""An entry of a defaults list that names a group, such as ``override /budget``."""


class FileConfigSource(file_config_source.FileConfigSource):
    """Hydra's source of files, which checks those that lie outside conf/.

    It has the name of the one it replaces: of two sources of a name, Hydra keeps the first, in a launcher's processes
    too.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        """Read a file; raise :class:`UserError` where it is more than options of INFER."""
        file = Path(os.path.abspath(Path(self.path, self._normalize_file_name(config_path))))
        if file.is_relative_to(os.path.abspath(CONF)):
            return super().load_config(config_path)
        try:
            text = _text(file)
            config = OmegaConf.load(io.StringIO(text))
            header = self._get_header_dict(text[:512])
            _require_options(os.path.dirname(os.path.normpath(config_path)), header.get("package"), config)
        except (OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException) as error:
            raise UserError(f"{file}: {' '.join(str(error).split())}") from error
        return ConfigResult(config=config, path=f"file://{self.path}", provider=self.provider, header=header)


def install() -> None:
    """Let Hydra read files through :class:`FileConfigSource`."""
    SourcesRegistry.instance().types["file"] = FileConfigSource


def _text(file: Path) -> str:
    """Return the text of a file that takes no more memory than its size."""
    with file.open("rb") as content:
        found = content.read(_MOST + 1)
    if len(found) > _MOST:
        raise UserError(f"takes more than {_MOST:,} bytes")
    text, depth = found.decode(), 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise UserError(f"*{event.anchor}: anchors are not followed; write the value out")
        if depth > _DEEPEST:
            raise UserError(f"has more than {_DEEPEST} levels")
    return text


def _require_options(group: str, package: str | None, config: Any) -> None:
    """Raise :class:`UserError` unless ``config``, of the file of a ``group``, only sets options of that group."""
    if group and group not in groups():
        raise choices("group", group, groups())
    if not isinstance(config, DictConfig):
        raise UserError("must hold keys with values")
    if group in _EVERY_OPTION[:2] and package is None:
        raise UserError(f"sets options of every group; begin the file of {group}= with the line: # @package _global_")
    parts = (package if package is not None else group or "_global_").replace("_group_", group).split(".")
    at = ".".join(part for part in parts if part != "_global_")
    content: Any = OmegaConf.to_container(config)
    allowed = () if group in _EVERY_OPTION else _SETS.get(group, (group,))
    _require_defaults(content.pop("defaults", None) or [], group, allowed)
    for key, value in _leaves(content, at):
        if group in _EVERY_OPTION and key.partition(".")[0] == "hydra":
            _require_sweep(key, value)
        else:
            _require_option(key, value, group, allowed)


def _leaves(node: Mapping[Any, Any], at: str) -> Iterator[tuple[str, Any]]:
    """Yield the keys of the values, and of the mappings that are one; check the names of keys."""
    for name, value in node.items():
        key = f"{at}.{name}" if at else str(name)
        if not isinstance(name, str) or "$" in name or re.fullmatch("_.*_", name):
            raise UserError(f"{key}: a file sets options, and none has such a name")
        if isinstance(value, dict) and key != _SWEPT:
            yield from _leaves(value, key) if value else [(key, value)]
        else:
            yield key, value


def _require_option(key: str, value: Any, group: str, allowed: tuple[str, ...]) -> None:
    if allowed and not any(f"{key}.".startswith(f"{each}.") for each in allowed):
        raise UserError(
            f"{key}={shown(value)}: a file of {group}= sets {', '.join(allowed)}; give {key} in the command"
        )
    _require_plain(key, value)
    declared = hint(key)
    if declared is None:
        raise unknown(key, value)
    if isinstance(value, str) and ("${" in value or value == "???"):
        return
    if not fits(value, declared) and not (value == {} and fields_of(declared)):
        quote = "; quote it" if is_text(declared) and isinstance(value, int | float) else ""
        raise UserError(f"{key}={shown(value)}: must be {expected(declared)}{quote}")
    for rule in getattr(declared, "__metadata__", ()) if value is not None else ():
        rule.check(key, value)


def _require_plain(key: str, value: Any) -> None:
    """Raise :class:`UserError` for an interpolation that is more than a reference to another key."""
    if isinstance(value, dict):
        for name, each in _leaves(value, key):
            _require_plain(name, each)
    for each in value if isinstance(value, list) else ():
        _require_plain(key, each)
    if isinstance(value, str) and "${" in _PLAIN.sub("", value) and value not in _ENVIRONMENT:
        raise UserError(f"{key}={value}: a file refers to other keys, as in ${{dataset.name}}, and to nothing else")


def _require_defaults(entries: Any, group: str, allowed: tuple[str, ...]) -> None:
    """Raise :class:`UserError` unless a defaults list names files of its own group, and of groups that it may set."""
    permitted = {group, *(each for each in allowed or groups() if each in groups())}
    for entry in entries if isinstance(entries, list) else [entries]:
        of, names = _named(entry, group)
        plain = all(name is None or (isinstance(name, str) and _NAME.fullmatch(name)) for name in names)
        if of not in permitted or not plain:
            raise UserError(f"defaults: {entry}: names more than files of {', '.join(sorted(permitted - {''}))}")


def _named(entry: Any, group: str) -> tuple[str | None, list[Any]]:
    """Return the group of an entry of a defaults list, None where it is none of ours, and the names of its files."""
    if not isinstance(entry, dict):
        return group, [entry]
    key, value = next(iter(entry.items()), ("", None))
    found = _DEFAULT.fullmatch(str(key))
    if not found or len(entry) > 1 or found["package"] not in (None, found["group"]):
        return None, []
    return found["group"], value if isinstance(value, list) else [value]


def _require_sweep(key: str, value: Any) -> None:
    """Raise :class:`UserError` unless a key of Hydra's is one that conf/sweep/ sets too."""
    if key == "hydra.mode" and value in ("RUN", "MULTIRUN"):
        return
    if key != _SWEPT or not isinstance(value, dict):
        raise UserError(
            f"{key}={shown(value)}: a file sets options of INFER; of Hydra's, hydra.mode and {_SWEPT} alone"
        )
    for swept, values in value.items():
        _require_plain(str(swept), values)
        if str(swept) not in groups() and hint(str(swept)) is None:
            raise unknown(str(swept), values)
        if not isinstance(values, str | int | float):
            raise UserError(f"{_SWEPT}.{swept}={shown(values)}: give the values as text, such as 1,2,3")
