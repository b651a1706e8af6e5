"""How the user called the command, for results and advice. Importing it does not import torch."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path

from psutil import Process

_TYPED = "INFER_COMMAND"
"""The environment variable that holds the command as it was typed: processes of a launcher inherit it."""


def program() -> str:
    """Return how the user calls this command: ``python distill.py`` in a checkout, ``infer-distill`` installed."""
    script = Path(sys.argv[0]).name
    return f"python {script}" if script.endswith(".py") else script


_began: list[float] = []
"""When the process of this command started, of time.perf_counter()."""


def record_command() -> None:
    """Keep the command as it was typed, and when its process started."""
    os.environ[_TYPED] = _command()
    _began[:] = [time.perf_counter() - (time.time() - Process().create_time())]


def command_began() -> float:
    """Return when the command began, of time.perf_counter(): its process, or now where it is a library call."""
    return _began[0] if _began else time.perf_counter()


def typed_command() -> str:
    """Return the command that the user typed."""
    return os.environ.get(_TYPED) or _command()


def _command() -> str:
    if sys.argv[0].endswith(".py"):
        return shlex.join(["python", *sys.orig_argv[1:]])
    return shlex.join([program(), *sys.argv[1:]])
