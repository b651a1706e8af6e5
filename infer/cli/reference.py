"""The reference of the commands: groups, options and keys, from conf/, its comments and the option classes.

``--help`` prints it, and documentation can be made from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from typing import Annotated, Any, get_args, get_origin

from omegaconf import DictConfig, OmegaConf

from infer.cli import schema
from infer.cli.comments import comments
from infer.cli.keys import CONF, NULLABLE, OPTIONS, groups, hint
from infer.core.checks import Choice, Range, entry_type, expected, fields_of, is_optional
from infer.core.errors import typed
from infer.methods.options import METHODS

GENERAL = "general"
"""The group of the keys that belong to no other."""

_OF_OTHER_GROUPS = ("experiment", "sweep")
"""Groups whose files set keys of other groups, and have none of their own."""


@dataclass(frozen=True)
class Row:
    """A key of a command.

    Attributes:
        group: The group, such as ``recipe``; :data:`GENERAL` for keys that belong to none.
        key: The key, such as ``recipe.student.lr``.
        type: What a value is, such as ``number`` or ``text or null``.
        choices: The values of which it is one, such as ``avif | webp | jpeg``, or the range, such as ``0 to 100``;
            empty where any value of the type is taken.
        default: The value, as a user types it; ``???`` where the user must give one.
        meaning: The comment in conf/.
        needs: The word that gives a command this key, such as ``method=rded``; empty where the command has it anyway.
    """

    group: str
    key: str
    type: str
    choices: str
    default: str
    meaning: str
    needs: str = ""


@dataclass(frozen=True)
class Option:
    """An option of a group: a file of conf/.

    Attributes:
        group: The group, such as ``dataset``.
        name: The option, such as ``cifar10``.
        meaning: The comment at the top of the file.
        values: What the file itself sets: values, as a user types them, by key.
    """

    group: str
    name: str
    meaning: str
    values: Mapping[str, str] = field(default_factory=dict)


def rows(name: str = "distill", words: Sequence[str] = ()) -> list[Row]:
    """Return every key of a command.

    Args:
        name: The command, ``distill`` or ``train``.
        words: Words of a command line, as :func:`infer.cli.words.arranged` returns them. The defaults are the values of
            the configuration that they compose.

    Returns:
        The rows, group by group.

    Raises:
        UserError, HydraException or OmegaConfBaseException: for words that do not compose.

    Example:
        >>> next(row for row in rows() if row.key == "budget.quality")
        ... # doctest: +NORMALIZE_WHITESPACE
        Row(group='budget', key='budget.quality', type='whole number', choices='0 to 100', default='50',
            meaning="the codec's quality setting, 0 to 100", needs='')
    """
    return _Composed(name, *schema.composed_with_choices(name, [*words])).rows()


def options(group: str) -> list[Option]:
    """Return the options of a group of conf/, such as the networks of ``backbone``.

    Example:
        >>> [option.name for option in options("teachers")]
        ['lite0', 'narrow', 'paper', 'pretrained', 'single', 'small', 'whitened']
    """
    found = []
    for name in groups()[group]:
        content = dict(_content(group, name))
        content.pop("defaults", None)
        found.append(Option(group, name, comments(group, name).head, dict(_flat(content, _package(group, name)))))
    return found


def meanings(name: str = "distill") -> dict[str, str]:
    """Return what the groups of a command are for: those with options, and those that have keys alone.

    Example:
        >>> meanings("train")["source"]
        'what the network is trained on'
    """
    files = [comments("", "base"), comments("", name), *(comments("recipe", each) for each in groups()["recipe"])]
    found: dict[str, str] = {GENERAL: "keys that belong to no group"}
    for group, meaning in chain.from_iterable(file.groups.items() for file in files):
        found.setdefault(group, meaning)
    return found | {key: text for key, text in files[1].keys.items() if fields_of(hint(key, name))}


@dataclass(frozen=True)
class _Composed:
    """A composed configuration, and the options that it chose by group."""

    name: str
    config: DictConfig
    chosen: Mapping[str, Any]

    def rows(self) -> list[Row]:
        known = self._meanings()
        found = [row for key in fields_of(OPTIONS[self.name]) for row in self._rows(key, known)]
        order = [*meanings(self.name)]
        return sorted(found, key=lambda row: order.index(row.group))

    def _meanings(self) -> dict[str, str]:
        """Return the meanings of keys. The comments of the chosen files come first: options may have their own."""
        own = [group for group in groups() if group not in _OF_OTHER_GROUPS]
        first = [(group, each) for group in own for each in _ancestry(group, self.chosen.get(group))]
        others = [(group, each) for group in own for each in groups()[group]]
        found: dict[str, str] = {}
        for file in [("", "base"), ("", self.name), *first, *others]:
            for key, meaning in comments(*file).keys.items():
                found.setdefault(key, meaning)
        return found

    def _rows(self, key: str, known: Mapping[str, str]) -> Iterator[Row]:
        """Yield the rows at ``key`` and below it. Keys without a meaning of their own are part of the one above."""
        kind, group = hint(key, self.name), key.partition(".")[0]
        if fields_of(kind) and any(each.startswith(f"{key}.") for each in known):
            for part in fields_of(kind):
                yield from self._rows(f"{key}.{part}", known)
            return
        free = [row for option in groups().get(group, []) for row in _free_rows(key, group, option)]
        if free:
            yield from free
            return
        value, needs = self._value(key, group)
        shown = group if group in meanings(self.name) else GENERAL
        yield Row(shown, key, _type(kind), _choices(kind), typed(value), known.get(key, ""), needs)

    def _value(self, key: str, group: str) -> tuple[Any, str]:
        """Return the value of ``key``, and the word that gives the command this key."""
        config, needs = self.config, ""
        if group in NULLABLE and OmegaConf.select(config, group) is None:
            config, needs = OmegaConf.create({group: _content(group, "default")}), f"{group}=default"
        above, _, last = key.rpartition(".")
        node = OmegaConf.select(config, above) if above else config
        return "???" if OmegaConf.is_missing(node, last) else _plain(node[last]), needs


def _free_rows(at: str, group: str, option: str) -> Iterator[Row]:
    """Yield the keys below a mapping that only one option has, such as ``method.options.crops`` of method=rded."""
    if get_origin(hint(at)) not in (dict, Mapping):
        return
    content = OmegaConf.create(_content(group, option))
    content = content if _package(group, option) == "" else OmegaConf.create({group: content})
    for key, meaning in comments(group, option).keys.items():
        if key.startswith(f"{at}."):
            value = OmegaConf.select(content, key)
            own = fields_of(METHODS[option].options) if group == "method" else {}
            kind = own.get(key.removeprefix(f"{at}."), Any if OmegaConf.is_config(value) else type(value))
            yield Row(group, key, _type(kind), _choices(kind), typed(_plain(value)), meaning, f"{group}={option}")


def _plain(value: Any) -> Any:
    """Return a value as lists and dicts; entries of a mapping that are null count as absent, and 5.0 is 5."""
    value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        kept = {key: _plain(each) for key, each in value.items() if each is not None}
        return {key: each for key, each in kept.items() if each != {}}
    return value


@cache
def _content(group: str, name: str) -> Any:
    return OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml"))


def _package(group: str, name: str) -> str:
    """Return what stands before the keys of a file in the whole configuration."""
    with (CONF / group / f"{name}.yaml").open(encoding="utf-8") as lines:
        return "" if next(lines).startswith("# @package") else f"{group}."


def _ancestry(group: str, chosen: Any) -> Iterator[str]:
    """Yield the chosen options of a group, each followed by the options that it is based on."""
    for name in chosen if isinstance(chosen, list) else [chosen]:
        if name in groups()[group]:  # not one of the user's own
            yield name
            for entry in _content(group, name).get("defaults", []):
                yield from _ancestry(group, entry) if isinstance(entry, str) else ()


def _flat(node: Mapping[str, Any], at: str) -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", typed(_plain(value))


def _type(kind: Any) -> str:
    """Return what a value is; its choices and its range are said by :func:`_choices`."""
    plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    words = "mapping" if fields_of(plain) else expected(plain).removeprefix("a ")
    return re.split(",? such as", words)[0] + (" or null" if is_optional(kind) else "")


def _choices(kind: Any) -> str:
    for rule in getattr(kind, "__metadata__", ()):
        if isinstance(rule, Choice):
            return " | ".join(map(str, rule.values))
        if isinstance(rule, Range):
            return f"{typed(_plain(rule.low))} to {typed(_plain(rule.high))}" + (" each" if entry_type(kind) else "")
    return ""
