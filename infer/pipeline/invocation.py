"""How the user called the command, for results and advice. Importing it does not import torch."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

_TYPED = "INFER_COMMAND"
"""The environment variable that holds the command as it was typed: processes of a launcher inherit it."""


def program() -> str:
    """Return how the user calls this command: ``python distill.py`` in a checkout, ``infer-distill`` installed."""
    script = Path(sys.argv[0]).name
    return f"python {script}" if script.endswith(".py") else script


def record_command() -> None:
    """Keep the command as it was typed."""
    os.environ[_TYPED] = _command()


def typed_command() -> str:
    """Return the command that the user typed."""
    return os.environ.get(_TYPED) or _command()


def _command() -> str:
    if sys.argv[0].endswith(".py"):
        return shlex.join(["python", *sys.orig_argv[1:]])
    return shlex.join([program(), *sys.argv[1:]])
