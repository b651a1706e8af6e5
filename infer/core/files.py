"""Whole files, exclusive locks between processes, and the folder that a run reserves."""

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

from infer.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("infer")


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``path`` whole or not at all, through a temporary file that is renamed.

    The earlier content survives a full disk, a kill, or a power cut.

    Raises:
        UserError: where the file cannot be written.
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
    """Read a JSON file; None where it does not exist. Raise :class:`UserError` where it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); remove it or choose another output=") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file; raise :class:`UserError` where it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read ({error}); remove it, and it is created again") from error


def digest(content: bytes | Mapping[str, Any]) -> str:
    """Return eight hexadecimal digits that identify ``content``."""
    if not isinstance(content, bytes):
        content = json.dumps(content, sort_keys=True, default=str).encode()
    return hashlib.sha256(content).hexdigest()[:8]


@contextlib.contextmanager
def exclusive_lock(path: Path, title: str) -> Iterator[None]:
    """Hold an exclusive lock between concurrent jobs; the others wait, and then find the result.

    The system frees the lock when its process ends.

    Args:
        path: of the lock file.
        title: of the locked work, for the log.

    Raises:
        UserError: where the file cannot be locked.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            held = lock.acquire(timeout=0)
        except Timeout:
            log.info("%s: another process is working on it; waiting", title)
            held = lock.acquire()
    except OSError as error:
        raise UserError(f"{path}: cannot be locked ({error.strerror or error}); choose another output=") from error
    with held:
        yield


def reserve_folder(folder: Path, settings: Mapping[str, Any]) -> Path:
    """Reserve the folder of the run with these ``settings`` and return it.

    It is ``folder``, or ``folder``-<digest> where another run holds that one. The same settings find the same folder
    again, and no run writes into another's.
    """
    with exclusive_lock(folder.with_name(f".{folder.name}.lock"), str(folder)):
        place, reserved = find_folder(folder, settings)
        if not reserved:
            if place != folder:
                log.info("%s holds a run with other settings; this one writes to %s", folder, place)
            write_json(place / "settings.json", settings)
    return place


def find_folder(folder: Path, settings: Mapping[str, Any]) -> tuple[Path, bool]:
    """Return the folder that :func:`reserve_folder` would return, and whether the run holds it already."""
    for candidate in (folder, folder.with_name(f"{folder.name}-{digest(settings)}")):
        known = read_json(candidate / "settings.json")
        if known is None:
            return candidate, False
        if known == json.loads(json.dumps(settings)):
            return candidate, True
    raise UserError(f"{candidate}: holds other settings of the same digest; choose another output=")
