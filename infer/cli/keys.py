"""The keys that a user can set: their groups in conf/, and their types in the option classes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from infer.core.checks import fields_of, hint_at
from infer.core.errors import UserError, choices
from infer.pipeline.options import BaseOptions, DistillOptions, TrainOptions

_ROOT = Path(__file__).parents[1]
CONF = next(path for path in (_ROOT / "conf", _ROOT.parent / "conf") if (path / "base.yaml").is_file())
"""conf/: inside the package of an installed copy, beside it in a checkout."""

OPTIONS: dict[str, type[BaseOptions]] = {"distill": DistillOptions, "train": TrainOptions}
"""The options of each command."""

NULLABLE = ("experiment", "sweep", "tune", "logger")
"""Groups of which nothing need be chosen."""


@cache
def groups() -> dict[str, list[str]]:
    """Return the options in conf/ by group."""
    folders = sorted(path for path in CONF.iterdir() if path.is_dir() and not path.name.startswith(("_", ".")))
    return {folder.name: sorted(option.stem for option in folder.glob("*.yaml")) for folder in folders}


def hint(key: str, *names: str) -> Any:
    """Return the declared type of ``key`` in the commands ``names``, or in any; None where there is no such key."""
    found = (hint_at(OPTIONS[name], key) for name in names or OPTIONS)
    return next((each for each in found if each is not None), None)


def unknown(key: str, value: Any, *names: str) -> UserError:
    """Return the error for a ``key`` that :func:`hint` does not have; those beside it are named."""
    above = ""
    for part in key.split("."):
        known = {field for name in names or OPTIONS for field in fields_of(hint_at(OPTIONS[name], above) or Any)}
        at = f"{above}." if above else ""
        above = f"{at}{part}"
        if part not in known:
            break
    if not at:  # groups that are no keys of their own
        known |= {"experiment", "sweep"} if "distill" in (names or OPTIONS) else set()
    return choices(key, value, (f"{at}{field}" for field in known), given=above)
