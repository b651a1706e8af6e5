"""Files that are whole or absent, the folder a run claims, and locks that let one of several processes make it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from infer.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("infer")


def write_bytes(path: Path, content: bytes) -> None:
    """Write beside ``path``, then rename: what was there before survives a full disk, a kill, or a power cut.

    Raises :class:`UserError` naming the path where it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); free space or choose another output="
        ) from error


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, whole or not at all."""
    write_bytes(path, (json.dumps(content, indent=2, sort_keys=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The content of ``path``, None where it does not exist; :class:`UserError` where it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); remove it or choose another output=") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file of ours; :class:`UserError` where it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read ({error}); remove it, and it is made anew") from error


def digest(content: bytes | Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that name ``content``."""
    if not isinstance(content, bytes):
        content = json.dumps(content, sort_keys=True, default=str).encode()
    return hashlib.sha256(content).hexdigest()[:8]


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock ``path``, so that of several processes one makes ``what`` and the others wait, and find it made.

    The system frees it with the process that holds it, however that ends. Raises :class:`UserError` where no lock can
    be had.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            held = lock.acquire(timeout=0)
        except Timeout:
            log.info("%s: another process is at it; waiting", what)
            held = lock.acquire()
    except OSError as error:
        raise UserError(f"{path}: cannot be locked ({error.strerror or error}); choose another output=") from error
    with held:
        yield


def claim(folder: Path, settings: Mapping[str, Any]) -> Path:
    """The folder of the run with these ``settings``: ``folder``, or ``folder``-<digest> where others hold it.

    So the same command finds its own folder again, and no command writes into another's.
    """
    with locked(folder.with_name(f".{folder.name}.lock"), str(folder)):
        place, known = find(folder, settings)
        if not known:
            write_json(place / "settings.json", settings)
    return place


def find(folder: Path, settings: Mapping[str, Any]) -> tuple[Path, bool]:
    """The folder that :func:`claim` would give, and whether the run with these ``settings`` holds it already."""
    for candidate in (folder, folder.with_name(f"{folder.name}-{digest(settings)}")):
        known = read_json(candidate / "settings.json")
        if known is None:
            return candidate, False
        if known == json.loads(json.dumps(settings)):
            return candidate, True
    raise UserError(f"{candidate}: holds other settings of the same digest; choose another output=")
