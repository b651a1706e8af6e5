"""The words of a command line, as Hydra takes them: text is quoted, and a mistake is one line.

Hydra reads ``dataset.name=2024_01`` as a number, and ``dataset.root=a(1)`` as a call. Here the type of a key decides.
"""

from __future__ import annotations

import re
import sys
from argparse import Action
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from hydra._internal.utils import get_args_parser

from infer.cli.keys import NULLABLE, groups, hint, unknown
from infer.core.checks import Choice, entry_type, is_optional, is_text
from infer.core.errors import UserError, choices
from infer.core.paths import user_path

_WORD = re.compile(r"(?P<mark>~|\+{0,2})(?P<key>[^=]*)(?P<given>=?)(?P<value>.*)", re.DOTALL)
_QUOTED = re.compile(r"'(\\.|[^'\\])*'|\"(\\.|[^\"\\])*\"", re.DOTALL)
_SAFE = re.compile(r"(?!(?:null|true|false|nan|inf)$)(?:\.{0,2}/)*[A-Za-z_][\w./-]*", re.IGNORECASE | re.ASCII)
"""Texts that Hydra takes as they are."""

_REFERENCE = re.compile(r"\$\{[^{}]+\}")
_SWEEP = re.compile(r"(choice|range|interval|glob|sort|shuffle|tag)\(.*\)", re.DOTALL)
"""Hydra's functions that give several values."""

_PART = re.compile(
    r"""(?:\[[^\]]*\]|\([^)]*\)|\{[^}]*\}|(?<![^,\[\s])(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")|[^,])+""", re.DOTALL
)
"""One of several values between commas, which brackets and quotes may hold too."""


def arranged(name: str, words: list[str]) -> list[str]:
    """Return the words of the command ``name`` as Hydra takes them: overrides first, then flags.

    Raises:
        UserError: for a word that is no flag and no override, or an override that cannot mean anything.
    """
    flags, overrides = _flags(words)
    if "--shell-completion" in flags:  # whose words are its own
        return [*overrides, *flags]
    swept = bool({"--multirun", "hydra.mode=MULTIRUN"} & {*flags, *overrides})
    swept = swept or any(word.startswith("sweep=") and word != "sweep=null" for word in overrides)
    for word, after in pairwise(overrides):
        if "=" not in word + after and hint(word, name) is not None:
            raise UserError(f"{word} {after}: write {word}={after}")
    return [*(part for word in _last_ones(overrides) for part in _override(name, word, swept)), *flags]


def _flags(words: list[str]) -> tuple[list[str], list[str]]:
    """Divide words into flags, by their long names and with their values behind =, and overrides.

    ``--help`` may have a value here: the group or key that is to be explained.
    """
    known: dict[str, Action] = get_args_parser()._option_string_actions
    flags, overrides, rest = [], [], list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            overrides.append(word)
            continue
        flag, given, value = word.partition("=")
        action = known.get(flag)
        if action is None:
            key = flag.lstrip("-")
            value = value or next((next_ for next_ in rest[:1] if "=" not in next_ and next_[0] != "-"), "<value>")
            raise UserError(f"{word}: no such flag; options have no dashes, as in {key}={value}")
        if action.dest in ("config_path", "experimental_rerun"):
            raise UserError(f"{word}: not of this command, which reads conf/ and the folder of --config-dir=<folder>")
        long = next(each for each in action.option_strings if each.startswith("--"))
        if action.dest == "help":
            if not value and rest and "=" not in rest[0] and not rest[0].startswith("-"):
                value = rest.pop(0)  # the topic
            flags.append(f"{long}={value}" if value else long)
            continue
        if action.nargs != 0:
            optional = action.nargs == "?"
            if not given and rest and (not optional or rest[0] in (action.choices or ())):
                given, value = "=", rest.pop(0)
            value = _checked_value(word, long, value, action) if given or not optional else ""
        elif given:
            raise UserError(f"{word}: the flag {flag} has no value; leave ={value} away")
        flags.append(f"{long}={value}" if given else long)
    tasks = {"--multirun", "--run", "--cfg", "--info", "--shell-completion"}
    asked = list(dict.fromkeys(flag for flag in flags if flag.partition("=")[0] in tasks))
    if len(asked) > 1:
        raise UserError(f"{' '.join(asked)}: give one of them")
    return flags, overrides


def _checked_value(word: str, flag: str, value: str, action: Action) -> str:
    if action.choices and value not in action.choices:
        raise choices(flag, value, map(str, action.choices))
    if not value:
        raise UserError(f"{word}: has no value; give {flag}=<value>")
    if action.dest == "config_dir":
        value = str(user_path(value))
        if not Path(value).is_dir():
            raise UserError(f"{flag}={value}: no such folder")
    return value


def _last_ones(overrides: list[str]) -> list[str]:
    """Return the overrides without those whose key is given again: the last one counts, as in Hydra, with a note.

    Hydra has this rule for values alone. Here it holds for groups, for words with a plus, and for sweeps too.
    """
    last = {word.partition("=")[0].lstrip("+"): word for word in overrides}
    for key, word in last.items():
        others = [each for each in overrides if each.partition("=")[0].lstrip("+") == key and each != word]
        if others:
            print(f"note: {' '.join([*others, word])}: {key} is given more than once; {word} counts", file=sys.stderr)
    return [*last.values()]


def _override(name: str, word: str, swept: bool) -> list[str]:
    """Return an override as Hydra's grammar has it; none where it changes nothing."""
    found = _WORD.fullmatch(word)
    assert found
    mark, key, value = found["mark"], found["key"], found["value"]
    kind = hint(key, name)
    group = key in groups() and (kind is not None or (name == "distill" and key in NULLABLE))
    if key.startswith(("hydra.", "hydra/")) or "@" in key:
        return [word]
    if key and kind is None and not group:
        above = key.rpartition(".")[0]
        if entry_type(hint(above, name)):
            raise UserError(f"{key}: {above} is a list; give {above}=[...]")
        raise unknown(key, value, name)
    if mark == "~":
        if kind is Any or key in NULLABLE:
            return [word]
        raise UserError(f"{word}: an option always has a value; give {key}=<value>")
    if not key:
        raise UserError(f"{word}: has no key; give <key>{word}")
    if not value.strip():
        null = ", or null" if is_optional(kind) or key in NULLABLE else ""
        raise UserError(f"{word}: has no value; give {key}=<value>{null}")
    if key == "source" and value.startswith("wandb:"):
        return ["source=distilled", f"source.path={quoted(value)}"]
    if not group or value.startswith("{"):
        return [f"{mark}{key}={_value(key, kind, value, swept)}"]
    if value != "null":
        return [f"{mark}{key}={_value(key, Annotated[str, Choice()], value, swept)}"]
    if key not in NULLABLE:
        raise choices(key, value, groups()[key])
    return []


def _value(key: str, kind: Any, value: str, swept: bool) -> str:
    """Return a value with its texts quoted where Hydra would take them for something else."""
    rules = getattr(kind, "__metadata__", ())
    literal = is_text(kind) and not any(isinstance(rule, Choice) for rule in rules)
    parts = _PART.findall(value)
    if not swept and (literal or value[0] in "[{"):
        parts = [value]
    elif _SWEEP.fullmatch(value) or len(parts) > 1:
        if not swept:
            raise UserError(f"{key}={value}: several values are a sweep; add -m")
        if _SWEEP.fullmatch(value):
            return value
        if len(",".join(parts)) < len(value):
            raise UserError(f"{key}={value}: has an empty value beside a comma")
    if key.startswith("logger.wandb.") and value not in ("true", "false") and value[0] not in "[{":
        kind = str  # which all of its options are
    return ",".join(_part(key, kind, part) for part in parts)


def _part(key: str, kind: Any, value: str) -> str:
    if (value == "null" and is_optional(kind)) or value.startswith("${"):
        return value
    entry, bracketed = entry_type(kind), value[0] == "[" and value[-1] == "]"
    if entry and not bracketed:
        raise UserError(f"{key}={value}: is a list; give {key}=[{value.strip('[]')}]")
    if bracketed and (entry is str or key in groups()):
        return f"[{','.join(quoted(part.strip()) for part in _PART.findall(value[1:-1]))}]"
    strange = kind is Any and value[0] not in "[{'\"" and (value[0] == "~" or not value.isascii())  # to Hydra
    return quoted(value) if is_text(kind) or strange else value


def quoted(text: str) -> str:
    """Return ``text`` in quotes where Hydra would take it for something else; quotes of the user's own are kept."""
    if _SAFE.fullmatch(text) or _QUOTED.fullmatch(text):
        return text
    if "${" in _REFERENCE.sub("", text):
        text = text.replace("${", "\\${")  # of OmegaConf, which would look for the end of a reference
    escaped = re.sub(r"(\\*)'", lambda found: found[1] * 2 + "\\'", text)
    return f"'{escaped}{chr(92) * (len(text) - len(text.rstrip(chr(92))))}'"
