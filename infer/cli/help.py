"""--help: a page that fits on a screen, and a page for each group or key."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from infer.cli import reference
from infer.cli.keys import groups
from infer.cli.reference import Row
from infer.core.errors import choices
from infer.pipeline.invocation import program

_WIDEST = 100
"""Columns of the widest page."""

_KEYS = 34
"""Column of the meanings of keys on the short page."""

_LISTS = "teachers.backbones and students.backbones"
"""Keys that name networks."""


@dataclass(frozen=True)
class _Page:
    """What the short page of a command says.

    Args:
        purpose: of the command.
        examples: words of commands, and what each command does.
        keys: those that people set most.
    """

    purpose: str
    examples: Mapping[str, str]
    keys: Sequence[str]


PAGES = {
    "distill": _Page(
        "Distil an image set into one small file, and compare it with random pictures and the full set.",
        {
            "": "the built-in digits, in minutes on a CPU",
            "method=infer_plus report.language=en": "this project's method, and a report",
            "experiment=poc dataset.root=<folder>": "your own pictures, a folder for each class",
            "dataset=cifar10 recipe=cpu": "CIFAR-10, on a machine without a GPU",
            "-m ipc=5,10,20 seed=0,1,2": "a sweep: every combination, one table",
            "tune=default": "a search for better settings",
        },
        (
            *("ipc", "seed", "output", "dataset.root", "dataset.image_size", "teachers.backbones"),
            *("students.backbones", "students.seeds", "recipe.teacher.epochs", "recipe.ufc.steps"),
            *("recipe.student.steps", "report.language", "time", "dry_run"),
        ),
    ),
    "train": _Page(
        "Train a network on the full set (a teacher), or on a distilled file or random pictures (a student).",
        {
            "backbone=resnet18": "a teacher of the built-in digits",
            "source=distilled source.path=<file>": "a student of a file of distill.py",
            "source=random ipc=10 labels=hard": "a student of random pictures",
            "dataset=image_folder dataset.root=<folder>": "your own pictures",
            "backbone=timm backbone.model=resnet10t": "any network of timm",
            "-m seed=0,1,2": "a sweep: a run for each seed",
        },
        (
            *("ipc", "seed", "output", "dataset.root", "dataset.image_size", "source.path", "backbone.model"),
            *("recipe.teacher.epochs", "recipe.teacher.lr", "recipe.student.steps", "recipe.student.lr"),
            "labels.kind",
        ),
    ),
}
"""The short page of each command."""

HYDRA = {
    "-m seed=0,1,2": "a sweep: a run for every combination of values, and one table",
    "-m ipc='range(5,25,5)'": "a sweep over 5, 10, 15 and 20",
    "sweep=seeds": "a sweep of conf/sweep/",
    "-m seed=0,1 hydra/launcher=joblib": "jobs side by side (extra [parallel]); submitit_slurm: on a cluster",
    "--config-dir=<folder> recipe=<mine>": "a file of your own, <folder>/recipe/<mine>.yaml; other groups alike",
    "output=~/results(2)": "text is taken as it is typed; in a sweep, quote a comma: \"output='a,b',c\"",
    "ipc=5 ipc=10": "of a key that is given twice, the last value counts",
    "--cfg job": "print the configuration, and run nothing",
    "--info": "print where the configuration comes from",
    "HYDRA_FULL_ERROR=1": "an environment variable: show the traceback of an error",
}
"""Words of Hydra, and what they do."""


def show_help(name: str, words: list[str]) -> None:
    """Print a page for the command ``name``: the one that ``--help=<topic>`` among ``words`` asks for.

    The values are those of the configuration that the other words compose. Hydra's own help copies its whole
    configuration store for each group, and takes seconds.

    Raises:
        UserError: for an unknown topic.
    """
    rows = reference.rows(name, words)
    topic = next(word for word in words if word.startswith("--help")).partition("=")[2]
    width = min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns)
    lines = _short(name, rows, width) if not topic else _topic(name, topic, rows, width)
    print("\n".join(lines))


def _topic(name: str, topic: str, rows: Sequence[Row], width: int) -> Iterator[str]:
    """Yield the page of a group, of a key or of the keys below one, or of everything."""
    meanings = reference.meanings(name)
    if topic == "hydra":
        yield f"The commands are Hydra applications. Words of Hydra, after {program()}:"
        yield from _columns(HYDRA, width, 38)
        return
    if topic == "all":
        for group in meanings:
            yield from [*_group(name, group, rows, width), ""]
        return
    found = [row for row in rows if f"{row.key}.".startswith(f"{topic}.")]
    if topic in (*meanings, "backbone"):
        yield from _group(name, topic, rows, width)
    elif found:
        yield from _keys(found, width)
    else:
        raise choices("--help", topic, ["all", "hydra", "backbone", *meanings, *(row.key for row in rows)])


def _short(name: str, rows: Sequence[Row], width: int) -> Iterator[str]:
    """Yield the short page."""
    page, by_key = PAGES[name], {row.key: row for row in rows}
    yield from textwrap.wrap(page.purpose, width)
    yield f"\nUsage: {program()} [group=option] [key=value] ...\n"
    yield "Examples:"
    examples = {f"{program()} {words}".rstrip(): meaning for words, meaning in page.examples.items()}
    yield from _columns(examples, width)
    yield "\nGroups, chosen by group=option:"
    meanings = reference.meanings(name)
    shown = {group: f"{_brief(text, width)}: {_listed(group)}" for group, text in meanings.items() if _listed(group)}
    yield from _columns(shown, width)
    yield "\nKeys that are set most, with their values here:"
    keys = {
        f"{row.key}={row.default}": _brief(row.meaning, width - _KEYS) for row in map(by_key.__getitem__, page.keys)
    }
    yield from _columns(keys, width, _KEYS)
    yield "\nMore:"
    more = {
        "--help <group>": f"the options and keys of a group, such as {program()} --help recipe; also --help "
        + ", ".join(group for group in meanings if not _listed(group)),
        "--help <key>": "one key, such as --help recipe.student.lr",
        "--help all": "every group and every key",
        "--help backbone": f"the networks for {_LISTS}",
        "--help hydra": "sweeps, files of your own, and other words of Hydra",
    }
    yield from _columns(more, width)


def _listed(group: str) -> str:
    """Return the options of a group in a line; empty for a group of keys alone."""
    names = groups().get(group, [])
    return ", ".join(names) if len(names) < 12 else f"{', '.join(names[:3])}, ... ({len(names)} in all)"


def _brief(meaning: str, room: int) -> str:
    """Return a meaning in ``room`` letters: without its further clauses, where it is longer."""
    return meaning if len(meaning) <= room else meaning.partition(";")[0]


def _group(name: str, group: str, rows: Sequence[Row], width: int) -> Iterator[str]:
    """Yield the page of a group: its options, and its keys."""
    own = group in reference.meanings(name)  # else it is backbone, which distill.py has in lists alone
    meaning = reference.meanings(name if own else "train")[group]
    yield from textwrap.wrap(f"{group}: {meaning}", width, subsequent_indent="  ")
    if group in groups():
        yield f"\nOptions, {f'chosen by {group}=<option>' if own else f'named in {_LISTS}'}:"
        yield from _columns({option.name: option.meaning for option in reference.options(group)}, width)
    keys = [row for row in rows if row.group == group]
    if keys:
        yield "\nKeys, with the values of this command:"
        yield from _keys(keys, width)


def _keys(rows: Iterable[Row], width: int) -> Iterator[str]:
    """Yield for each key its value, its type and choices, and its meaning."""
    for row in rows:
        listed = row.choices.split(" | ") if "|" in row.choices else []
        kind = row.choices if listed else ", ".join(filter(None, (row.type, row.choices)))
        kind = "" if listed and {*listed} <= {*re.findall(r"[\w-]+", row.meaning)} else kind
        facts = "; ".join(filter(None, (kind, row.needs and f"with {row.needs}")))
        yield from _columns({f"{row.key}={row.default}": facts and f"({facts})"}, width)
        yield from textwrap.wrap(row.meaning, width, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _columns(entries: Mapping[str, str], width: int, most: int = 60) -> Iterator[str]:
    """Yield entries in two columns. The second one starts at ``most`` at the latest, below an entry that is longer."""
    start = min(most, max(len(entry) for entry in entries) + 4)
    for entry, meaning in entries.items():
        first = f"  {entry}"
        below = len(first) + 2 > start
        wrapped = textwrap.wrap(
            meaning, width, initial_indent=" " * start, subsequent_indent=" " * start, break_on_hyphens=False
        )
        if below or not wrapped:
            yield first
            yield from wrapped
        else:
            yield first + wrapped[0][len(first) :]
            yield from wrapped[1:]
